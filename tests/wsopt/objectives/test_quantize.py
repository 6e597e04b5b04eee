from __future__ import annotations

import torch

from wsopt.objectives import to_grey_levels


def test_conventions_differ_as_documented() -> None:
    x = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.999, 1.0, 2.0])
    assert to_grey_levels(x, "none").tolist() == [
        0.0,
        0.0,
        63.75,
        127.5,
        ((torch.tensor(0.999) + 1) * 127.5).item(),
        255.0,
        255.0,
    ]
    assert to_grey_levels(x, "trunc").tolist() == [0.0, 0.0, 63.0, 127.0, 254.0, 255.0, 255.0]
    assert to_grey_levels(x, "round").tolist() == [0.0, 0.0, 64.0, 128.0, 255.0, 255.0, 255.0]


def test_the_input_is_left_alone() -> None:
    x = torch.tensor([0.25])
    for mode in ("none", "trunc", "round"):
        to_grey_levels(x, mode)
    assert x.item() == 0.25


def test_every_grey_level_survives_a_round_trip() -> None:
    levels = torch.arange(256.0)
    assert torch.equal(to_grey_levels(levels / 127.5 - 1, "round"), levels)
