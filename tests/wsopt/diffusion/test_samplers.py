"""Noise grids and samplers against values for Gaussian data, where the denoiser is known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wsopt.diffusion import euler_step, heun_step, karras_grid, sample_flow, sample_multistep, sample_onestep
from wsopt.errors import InputError

GRID_18 = [
    80, 57.58598, 40.78557, 28.37458, 19.35245, 12.91008, 8.400935, 5.315195, 3.256822, 1.92334, 1.088171,
    0.5853481, 0.2964423, 0.1395165, 0.05994731, 0.02293452, 0.00752802, 0.002,
]  # fmt: skip
ONE = torch.ones(1, 1, 1, 1, dtype=torch.float64)


def gaussian_denoiser(x: Tensor, sigma: Tensor) -> Tensor:
    """The mean of N(0, 0.5^2) given x = x0 + sigma z."""
    return x * (0.25 / (0.25 + sigma.square()))[:, None, None, None]


def gaussian_consistency(x: Tensor, sigma: Tensor) -> Tensor:
    """The probability flow of N(0, 0.5^2), followed from sigma to 0.002."""
    return x * ((0.25 + 0.002**2) / (0.25 + sigma.square())).sqrt()[:, None, None, None]


def test_karras_grid() -> None:
    grid = karras_grid(18)
    assert grid.dtype == torch.float64
    assert grid.tolist() == pytest.approx(GRID_18, rel=5e-7)
    assert (float(grid[0]), float(grid[-1])) == (80.0, 0.002)
    assert float(karras_grid(40)[22]) == pytest.approx(1.382368, rel=5e-7)
    assert float(karras_grid(201)[106]) == pytest.approx(1.9128436, rel=1e-7)
    assert karras_grid(151)[[67, 62]].tolist() == pytest.approx([3.9912186, 5.2485035], rel=1e-7)


@pytest.mark.parametrize(("scales", "low", "high"), [(1, 0.002, 80.0), (18, 0.0, 80.0), (18, 2.0, 1.0)])
def test_impossible_grids_are_refused(scales: int, low: float, high: float) -> None:
    with pytest.raises(InputError, match="a noise grid needs"):
        karras_grid(scales, low, high)


def test_onestep() -> None:
    assert sample_onestep(gaussian_consistency, ONE, 80.0).item() == pytest.approx(0.4999943, abs=3e-7)


@pytest.mark.parametrize(
    ("scales", "indices", "expected"),
    [(18, [0, 10], 0.6630961), (40, [0, 22], 0.6402578), (201, [0, 106], 0.6101972)],
)
def test_multistep(scales: int, indices: list[int], expected: float) -> None:
    grid = karras_grid(scales)
    calls = []

    def draw(step: int) -> Tensor:
        calls.append(step)
        return ONE

    sigmas = [float(grid[index]) for index in indices]
    assert sample_multistep(gaussian_consistency, ONE, sigmas, 0.002, draw).item() == pytest.approx(expected, abs=3e-7)
    assert calls == [1]
    # Ending at the lowest level adds nothing: no noise is left and the function is the identity.
    assert sample_multistep(gaussian_consistency, ONE, [*sigmas, 0.002], 0.002, draw).item() == pytest.approx(
        expected, abs=3e-7
    )


@pytest.mark.parametrize(
    ("scales", "order", "expected"), [(18, 2, 0.5276246), (40, 2, 0.5048769), (18, 1, 0.4230317), (40, 1, 0.4648509)]
)
def test_flow(scales: int, order: int, expected: float) -> None:
    calls = []

    def counted(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(sigma)
        assert x.dtype == torch.float64
        return gaussian_denoiser(x, sigma)

    sample = sample_flow(counted, ONE.float(), karras_grid(scales), order)
    assert sample.dtype == torch.float32
    assert sample.item() == pytest.approx(expected, abs=3e-7)
    assert len(calls) == (2 * scales - 1 if order == 2 else scales)


@pytest.mark.parametrize(
    ("scales", "n", "expected"), [(18, 0, 0.7198387), (18, 10, 0.6556561), (40, 0, 0.8681424), (40, 38, 0.9999810)]
)
def test_heun_step(scales: int, n: int, expected: float) -> None:
    grid = karras_grid(scales)
    assert heun_step(gaussian_denoiser, ONE, grid[n : n + 1], grid[n + 1 : n + 2]).item() == pytest.approx(
        expected, abs=3e-7
    )


def test_euler_step() -> None:
    grid = karras_grid(18)
    assert euler_step(gaussian_denoiser, ONE, grid[:1], grid[1:2]).item() == pytest.approx(0.7198358, abs=3e-7)
    assert euler_step(gaussian_denoiser, ONE, grid[10:11], grid[11:12]).item() == pytest.approx(0.6184709, abs=3e-7)
