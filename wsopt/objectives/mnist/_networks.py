"""The two classifiers of MNIST at 16 x 16."""

from __future__ import annotations

from typing import ClassVar

from wsopt.objectives.classifiers import Convolutional, FullyConnected

_PACKAGE = "wsopt.objectives.mnist"
_SHAPE = (1, 16, 16)


class CNN(Convolutional):
    """The convolutional one."""

    package: ClassVar[str] = _PACKAGE
    image_shape: ClassVar[tuple[int, int, int]] = _SHAPE
    second_stride: ClassVar[int] = 2


class MLP(FullyConnected):
    """The fully connected one."""

    package: ClassVar[str] = _PACKAGE
    image_shape: ClassVar[tuple[int, int, int]] = _SHAPE
    shapes: ClassVar[dict[str, tuple[int, ...]]] = FullyConnected.layers(256)
