"""The layers of SongUNet: linear, convolution with optional resampling, group normalisation, noise embeddings.

Every layer takes its initial weights from the generator it is given; without one its weights are zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Resample = Literal["up", "down"]

TINY = 1e-5
"""Scale of the initial weights of layers that close a residual branch, so that the branch starts near zero."""
ATTENTION = math.sqrt(0.2)
"""Scale of the initial weights of the query, key and value projection."""


def xavier_uniform(shape: tuple[int, ...], scale: float, generator: torch.Generator | None) -> nn.Parameter:
    """A weight ``[out, in, ...]`` drawn from +-scale * sqrt(6 / (fan_in + fan_out)); zeros without a generator."""
    weight = torch.zeros(shape)
    if generator is not None:
        receptive = math.prod(shape[2:])
        bound = scale * math.sqrt(6 / (receptive * (shape[0] + shape[1])))
        weight.uniform_(-bound, bound, generator=generator)
    return nn.Parameter(weight)


class Linear(nn.Module):
    """An affine map of ``[N, inputs]`` to ``[N, outputs]``."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.weight = xavier_uniform((outputs, inputs), 1.0, generator)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, outputs]``."""
        return F.linear(x, self.weight, self.bias)


class GroupNorm(nn.Module):
    """Normalisation over groups of channels: min(32, channels / 4) groups, epsilon 1e-6."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.groups = min(32, max(channels // 4, 1))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """The shape of `x`."""
        return F.group_norm(x, self.groups, self.weight, self.bias, eps=1e-6)


class Conv2d(nn.Module):
    """A convolution of odd `kernel` with "same" padding, optionally after resampling by two.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: size of the kernel; 0 for resampling alone.
        resample: ``up`` or ``down`` to change the resolution by two before the convolution.
        taps: the 1-d resampling filter.
        fused: convolve first and resample its output (only with ``down``); the padding of both is then applied at
            once, which differs at the borders.
        scale: of the initial weights.
        generator: source of the initial weights.
    """

    resample_filter: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        generator: torch.Generator | None,
        *,
        resample: Resample | None = None,
        taps: Sequence[float] = (1, 1),
        fused: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.resample = resample
        self.fused = fused
        self.box = all(tap == taps[0] for tap in taps) and len(taps) == 2
        if kernel:
            self.weight = xavier_uniform((outputs, inputs, kernel, kernel), scale, generator)
            self.bias = nn.Parameter(torch.zeros(outputs))
        if resample:
            line = torch.tensor(taps, dtype=torch.float32)
            self.register_buffer("resample_filter", (line.outer(line) / line.sum().square())[None, None])

    def forward(self, x: Tensor) -> Tensor:
        """``[N, outputs, H', W']`` where H', W' are H, W, doubled or halved."""
        if self.fused:
            taps = self.resample_filter.shape[-1]
            padding = self.kernel // 2 + (taps - 1) // 2
            x = _filter(F.conv2d(x, self.weight, padding=padding), self.resample_filter, self.box, padding=0)
            return x + self.bias[:, None, None]
        if self.resample == "down":
            x = _filter(x, self.resample_filter, self.box, padding=(self.resample_filter.shape[-1] - 1) // 2)
        elif self.resample == "up":
            x = _expand(x, self.resample_filter, self.box)
        return F.conv2d(x, self.weight, self.bias, padding=self.kernel // 2) if self.kernel else x


def _filter(x: Tensor, taps: Tensor, box: bool, padding: int) -> Tensor:
    """Every channel filtered and halved in size."""
    if box and padding == 0:
        return F.avg_pool2d(x, 2)
    # One channel per image is faster than a depthwise convolution on CPUs.
    flat = F.conv2d(x.reshape(-1, 1, *x.shape[2:]), taps.to(x.dtype), stride=2, padding=padding)
    return flat.reshape(*x.shape[:2], *flat.shape[2:])


def _expand(x: Tensor, taps: Tensor, box: bool) -> Tensor:
    """Every channel doubled in size and filtered; the gain 4 makes up for the zeros in between."""
    if box:
        return F.interpolate(x, scale_factor=2, mode="nearest")
    padding = (taps.shape[-1] - 1) // 2
    flat = F.conv_transpose2d(x.reshape(-1, 1, *x.shape[2:]), 4 * taps.to(x.dtype), stride=2, padding=padding)
    return flat.reshape(*x.shape[:2], *flat.shape[2:])


class PositionalEmbedding(nn.Module):
    """[sin, cos] of the noise condition times ``channels / 2`` frequencies from 1 down to 1e-4 (Ho et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.frequencies = channels // 2

    def forward(self, c_noise: Tensor) -> Tensor:
        """``[N, channels]`` of ``[N]``."""
        exponent = torch.arange(self.frequencies, dtype=c_noise.dtype, device=c_noise.device) / (self.frequencies - 1)
        phase = c_noise.outer(torch.pow(1e-4, exponent))
        return torch.cat([phase.sin(), phase.cos()], dim=1)


class FourierEmbedding(nn.Module):
    """[sin, cos] of the noise condition times fixed random frequencies of standard deviation 16 (Song et al. 2021)."""

    def __init__(self, channels: int, generator: torch.Generator | None) -> None:
        super().__init__()
        freqs = torch.zeros(channels // 2)
        if generator is not None:
            freqs.normal_(0, 16, generator=generator)
        # A parameter that is not trained, as in the checkpoints of LCSC's consistency models.
        self.freqs = nn.Parameter(freqs, requires_grad=False)

    def forward(self, c_noise: Tensor) -> Tensor:
        """``[N, channels]`` of ``[N]``."""
        phase = c_noise.outer(2 * math.pi * self.freqs)
        return torch.cat([phase.sin(), phase.cos()], dim=1)
