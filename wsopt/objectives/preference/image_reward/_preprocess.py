"""Images as ImageReward's vision encoder takes them."""

from __future__ import annotations

import torch
from torch import Tensor

from wsopt.objectives.clip import normalised, resized

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Mean and standard deviation of CLIP's training images, by channel, for values in [0, 1]."""


def preprocess(images: Tensor, size: int) -> Tensor:
    """Resize the shorter side to `size`, cut out the centre, standardise.

    The published model was trained and is used on images resized by PIL: bicubic with antialiasing, first along the
    rows, then along the columns, rounded to whole grey levels after each. The same is done here.

    Args:
        images: ``[N, 3, H, W]`` grey levels in [0, 255].
        size: side of the square that is wanted, in pixels.

    Returns:
        ``[N, 3, size, size]`` float32.
    """
    height, width = images.shape[2:]
    shorter = min(height, width)
    # torchvision's rule for a single number: the longer side is rounded down.
    target = (int(size * height / shorter), int(size * width / shorter))
    images = images.to(torch.float32)
    if target != (height, width):
        images = _whole(resized(_whole(resized(images, (height, target[1]))), target))
    # torchvision rounds the margin half to even, as Python's round does.
    top, left = (round((side - size) / 2) for side in target)
    return normalised(images[:, :, top : top + size, left : left + size], MEAN, STD)


def _whole(grey: Tensor) -> Tensor:
    # PIL rounds half up.
    return (grey + 0.5).floor()
