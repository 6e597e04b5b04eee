"""Scalings and noise conditions against published values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from wsopt.diffusion import Denoiser, boundary_scalings, edm_scalings, noise_condition

# sigma; boundary c_skip, c_out; EDM c_skip, c_out; c_in, all for sigma_data 0.5 and sigma_min 0.002
TABLE = [
    (80.0, 3.906293e-5, 0.49997773, 3.906097e-5, 0.49999023, 0.01249976),
    (1.0, 0.20064141, 0.44631917, 0.2, 0.44721360, 0.89442719),
    (0.5, 0.50200400, 0.35213918, 0.5, 0.35355339, 1.41421356),
    (0.01, 0.99974407, 0.00799840, 0.99960016, 0.00999800, 1.99960012),
    (0.002, 1.0, 0.0, 0.99998400, 0.00199998, 1.99998400),
]


@pytest.mark.parametrize("row", TABLE)
def test_scalings(row: tuple[float, ...]) -> None:
    sigma = torch.tensor(row[0], dtype=torch.float64)
    boundary, edm = boundary_scalings(sigma, 0.5, 0.002), edm_scalings(sigma, 0.5)
    found = [boundary.skip, boundary.out, edm.skip, edm.out, edm.input]
    assert [float(value) for value in found] == pytest.approx(row[1:], rel=2e-7, abs=6e-9)
    assert torch.equal(boundary.input, edm.input)


def test_noise_conditions() -> None:
    sigma = torch.tensor([80.0, 0.002], dtype=torch.float64)
    assert noise_condition(sigma, "edm").tolist() == pytest.approx([1.0955067, -1.5536520], abs=5e-8)
    assert float(noise_condition(sigma, "cm")[0]) == pytest.approx(1095.50666, abs=5e-6)


class Recorder(nn.Module):
    """Returns twice its input and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        self.seen = (x, c_noise)
        return 2 * x


def test_consistency_function_is_the_identity_at_the_lowest_level() -> None:
    x = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    denoise = Denoiser(Recorder(), 0.5, boundary=0.002)
    assert torch.equal(denoise(x, torch.full((4,), 0.002, dtype=torch.float64)), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_denoiser_calls_the_network_in_its_own_dtype(dtype: torch.dtype) -> None:
    network = Recorder()
    x = torch.full((2, 1, 1, 1), 3.0, dtype=dtype)
    result = Denoiser(network, 0.5, condition="cm")(x, torch.tensor([1.0, 0.5], dtype=torch.float64))
    inner, condition = network.seen
    assert result.dtype == dtype
    assert inner.dtype == condition.dtype == torch.float32
    assert inner.flatten().tolist() == pytest.approx([3 * 0.89442719, 3 * 1.41421356])
    assert condition.tolist() == pytest.approx([0.0, -173.2868], abs=1e-4)
    expected = [0.2 * 3 + 0.44721360 * 2 * 3 * 0.89442719, 0.5 * 3 + 0.35355339 * 2 * 3 * 1.41421356]
    assert result.flatten().tolist() == pytest.approx(expected, rel=1e-6)


def test_clip() -> None:
    x = torch.full((1, 1, 1, 1), 3.0)
    sigma = torch.tensor([0.5], dtype=torch.float64)
    assert Denoiser(Recorder(), 0.5, clip=True)(x, sigma).item() == 1.0
    assert Denoiser(Recorder(), 0.5)(x, sigma).item() > 1.0
