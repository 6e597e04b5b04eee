"""Samplers: the Karras grid, consistency sampling in one or several steps, Heun's method for the probability flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from wsopt.diffusion._preconditioning import Denoise
from wsopt.errors import InputError


def karras_grid(scales: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Noise levels from `sigma_max` down to `sigma_min` (Karras et al. 2022, equation 5), without a final zero.

    Returns:
        ``[scales]`` float64, strictly descending; both ends are met exactly.

    Raises:
        InputError: for fewer than two scales, or ends that are not 0 < sigma_min < sigma_max.
    """
    if scales < 2 or not 0 < sigma_min < sigma_max:
        raise InputError(
            f"a noise grid needs at least 2 scales and 0 < sigma_min < sigma_max; "
            f"got scales={scales}, sigma_min={sigma_min}, sigma_max={sigma_max}."
        )
    position = torch.arange(scales, dtype=torch.float64) / (scales - 1)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    grid = torch.pow(high + position * (low - high), rho)
    grid[0], grid[-1] = sigma_max, sigma_min
    return grid


def _levels(x: Tensor, sigma: Tensor | float) -> Tensor:
    return torch.full((len(x),), float(sigma), dtype=torch.float64, device=x.device)


def sample_onestep(consistency: Denoise, noise: Tensor, sigma_max: float) -> Tensor:
    """One-step consistency sampling (Song et al. 2023, algorithm 1 without further steps). NFE 1.

    Args:
        consistency: the consistency function.
        noise: ``[N, C, H, W]`` standard normal.
        sigma_max: noise level of the start.

    Returns:
        The shape and dtype of `noise`.
    """
    return consistency(noise * sigma_max, _levels(noise, sigma_max))


def sample_multistep(
    consistency: Denoise, noise: Tensor, sigmas: Sequence[float], sigma_min: float, draw: Callable[[int], Tensor]
) -> Tensor:
    """Multistep consistency sampling (Song et al. 2023, algorithm 1). NFE len(sigmas).

    Args:
        consistency: the consistency function.
        noise: ``[N, C, H, W]`` standard normal, scaled by ``sigmas[0]`` for the start.
        sigmas: descending noise levels at which the function is evaluated, at least one, each at least `sigma_min`.
        sigma_min: the lowest noise level.
        draw: fresh standard normal noise of step 1, 2, ..., in the shape of `noise`.

    Returns:
        The shape and dtype of `noise`.
    """
    x = consistency(noise * sigmas[0], _levels(noise, sigmas[0]))
    for step, sigma in enumerate(sigmas[1:], start=1):
        added = (sigma**2 - sigma_min**2) ** 0.5
        x = consistency(x + added * draw(step), _levels(noise, sigma))
    return x


def euler_step(denoise: Denoise, x: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
    """One Euler step of the probability flow from noise levels `sigma` to `target`, both ``[N]`` float64."""
    slope = (x - denoise(x, sigma)) / _column(sigma, x)
    return x + _column(target - sigma, x) * slope


def heun_step(denoise: Denoise, x: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
    """One Heun step of the probability flow dx/dsigma = (x - D(x, sigma)) / sigma. Two evaluations.

    Args:
        denoise: the denoiser.
        x: ``[N, C, H, W]`` at noise level `sigma`.
        sigma: ``[N]`` float64.
        target: ``[N]`` float64, positive.

    Returns:
        ``[N, C, H, W]`` at noise level `target`.
    """
    first = (x - denoise(x, sigma)) / _column(sigma, x)
    step = _column(target - sigma, x)
    euler = x + step * first
    second = (euler - denoise(euler, target)) / _column(target, x)
    return x + step * (first + second) / 2


def _column(values: Tensor, x: Tensor) -> Tensor:
    return values[:, None, None, None].to(x.dtype)


def sample_flow(denoise: Denoise, noise: Tensor, grid: Tensor, order: int = 2) -> Tensor:
    """Integrate the probability flow from ``grid[0]`` over the grid to zero, deterministically.

    Heun's method with a final Euler step (Karras et al. 2022, algorithm 1): NFE 2 len(grid) - 1; Euler's with
    ``order=1``: NFE len(grid).

    Args:
        denoise: the denoiser.
        noise: ``[N, C, H, W]`` standard normal.
        grid: descending noise levels without the final zero, ``[scales]`` float64.
        order: 2 for Heun's method, 1 for Euler's.

    Returns:
        The shape and dtype of `noise`; the state is kept in float64.
    """
    x = noise.double() * float(grid[0])
    for here, there in pairwise(grid):
        step = heun_step if order == 2 else euler_step
        x = step(denoise, x, _levels(x, here), _levels(x, there))
    last = _levels(x, grid[-1])
    return euler_step(denoise, x, last, torch.zeros_like(last)).to(noise.dtype)
