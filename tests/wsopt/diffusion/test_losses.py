"""Losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from wsopt.diffusion import (
    denoising_loss,
    distance,
    distillation_loss,
    flow_pairs,
    heun_step,
    karras_grid,
    lognormal_sigmas,
    pseudo_huber,
)

GRID = karras_grid(18)


def gaussian_denoiser(x: Tensor, sigma: Tensor) -> Tensor:
    return x * (0.25 / (0.25 + sigma.square()))[:, None, None, None]


def test_pseudo_huber() -> None:
    difference = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    assert pseudo_huber(difference, 0.03).item() == pytest.approx(4.970090, abs=5e-7)
    ones = torch.ones(1, 3, 32, 32, dtype=torch.float64)
    c, norm = 0.02993, math.sqrt(3072)
    assert distance(ones, 0 * ones, "pseudo-huber").item() == pytest.approx(math.hypot(norm, c) - c, rel=1e-6)


def test_l2_is_the_mean_over_pixels() -> None:
    first = torch.tensor([[[[1.0, 3.0]]], [[[0.0, 0.0]]]])
    assert distance(first, torch.zeros_like(first), "l2").tolist() == [5.0, 0.0]


def test_lognormal_sigmas() -> None:
    logs = lognormal_sigmas(20000, torch.Generator().manual_seed(0)).log()
    assert [logs.mean().item(), logs.std().item()] == pytest.approx([-1.2, 1.2], abs=0.03)


def test_denoising_loss_weight() -> None:
    """A denoiser that returns zero errs by the image itself."""
    images = torch.full((2, 1, 1, 1), 0.5)
    sigma = torch.tensor([1.0, 0.5], dtype=torch.float64)
    loss = denoising_loss(lambda x, s: 0 * x, images, torch.ones_like(images), sigma, 0.5)
    assert loss.item() == pytest.approx(0.25 * ((1 + 0.25) / 0.25 + (0.25 + 0.25) / 0.0625) / 2)


def test_denoising_loss_adds_noise_by_level() -> None:
    seen = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(x)
        return x

    denoising_loss(denoise, torch.ones(2, 1, 1, 1), torch.full((2, 1, 1, 1), 2.0), torch.tensor([1.0, 3.0]), 0.5)
    assert seen[0].flatten().tolist() == [3.0, 7.0]


def test_flow_pairs() -> None:
    images = torch.zeros(3, 1, 1, 1, dtype=torch.float64)
    index = torch.tensor([0, 10, 16])
    pair = flow_pairs(gaussian_denoiser, images, torch.ones_like(images), index, GRID)
    assert pair.high.tolist() == GRID[index].tolist()
    assert pair.low.tolist() == GRID[index + 1].tolist()
    assert pair.noisy.flatten().tolist() == pair.high.tolist()
    assert (pair.cleaner / pair.noisy).flatten()[:2].tolist() == pytest.approx([0.7198387, 0.6556561], abs=5e-8)
    first, second = pair.split(2)
    assert (len(first.noisy), len(second.low)) == (2, 1)
    assert torch.equal(torch.cat([first.cleaner, second.cleaner]), pair.cleaner)


class Scale(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.value * x


def test_distillation_loss_has_no_gradient_through_teacher_and_target() -> None:
    student, teacher = Scale(0.5), Scale(0.3)
    images = torch.zeros(2, 1, 1, 1, dtype=torch.float64)
    index = torch.tensor([9, 16])
    pair = flow_pairs(teacher, images, torch.ones_like(images), index, GRID)
    loss = distillation_loss(student, student, pair)
    loss.backward()  # type: ignore[no-untyped-call]
    aim = 0.5 * heun_step(teacher, pair.noisy, pair.high, pair.low).detach()
    assert loss.item() == pytest.approx((0.5 * pair.noisy - aim).square().mean().item())
    assert student.value.grad is not None
    assert student.value.grad.item() == pytest.approx((2 * (0.5 * pair.noisy - aim) * pair.noisy).mean().item())
    assert teacher.value.grad is None


def test_the_true_consistency_function_has_almost_no_loss() -> None:
    def consistency(x: Tensor, sigma: Tensor) -> Tensor:
        return x * ((0.25 + 0.002**2) / (0.25 + sigma.square())).sqrt()[:, None, None, None]

    generator = torch.Generator().manual_seed(0)
    images = 0.5 * torch.randn(170, 1, 2, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    index = torch.arange(170) % 17
    pair = flow_pairs(gaussian_denoiser, images, noise, index, GRID)
    assert distillation_loss(consistency, consistency, pair).item() < 1e-4
    assert distillation_loss(gaussian_denoiser, gaussian_denoiser, pair).item() > 1e-3
