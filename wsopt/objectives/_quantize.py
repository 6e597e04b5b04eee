"""Pixel quantisation: public evaluators disagree on it, so it is an explicit setting stored with every score."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Quantize = Literal["none", "trunc", "round"]


def to_grey_levels(images: Tensor, quantize: Quantize) -> Tensor:
    """Grey levels in [0, 255] of images in [-1, 1]; values outside are clamped.

    Args:
        images: float32, any shape.
        quantize: ``none`` keeps (x + 1) * 127.5 unrounded; ``trunc`` drops its fraction, as consistency_models and LCSC
            do; ``round`` is floor(x * 127.5 + 128), as EDM does.

    Returns:
        float32 of the same shape, whole numbers unless `quantize` is ``none``.
    """
    if quantize == "round":
        return (images * 127.5 + 128.0).floor_().clamp_(0.0, 255.0)
    levels = ((images + 1.0) * 127.5).clamp_(0.0, 255.0)
    return levels.floor_() if quantize == "trunc" else levels
