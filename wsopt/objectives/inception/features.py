"""The features that FID is defined in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from wsopt.config.params import InceptionParams
from wsopt.errors import InputError
from wsopt.objectives import FeatureExtractor
from wsopt.objectives.inception._network import CLASSES, DIMENSION, SPATIAL, fold, forward
from wsopt.objectives.inception._resize import Resize, to_network_input
from wsopt.objectives.inception._weights import find_weights, load_weights, weights_digest

_CHANNELS = (1, 3)
# An image takes about 20 MB on its way through the network.
_IMAGES_PER_PASS = 8
_IMAGES_PER_PASS_ON_DEVICE = 64


class InceptionFeatures(FeatureExtractor):
    """The FID Inception network (``inception-2015-12-05``): pooled features, logits, and the spatial features of sFID.

    Its weights are read when it is made: from the file of the parameters, a cache folder, or the place where they are
    published. Images with one channel are measured as grey ones with three equal channels. Computed in float32 (on
    CUDA as ``torch.backends.cudnn.allow_tf32`` allows).

    Args:
        params: weights file and resize; None for the published weights and ``tf1``.

    Raises:
        InputError: where the weights cannot be found, read, or are others.
    """

    name: ClassVar[str] = "inception"
    outputs: ClassVar[tuple[str, ...]] = ("features", "logits", "spatial")
    """``features`` ``[N, 2048]``; ``logits`` ``[N, 1008]`` without the bias, as the Inception score wants them;
    ``spatial`` ``[N, 2023]``, 17 x 17 positions of the first 7 channels of ``mixed_6/conv``."""

    def __init__(self, params: InceptionParams | None = None) -> None:
        params = params or InceptionParams()
        self._resize: Resize = params.resize or "tf1"
        weights = load_weights(find_weights(params.weights))
        self._digest = weights_digest(weights, f"inception-2015-12-05; resize {self._resize}; version 1")
        folded = {name: (_fast(kernel), bias) for name, (kernel, bias) in fold(weights).items()}
        self._folded = {torch.device("cpu"): folded}

    @property
    def dimension(self) -> int:
        """2048."""
        return DIMENSION

    @property
    def digest(self) -> str:
        """SHA-256 over the weights, whichever layout they came in, and the resize."""
        return self._digest

    def __call__(self, images: Tensor) -> Tensor:
        """Pooled features.

        Args:
            images: ``[N, 1 or 3, H, W]`` grey levels in [0, 255] of any size, on any device.

        Returns:
            ``[N, 2048]`` float32 on the same device, no gradient.

        Raises:
            InputError: for images of another shape.
        """
        return self.extract(images, ("features",))["features"]

    def extract(self, images: Tensor, outputs: Sequence[str]) -> dict[str, Tensor]:
        """Several outputs from one pass over the images; see `FeatureExtractor.extract`."""
        unknown = [name for name in outputs if name not in self.outputs]
        if unknown:
            known = ", ".join(map(repr, self.outputs))
            raise InputError(f"features {self.name!r} have no output {unknown[0]!r}. They have: {known}.")
        if images.ndim != 4 or images.shape[1] not in _CHANNELS or 0 in images.shape[2:]:
            raise InputError(
                f"features {self.name!r} take images of shape [N, 3, H, W] or [N, 1, H, W], found "
                f"{list(images.shape)}. Choose features that fit the images of this model."
            )
        if not outputs:
            return {}
        rows = _IMAGES_PER_PASS if images.device.type == "cpu" else _IMAGES_PER_PASS_ON_DEVICE
        with torch.no_grad():
            passes = [self._once(images[i : i + rows], outputs) for i in range(0, len(images), rows)]
            return {name: torch.cat([one[name] for one in passes] or [_none(name, images)]) for name in outputs}

    def _once(self, images: Tensor, outputs: Sequence[str]) -> dict[str, Tensor]:
        x = to_network_input(images.to(torch.float32), self._resize)
        found = forward(self._on(images.device), _fast(x))
        return {name: found[name] for name in outputs}

    def _on(self, device: torch.device) -> dict[str, tuple[Tensor, Tensor]]:
        if device not in self._folded:
            here = self._folded[torch.device("cpu")]
            self._folded[device] = {
                name: (kernel.to(device, memory_format=torch.contiguous_format), bias.to(device))
                for name, (kernel, bias) in here.items()
            }
        return self._folded[device]


def _fast(x: Tensor) -> Tensor:
    """`x` in the memory layout that convolutions are fastest in."""
    # Measured on the CPU: 1.6 times as fast with the channels last.
    last = x.ndim == 4 and x.device.type == "cpu"
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _none(name: str, images: Tensor) -> Tensor:
    """The output `name` of no images."""
    channels, height, width = SPATIAL
    lengths = {"features": DIMENSION, "logits": CLASSES, "spatial": channels * height * width}
    return torch.empty((0, lengths[name]), device=images.device)
