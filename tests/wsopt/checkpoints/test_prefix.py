"""Wrapper prefixes before the names of tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from wsopt.checkpoints import SafetensorsReader, open_checkpoints
from wsopt.checkpoints._prefix import fitting_prefix, shared_prefix, unwrapped


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        ((), ""),
        (("a", "b"), ""),
        (("module.a", "module.b"), "module."),
        (("module.a", "b"), ""),
        (("_orig_mod.module.a", "_orig_mod.module.b"), "_orig_mod.module."),
        (("model.enc.a", "model.dec.b"), "model."),
        (("module.", "module.a"), ""),
    ],
)
def test_a_prefix_is_one_that_all_names_share(names: tuple[str, ...], prefix: str) -> None:
    assert shared_prefix(names) == prefix


def test_names_without_their_prefix_keep_values_and_order() -> None:
    assert list(unwrapped({"module.b": 1, "module.a": 2}).items()) == [("b", 1), ("a", 2)]
    assert unwrapped({"module.b": 1, "a": 2}) == {"module.b": 1, "a": 2}


def test_a_prefix_fits_where_it_makes_the_names_wanted() -> None:
    assert fitting_prefix(["a", "b"], {"module.a", "module.b"}) == "module."
    assert fitting_prefix(["a", "b"], {"module.a", "module.c"}) == ""


def test_checkpoints_with_and_without_a_prefix_are_one_set(tmp_path: Path) -> None:
    for step, prefix in ((1, "module."), (2, ""), (3, "_orig_mod.")):
        save_file({f"{prefix}w": torch.full((2,), float(step))}, tmp_path / f"{step}.safetensors")
    found = open_checkpoints(tmp_path, [SafetensorsReader()])
    assert list(found.tensors) == ["w"]
    assert [found.load(index)["w"][0].item() for index in range(3)] == [1, 2, 3]
    named = found.named_as({"module.w"})
    assert list(named.tensors) == list(named.load(1)) == ["module.w"]
    assert list(named.named_as({"w"}).tensors) == ["w"]


def test_the_order_within_a_file_does_not_matter(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2), "b": torch.ones(3)}, tmp_path / "1.safetensors")
    # The library orders by dtype and name; a longer dtype comes first.
    save_file({"b": torch.ones(3), "a": torch.full((2,), 5.0)}, tmp_path / "2.safetensors")
    found = open_checkpoints(tmp_path, [SafetensorsReader()])
    assert found.load(1)["a"].tolist() == [5, 5]
