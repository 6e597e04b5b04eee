"""From grey levels of any size to the network's input: public evaluators resize in four ways.

With `in` the length of a side, output i of 299 looks at

* ``tf1``: i * in / 299, bilinear: TensorFlow 1, and with it ADM, EDM, torch-fidelity and the evaluator of
  consistency_models
* ``bilinear``: (i + 1/2) * in / 299 - 1/2, bilinear: pytorch-fid, and with it LCSC's score of consistency models
* ``antialias``: the same place, bilinear with antialias where the image shrinks: torchmetrics since 1.8
* ``clean``: the same place, bicubic (a = -1/2) with antialias where the image shrinks, channels as floats that are not
  rounded again but clipped to [0, 255]: clean-fid 0.1.35, which calls PIL for it

and the range becomes 2 x / 255 - 1 for ``bilinear``, (x - 128) / 128 for the others.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wsopt.objectives.inception._network import SIZE

Resize = Literal["tf1", "bilinear", "antialias", "clean"]


def to_network_input(images: Tensor, resize: Resize) -> Tensor:
    """Resize and scale.

    Args:
        images: ``[N, 1 or 3, H, W]`` float32 grey levels in [0, 255]; one channel is repeated.
        resize: see the head of this module.

    Returns:
        ``[N, 3, 299, 299]`` float32 in [-1, 1].
    """
    if resize == "bilinear":
        # In the order of pytorch-fid, which resizes images in [0, 1].
        x = 2 * F.interpolate(images / 255, (SIZE, SIZE), mode="bilinear", align_corners=False) - 1
    else:
        x = (_resized(images, resize) - 128) / 128
    return x.expand(-1, 3, -1, -1)


def _resized(images: Tensor, resize: Resize) -> Tensor:
    if resize == "tf1":
        return _as_tensorflow_1(images)
    if resize == "antialias":
        return F.interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True)
    # In float64, as PIL does: torch's float32 is up to 0.006 grey levels off.
    cubic = F.interpolate(images.double(), (SIZE, SIZE), mode="bicubic", align_corners=False, antialias=True)
    return cubic.float().clamp_(0.0, 255.0)


def _as_tensorflow_1(images: Tensor) -> Tensor:
    """``tf.image.resize_bilinear`` with its defaults: along the width first, in float32 throughout."""
    low, high, weight = _neighbours(images.shape[3], images.device)
    left = images[..., low]
    across = left + (images[..., high] - left) * weight
    low, high, weight = _neighbours(images.shape[2], images.device)
    top = across[:, :, low]
    return top + (across[:, :, high] - top) * weight[:, None]


def _neighbours(length: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For every output: the input at or before it, the one behind (the last at the edge), and the latter's weight."""
    scale = torch.tensor(length, dtype=torch.float32) / SIZE
    where = torch.arange(SIZE, dtype=torch.float32) * scale
    low = where.floor().long().clamp_(max=length - 1)
    high = (low + 1).clamp_(max=length - 1)
    return low.to(device), high.to(device), (where - low).to(device)
