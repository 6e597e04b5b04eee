"""The FID Inception network: its layers, and the forward pass with batch normalisation folded into the convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from wsopt.objectives.inception._blocks import Block, Branch, Layer, block_a, block_b, block_c, block_d, block_e

SIZE = 299
"""Height and width of the input."""
DIMENSION = 2048
"""Channels of the last block, whose mean over the image is the feature vector."""
CLASSES = 1008
SPATIAL = (7, 17, 17)
"""The spatial features of sFID: channels, height, width (Nash et al., "Generating images with sparse representations",
2021; flattened as in the evaluator of Dhariwal and Nichol, 2021)."""
EPSILON = 1e-3
"""Added to the variance by batch normalisation."""

STEM = (
    Layer("Conv2d_1a_3x3", "conv", 3, 32, (3, 3), stride=2, padded=False),
    Layer("Conv2d_2a_3x3", "conv_1", 32, 32, (3, 3), padded=False),
    Layer("Conv2d_2b_3x3", "conv_2", 32, 64, (3, 3)),
    Layer("Conv2d_3b_1x1", "conv_3", 64, 80, (1, 1)),
    Layer("Conv2d_4a_3x3", "conv_4", 80, 192, (3, 3), padded=False),
)
POOLED = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")
"""Layers of the stem that a 3 x 3 max pool of stride 2 follows."""
BLOCKS = (
    block_a("Mixed_5b", "mixed", 192, pooled=32),
    block_a("Mixed_5c", "mixed_1", 256, pooled=64),
    block_a("Mixed_5d", "mixed_2", 288, pooled=64),
    block_b("Mixed_6a", "mixed_3", 288),
    block_c("Mixed_6b", "mixed_4", 768, middle=128),
    block_c("Mixed_6c", "mixed_5", 768, middle=160),
    block_c("Mixed_6d", "mixed_6", 768, middle=160),
    block_c("Mixed_6e", "mixed_7", 768, middle=192),
    block_d("Mixed_7a", "mixed_8", 768),
    block_e("Mixed_7b", "mixed_9", 1280, pool="average"),
    block_e("Mixed_7c", "mixed_10", 2048, pool="max"),
)
LAYERS = (*STEM, *(layer for block in BLOCKS for layer in block.layers()))
"""All 94 convolutions."""
SPATIAL_BLOCK = "Mixed_6d"
"""Its first branch is ``mixed_6/conv`` of the graph; the first 7 channels of it are the spatial features."""

Folded: TypeAlias = Mapping[str, tuple[Tensor, Tensor]]
"""Layer name -> kernel ``[out, in, height, width]`` and bias ``[out]``, float32; ``fc`` -> weight ``[1008, 2048]`` and
bias."""


def fold(weights: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Convolutions that do what convolution and batch normalisation did, computed in float64.

    With kernel k, scale g, shift b, mean m, variance v and r = g / sqrt(v + epsilon), they are k r and b - m r.

    Args:
        weights: float32 by the keys of PyTorch's layout (`TORCH_SHAPES` of `_layouts`).
    """
    folded = {}
    for layer in LAYERS:
        scale, shift, mean, variance = (
            weights[f"{layer.name}.bn.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
        )
        gain = scale / torch.sqrt(variance + EPSILON)
        kernel = weights[f"{layer.name}.conv.weight"].double() * gain[:, None, None, None]
        folded[layer.name] = kernel.float(), (shift - mean * gain).float()
    folded["fc"] = weights["fc.weight"].clone(), weights["fc.bias"].clone()  # what was given may be a mapped file
    return folded


def forward(folded: Folded, x: Tensor) -> dict[str, Tensor]:
    """Everything that is measured in the network.

    Args:
        folded: see `fold`, on the device of `x`.
        x: ``[N, 3, 299, 299]`` float32, about [-1, 1].

    Returns:
        ``features``: ``[N, 2048]``, the mean over the last block (``pool_3``); ``logits``: ``[N, 1008]`` without the
        bias, as the Inception score is defined on; ``spatial``: ``[N, 2023]``, 17 x 17 positions of 7 channels.
    """
    found = {}
    for layer in STEM:
        x = _convolve(folded, layer, x)
        if layer.name in POOLED:
            x = F.max_pool2d(x, 3, stride=2)
    for block in BLOCKS:
        parts = _parts(folded, block, x)
        if block.name == SPATIAL_BLOCK:
            found["spatial"] = parts[0][:, : SPATIAL[0]].permute(0, 2, 3, 1).flatten(1)
        x = torch.cat(parts, dim=1)
    found["features"] = x.mean(dim=(2, 3))
    found["logits"] = F.linear(found["features"], folded["fc"][0])
    return found


def _parts(folded: Folded, block: Block, x: Tensor) -> list[Tensor]:
    parts = [part for branch in block.branches for part in _branch(folded, branch, x)]
    return [*parts, F.max_pool2d(x, 3, stride=2)] if block.halves else parts


def _branch(folded: Folded, branch: Branch, x: Tensor) -> list[Tensor]:
    if branch.pool == "average":
        x = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    elif branch.pool == "max":
        x = F.max_pool2d(x, 3, stride=1, padding=1)
    for layer in branch.chain:
        x = _convolve(folded, layer, x)
    return [_convolve(folded, layer, x) for layer in branch.ends] or [x]


def _convolve(folded: Folded, layer: Layer, x: Tensor) -> Tensor:
    kernel, bias = folded[layer.name]
    return F.relu_(F.conv2d(x, kernel, bias, stride=layer.stride, padding=layer.padding))
