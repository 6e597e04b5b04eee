"""The two classifiers of 8 x 8 digits."""

from __future__ import annotations

from typing import ClassVar

from wsopt.objectives.classifiers import Convolutional, FullyConnected

_PACKAGE = "wsopt.objectives.digits"
_SHAPE = (1, 8, 8)


class CNN(Convolutional):
    """The convolutional one."""

    package: ClassVar[str] = _PACKAGE
    image_shape: ClassVar[tuple[int, int, int]] = _SHAPE
    second_stride: ClassVar[int] = 1


class MLP(FullyConnected):
    """The fully connected one."""

    package: ClassVar[str] = _PACKAGE
    image_shape: ClassVar[tuple[int, int, int]] = _SHAPE
    shapes: ClassVar[dict[str, tuple[int, ...]]] = FullyConnected.layers(64)
