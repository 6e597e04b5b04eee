"""The network against a plain restatement of it: float64, batch normalisation as such, the pools by their formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wsopt.objectives.inception._layouts import COUNTERS, TORCH_SHAPES
from wsopt.objectives.inception._network import LAYERS, fold, forward


class Plain:
    """The published network, written out branch by branch."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = {key: value.double() for key, value in weights.items()}
        self.used: set[str] = set()

    def get(self, key: str) -> Tensor:
        self.used.add(key)
        return self.weights[key]

    def conv(self, name: str, x: Tensor, stride: int = 1, same: bool = True) -> Tensor:
        kernel = self.get(f"{name}.conv.weight")
        padding = (kernel.shape[2] // 2, kernel.shape[3] // 2) if same else (0, 0)
        y = F.conv2d(x, kernel, stride=stride, padding=padding)
        mean, variance, scale, shift = (
            self.get(f"{name}.bn.{part}")[:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((y - mean) / (variance + 0.001).sqrt() * scale + shift).clamp(min=0)

    def chain(self, name: str, steps: int, x: Tensor, last_stride: int = 1) -> Tensor:
        for i in range(1, steps + 1):
            halves = i == steps and last_stride == 2
            x = self.conv(f"{name}_{i}", x, stride=2 if halves else 1, same=not halves)
        return x

    def a(self, name: str, x: Tensor) -> Tensor:
        return torch.cat(
            [
                self.conv(f"{name}.branch1x1", x),
                self.chain(f"{name}.branch5x5", 2, x),
                self.chain(f"{name}.branch3x3dbl", 3, x),
                self.conv(f"{name}.branch_pool", mean_of_neighbours(x)),
            ],
            1,
        )

    def b(self, name: str, x: Tensor) -> Tensor:
        straight = self.conv(f"{name}.branch3x3", x, stride=2, same=False)
        return torch.cat([straight, self.chain(f"{name}.branch3x3dbl", 3, x, 2), F.max_pool2d(x, 3, 2)], 1)

    def c(self, name: str, x: Tensor) -> Tensor:
        return torch.cat(
            [
                self.conv(f"{name}.branch1x1", x),
                self.chain(f"{name}.branch7x7", 3, x),
                self.chain(f"{name}.branch7x7dbl", 5, x),
                self.conv(f"{name}.branch_pool", mean_of_neighbours(x)),
            ],
            1,
        )

    def d(self, name: str, x: Tensor) -> Tensor:
        first = self.chain(f"{name}.branch3x3", 2, x, 2)
        second = self.chain(f"{name}.branch7x7x3", 4, x, 2)
        return torch.cat([first, second, F.max_pool2d(x, 3, 2)], 1)

    def e(self, name: str, x: Tensor, pooled: Tensor) -> Tensor:
        short = self.conv(f"{name}.branch3x3_1", x)
        long = self.chain(f"{name}.branch3x3dbl", 2, x)
        return torch.cat(
            [
                self.conv(f"{name}.branch1x1", x),
                self.conv(f"{name}.branch3x3_2a", short),
                self.conv(f"{name}.branch3x3_2b", short),
                self.conv(f"{name}.branch3x3dbl_3a", long),
                self.conv(f"{name}.branch3x3dbl_3b", long),
                self.conv(f"{name}.branch_pool", pooled),
            ],
            1,
        )

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.conv("Conv2d_1a_3x3", x, stride=2, same=False)
        x = self.conv("Conv2d_2a_3x3", x, same=False)
        x = F.max_pool2d(self.conv("Conv2d_2b_3x3", x), 3, 2)
        x = self.conv("Conv2d_3b_1x1", x)
        x = F.max_pool2d(self.conv("Conv2d_4a_3x3", x, same=False), 3, 2)
        for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self.a(name, x)
        x = self.b("Mixed_6a", x)
        for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            if name == "Mixed_6d":
                spatial = self.conv("Mixed_6d.branch1x1", x)[:, :7]
            x = self.c(name, x)
        x = self.d("Mixed_7a", x)
        x = self.e("Mixed_7b", x, mean_of_neighbours(x))
        x = self.e("Mixed_7c", x, F.max_pool2d(x, 3, 1, 1))
        pooled = x.flatten(2).mean(2)
        return pooled, pooled @ self.get("fc.weight").T, spatial


def mean_of_neighbours(x: Tensor) -> Tensor:
    """The mean of the up to nine pixels that exist: a sum over zeros, divided by how many were real."""
    ones = torch.ones(1, 1, 3, 3, dtype=x.dtype)
    channels = x.shape[1]
    total = F.conv2d(x, ones.expand(channels, 1, 3, 3), padding=1, groups=channels)
    return total / F.conv2d(torch.ones_like(x[:1, :1]), ones, padding=1)


def test_sizes() -> None:
    values = sum(torch.Size(shape).numel() for shape in TORCH_SHAPES.values())
    assert len(LAYERS) == len(COUNTERS) == 94
    assert values == 23_885_392
    assert values + len(COUNTERS) == 23_885_486


def test_channels_add_up() -> None:
    """Every block of the paper's figure ends in the channels that the next begins with."""
    ends = {"Mixed_5b": 256, "Mixed_5c": 288, "Mixed_5d": 288, "Mixed_6a": 768, "Mixed_7a": 1280, "Mixed_7b": 2048}
    begins = {layer.name.split(".")[0]: layer.inputs for layer in reversed(LAYERS)}
    order = list(reversed(begins))
    assert {name: begins[order[order.index(name) + 1]] for name in ends} == ends


def test_forward_is_the_published_network(random_weights: dict[str, Tensor]) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(1, 3, 299, 299, generator=generator) * 2 - 1
    plain = Plain(random_weights)
    with torch.no_grad():
        features, logits, spatial = plain(x.double())
        found = forward(fold(random_weights), x)
    assert {key: value.shape[1] for key, value in found.items()} == {"features": 2048, "logits": 1008, "spatial": 2023}
    assert features.std() > 0.1
    torch.testing.assert_close(found["features"].double(), features, rtol=1e-5, atol=1e-5 * features.abs().max().item())
    torch.testing.assert_close(found["logits"].double(), logits, rtol=1e-5, atol=1e-5 * logits.abs().max().item())
    # NHWC, as the reference moments of ADM have it: position (row, column), then channel.
    rows = found["spatial"].reshape(17, 17, 7)
    torch.testing.assert_close(rows.permute(2, 0, 1).double(), spatial[0], rtol=1e-5, atol=1e-4)
    assert set(TORCH_SHAPES) - plain.used == {"fc.bias"}  # the logits go without it


@pytest.mark.parametrize(("row", "column", "pixels"), [(0, 0, 4), (0, 2, 6), (2, 2, 9)])
def test_the_oracle_averages_real_pixels(row: int, column: int, pixels: int) -> None:
    x = torch.arange(25.0, dtype=torch.float64).reshape(1, 1, 5, 5)
    window = x[0, 0, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    assert window.numel() == pixels
    assert mean_of_neighbours(x)[0, 0, row, column].item() == pytest.approx(window.mean().item())
