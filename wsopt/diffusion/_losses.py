"""Training losses: denoising for a diffusion model, consistency distillation from one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wsopt.diffusion._preconditioning import Denoise
from wsopt.diffusion._samplers import heun_step

Distance = Literal["l2", "pseudo-huber"]


def lognormal_sigmas(count: int, generator: torch.Generator, mean: float = -1.2, std: float = 1.2) -> Tensor:
    """Noise levels with ln(sigma) normal, ``[count]`` float64 (Karras et al. 2022, table 1)."""
    return (mean + std * torch.randn(count, generator=generator, dtype=torch.float64)).exp()


def denoising_loss(denoise: Denoise, images: Tensor, noise: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """The weighted squared error of a denoiser (Karras et al. 2022, equation 8), mean over images and pixels.

    Args:
        denoise: D(x, sigma).
        images: ``[N, C, H, W]`` clean images.
        noise: standard normal, the shape of `images`.
        sigma: ``[N]`` float64 noise levels.
        sigma_data: standard deviation of the data; the weight is (sigma^2 + sigma_data^2) / (sigma sigma_data)^2.

    Returns:
        A scalar.
    """
    levels = sigma[:, None, None, None].to(images.dtype)
    weight = (levels.square() + sigma_data**2) / (levels * sigma_data).square()
    return (weight * (denoise(images + levels * noise, sigma) - images).square()).mean()


def distance(first: Tensor, second: Tensor, kind: Distance) -> Tensor:
    """Distance of images, per image: ``[N]`` of two ``[N, C, H, W]``.

    ``l2`` is the mean squared difference of the pixels; ``pseudo-huber`` is sqrt(d^2 + c^2) - c of the Euclidean
    distance d with c = 0.00054 sqrt(C H W) (Song & Dhariwal 2024, section 3.3).
    """
    difference = (first - second).flatten(1)
    if kind == "l2":
        return difference.square().mean(1)
    c = 0.00054 * math.sqrt(difference.shape[1])
    return pseudo_huber(difference, c)


def pseudo_huber(difference: Tensor, c: float) -> Tensor:
    """sqrt(||difference||^2 + c^2) - c of every row: ``[N]`` of ``[N, d]``."""
    return (difference.square().sum(1) + c**2).sqrt() - c


@dataclass(frozen=True, eq=False)
class FlowPair:
    """Two neighbouring points of the teacher's probability flow, per image.

    Args:
        noisy: ``[N, C, H, W]`` images at level `high`.
        high: ``[N]`` float64, noise levels.
        cleaner: ``[N, C, H, W]`` the same after one step of the teacher, at level `low`.
        low: ``[N]`` float64, the next lower levels of the grid.
    """

    noisy: Tensor
    high: Tensor
    cleaner: Tensor
    low: Tensor

    def split(self, size: int) -> list[FlowPair]:
        """Consecutive parts of `size` images."""
        fields = (self.noisy, self.high, self.cleaner, self.low)
        return [FlowPair(*part) for part in zip(*(torch.split(field, size) for field in fields), strict=True)]


def flow_pairs(teacher: Denoise, images: Tensor, noise: Tensor, index: Tensor, grid: Tensor) -> FlowPair:
    """Images noised to level n of the grid, and one Heun step of the teacher to level n + 1, without gradient.

    Nothing here depends on the student, so the pairs of many training steps can be made at once.

    Args:
        teacher: the denoiser whose probability flow is distilled; its results are not clipped.
        images: ``[N, C, H, W]`` clean images.
        noise: standard normal, the shape of `images`.
        index: ``[N]`` int64 levels n, each in 0 .. len(grid) - 2.
        grid: descending noise levels, float64.
    """
    high, low = grid[index], grid[index + 1]
    noisy = images + high[:, None, None, None].to(images.dtype) * noise
    with torch.no_grad():
        return FlowPair(noisy, high, heun_step(teacher, noisy, high, low), low)


def distillation_loss(student: Denoise, target: Denoise, pair: FlowPair, kind: Distance = "l2") -> Tensor:
    """The consistency distillation loss (Song et al. 2023, equation 7 and algorithm 2), mean over images.

    The student at the noisier point should say what the target says at the cleaner one.

    Args:
        student: the consistency function that is trained.
        target: the consistency function it should agree with; no gradient flows through it.
        pair: points of the teacher's probability flow.
        kind: the distance.

    Returns:
        A scalar.
    """
    with torch.no_grad():
        aim = target(pair.cleaner, pair.low)
    return distance(student(pair.noisy, pair.high), aim, kind).mean()
