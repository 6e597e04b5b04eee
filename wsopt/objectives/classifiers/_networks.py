"""Small classifiers as pure functions of a dictionary of weights: what the shipped networks have in common.

Functions instead of modules: module constructors draw their first weights from torch's global generator.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

CLASSES = 10


def to_model_range(grey: Tensor) -> Tensor:
    """Grey levels [0, 255] to [-1, 1], the inverse of the quantisation ``round((v + 1) * 127.5)``."""
    return grey / 127.5 - 1.0


class Network(ABC):
    """A classifier with a standardised hidden layer.

    The hidden layer is taken before its activation, so that features are smooth in the pixels and none is clipped to a
    point mass at zero. They are shifted by `mean` and divided by `scale`: over the training images each feature has
    mean 0 and variance 1, none outweighs another, and distances of all networks are of one order.
    """

    package: ClassVar[str]
    """The package whose folder holds the weights and whose module `recipe` made them."""
    name: ClassVar[str]
    """Name of the weights file, without its ending."""
    image_shape: ClassVar[tuple[int, int, int]]
    """(channels, height, width) of the images."""
    dimension: ClassVar[int]
    shapes: ClassVar[dict[str, tuple[int, ...]]]
    """Names and shapes of the trained weights, all float32."""

    @classmethod
    def stored(cls) -> dict[str, tuple[int, ...]]:
        """Names and shapes of everything in the weights file."""
        return {**cls.shapes, "mean": (cls.dimension,), "scale": (cls.dimension,)}

    @classmethod
    def initial(cls, generator: torch.Generator) -> dict[str, Tensor]:
        """Random weights (He et al. 2015, normal, fan in), biases 0, drawn from `generator` alone."""
        return {
            name: torch.randn(shape, generator=generator) * math.sqrt(2.0 / math.prod(shape[1:]))
            if len(shape) > 1
            else torch.zeros(shape)
            for name, shape in cls.shapes.items()
        }

    @classmethod
    @abstractmethod
    def hidden(cls, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """The hidden layer before its activation, not standardised: ``[N, dimension]`` of ``[N, *image_shape]``."""

    @classmethod
    def features(cls, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Standardised features ``[N, dimension]`` of images ``[N, *image_shape]`` in [-1, 1]."""
        return cls.standardised(weights, cls.hidden(weights, images))

    @staticmethod
    def standardised(weights: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
        """The features of a hidden layer, ``[N, dimension]`` both."""
        return (hidden - weights["mean"]) / weights["scale"]

    @staticmethod
    def classify(weights: Mapping[str, Tensor], activated: Tensor) -> Tensor:
        """Class logits ``[N, 10]`` of the hidden layer after its activation."""
        return F.linear(activated, weights["head.weight"], weights["head.bias"])

    @classmethod
    def logits(cls, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Class logits ``[N, 10]`` of images ``[N, *image_shape]`` in [-1, 1]."""
        return cls.classify(weights, F.silu(cls.hidden(weights, images)))


class Convolutional(Network):
    """Two convolutions down to 40 channels of 4 x 4, the first of stride 2, and a 64-wide hidden layer."""

    name: ClassVar[str] = "classifier"
    dimension: ClassVar[int] = 64
    shapes: ClassVar[dict[str, tuple[int, ...]]] = {
        "conv1.weight": (24, 1, 4, 4),
        "conv1.bias": (24,),
        "conv2.weight": (40, 24, 3, 3),
        "conv2.bias": (40,),
        "hidden.weight": (64, 640),
        "hidden.bias": (64,),
        "head.weight": (CLASSES, 64),
        "head.bias": (CLASSES,),
    }
    second_stride: ClassVar[int]
    """Of the second convolution."""

    @classmethod
    def hidden(cls, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """See `Network.hidden`."""
        x = F.silu(F.conv2d(images, weights["conv1.weight"], weights["conv1.bias"], stride=2, padding=1))
        x = F.silu(F.conv2d(x, weights["conv2.weight"], weights["conv2.bias"], stride=cls.second_stride, padding=1))
        return F.linear(x.flatten(1), weights["hidden.weight"], weights["hidden.bias"])


class FullyConnected(Network):
    """Two fully connected layers, the second 48 wide."""

    name: ClassVar[str] = "mlp"
    dimension: ClassVar[int] = 48

    @classmethod
    def hidden(cls, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """See `Network.hidden`."""
        x = F.silu(F.linear(images.flatten(1), weights["input.weight"], weights["input.bias"]))
        return F.linear(x, weights["hidden.weight"], weights["hidden.bias"])

    @staticmethod
    def layers(pixels: int) -> dict[str, tuple[int, ...]]:
        """The `shapes` for images of so many pixels."""
        return {
            "input.weight": (160, pixels),
            "input.bias": (160,),
            "hidden.weight": (48, 160),
            "hidden.bias": (48,),
            "head.weight": (CLASSES, 48),
            "head.bias": (CLASSES,),
        }
