"""Training losses: denoising for a diffusion model, consistency distillation from one."""

from __future__ import annotations

import math
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


def distillation_loss(
    student: Denoise,
    target: Denoise,
    teacher: Denoise,
    images: Tensor,
    noise: Tensor,
    index: Tensor,
    grid: Tensor,
    kind: Distance = "l2",
) -> Tensor:
    """The consistency distillation loss (Song et al. 2023, equation 7 and algorithm 2), mean over images.

    The teacher takes one Heun step from level n to level n + 1 of the grid; the student at level n should say what the
    target says there. No gradient flows through teacher and target.

    Args:
        student: the consistency function that is trained.
        target: the consistency function it should agree with.
        teacher: the denoiser whose probability flow is distilled; its results are not clipped.
        images: ``[N, C, H, W]`` clean images.
        noise: standard normal, the shape of `images`.
        index: ``[N]`` int64 levels n, each in 0 .. len(grid) - 2.
        grid: descending noise levels, float64.
        kind: the distance.

    Returns:
        A scalar.
    """
    high, low = grid[index], grid[index + 1]
    noisy = images + high[:, None, None, None].to(images.dtype) * noise
    with torch.inference_mode():
        aim = target(heun_step(teacher, noisy, high, low), low)
    # Autograd cannot keep tensors of the inference mode; a clone made outside is an ordinary one.
    return distance(student(noisy, high), aim.clone(), kind).mean()
