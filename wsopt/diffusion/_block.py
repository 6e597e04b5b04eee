"""The residual block of SongUNet, with the noise level added in the middle and optional self-attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsopt.diffusion._layers import ATTENTION, TINY, Conv2d, GroupNorm, Linear, Resample

_HALF_POWER = math.sqrt(0.5)


class Block(nn.Module):
    """A residual block (Song et al. 2021, figure 8; BigGAN-style resampling, skips scaled by 1/sqrt 2).

    Args:
        inputs: channels in.
        outputs: channels out.
        embedding: length of the noise embedding.
        generator: source of the initial weights.
        attention: whether single-head self-attention follows.
        resample: ``up`` or ``down`` to change the resolution by two.
        taps: the 1-d resampling filter.
        dropout: probability of dropping an activation in training mode.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int,
        generator: torch.Generator | None,
        *,
        attention: bool = False,
        resample: Resample | None = None,
        taps: Sequence[float] = (1, 1),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.outputs = outputs
        self.dropout = dropout
        self.norm0 = GroupNorm(inputs)
        self.conv0 = Conv2d(inputs, outputs, 3, generator, resample=resample, taps=taps)
        self.affine = Linear(embedding, outputs, generator)
        self.norm1 = GroupNorm(outputs)
        self.conv1 = Conv2d(outputs, outputs, 3, generator, scale=TINY)
        self.skip: Conv2d | None = None
        if inputs != outputs or resample:
            self.skip = Conv2d(inputs, outputs, 1, generator, resample=resample, taps=taps)
        self.attention = attention
        if attention:
            self.norm2 = GroupNorm(outputs)
            self.qkv = Conv2d(outputs, 3 * outputs, 1, generator, scale=ATTENTION)
            self.proj = Conv2d(outputs, outputs, 1, generator, scale=TINY)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """``[N, outputs, H', W']`` of ``[N, inputs, H, W]`` and the noise embedding ``[N, embedding]``."""
        hidden = self.conv0(F.silu(self.norm0(x)))
        hidden = F.silu(self.norm1(hidden + self.affine(emb)[:, :, None, None]))
        if self.dropout and self.training:
            hidden = F.dropout(hidden, self.dropout)
        hidden = self.conv1(hidden)
        x = (hidden + (x if self.skip is None else self.skip(x))) * _HALF_POWER
        return self._attend(x) if self.attention else x

    def _attend(self, x: Tensor) -> Tensor:
        # Rows of qkv are interleaved: (channel, which of q, k and v).
        n, channels, height, width = x.shape
        qkv = self.qkv(self.norm2(x)).reshape(n, channels, 3, height * width)
        if qkv.dtype in (torch.float16, torch.bfloat16):
            qkv = qkv.float()
        query, key, value = qkv.unbind(2)
        weights = torch.baddbmm(
            query.new_empty(()), query.transpose(1, 2), key, beta=0, alpha=1 / math.sqrt(channels)
        ).softmax(dim=2)
        attended = torch.bmm(value, weights.transpose(1, 2)).reshape(n, channels, height, width).to(x.dtype)
        projected: Tensor = self.proj(attended)
        return (projected + x) * _HALF_POWER
