"""The four ways to resize, each against its definition."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wsopt.config._presets import PRESETS
from wsopt.config.params import InceptionParams
from wsopt.objectives.inception._resize import Resize, to_network_input

SIZES = [(32, 32), (48, 20), (299, 299), (512, 310), (1, 1), (5, 640)]


def images(height: int, width: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(height + width)
    return torch.randint(0, 256, (2, channels, height, width), generator=generator).float()


def rows_of(places: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """The matrix ``[299, length]`` of linear interpolation at `places`, clamped to the edges."""
    places = np.clip(places, 0, length - 1)
    low = np.floor(places).astype(int)
    matrix = np.zeros((len(places), length))
    np.add.at(matrix, (np.arange(len(places)), low), 1 - (places - low))
    np.add.at(matrix, (np.arange(len(places)), np.minimum(low + 1, length - 1)), places - low)
    return matrix


def triangle(length: int) -> NDArray[np.float64]:
    """The matrix ``[299, length]`` of a triangle filter as wide as the step between outputs, at least 2 pixels."""
    step = max(length / 299, 1.0)
    centres = (np.arange(299) + 0.5) * length / 299
    weights = np.clip(1 - np.abs(np.arange(length) + 0.5 - centres[:, None]) / step, 0, None)
    filtered: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
    return filtered


def matrix(resize: Resize, length: int) -> NDArray[np.float64]:
    steps = np.arange(299)
    if resize == "antialias":
        return triangle(length)
    return rows_of(steps * length / 299 if resize == "tf1" else (steps + 0.5) * length / 299 - 0.5, length)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resize", ["tf1", "bilinear", "antialias"])
def test_linear_ones(resize: Resize, size: tuple[int, int]) -> None:
    x = images(*size)
    wanted = matrix(resize, size[0]) @ x.double().numpy() @ matrix(resize, size[1]).T
    wanted = wanted * 2 / 255 - 1 if resize == "bilinear" else (wanted - 128) / 128
    # Places are float32, some 600 * 2^-24 wide of the mark, on steps of up to 2 units.
    np.testing.assert_allclose(to_network_input(x, resize).numpy(), wanted, atol=2e-4)


@pytest.mark.parametrize("size", SIZES)
def test_clean_is_pil_clipped(size: tuple[int, int]) -> None:
    x = images(*size)
    flat = [Image.fromarray(channel, mode="F") for channel in x.flatten(0, 1).numpy()]
    wanted = np.stack([np.asarray(one.resize((299, 299), Image.Resampling.BICUBIC)) for one in flat])
    found = to_network_input(x, "clean").flatten(0, 1).numpy()
    np.testing.assert_allclose(found * 128 + 128, wanted.clip(0, 255), atol=1e-4)


def test_clean_does_not_overshoot() -> None:
    """Bicubic weights are negative beside an edge: without the clip it would reach -18 and 273 grey levels here."""
    x = torch.tensor([0.0, 0.0, 255.0, 255.0]).expand(1, 1, 4, 4)
    grey = to_network_input(x, "clean") * 128 + 128
    assert (float(grey.min()), float(grey.max())) == (0.0, 255.0)


def test_tf1_by_hand() -> None:
    """Two pixels: outputs 0 to 149 run from the first to the second, the rest repeat the second."""
    x = torch.tensor([[[[0.0, 128.0]]]])
    row = to_network_input(x, "tf1")[0, 0, 0] * 128 + 128
    torch.testing.assert_close(row[:150], torch.arange(150) * 2 / 299 * 128, rtol=0, atol=1e-4)
    torch.testing.assert_close(row[150:], torch.full((149,), 128.0))


@pytest.mark.parametrize("resize", get_args(Resize))
def test_ranges(resize: Resize) -> None:
    black, white = (to_network_input(torch.full((1, 3, 8, 8), level), resize) for level in (0.0, 255.0))
    top = 1.0 if resize == "bilinear" else 127 / 128
    torch.testing.assert_close(black, torch.full((1, 3, 299, 299), -1.0))
    torch.testing.assert_close(white, torch.full((1, 3, 299, 299), top))


@pytest.mark.parametrize("resize", get_args(Resize))
def test_grey_images_are_repeated(resize: Resize) -> None:
    x = images(20, 24, channels=1)
    found = to_network_input(x, resize)
    assert torch.equal(found[:, 0], found[:, 1])
    torch.testing.assert_close(found, to_network_input(x.expand(-1, 3, -1, -1), resize), rtol=0, atol=1e-5)


def test_presets_name_them() -> None:
    assert {name: (p.quantize, InceptionParams(resize=p.resize).resize) for name, p in PRESETS.items()} == {
        "lcsc": ("trunc", "bilinear"),
        "adm": ("trunc", "tf1"),
        "edm": ("round", "tf1"),
        "clean": ("round", "clean"),
        "torch-fidelity": ("trunc", "tf1"),
    }
