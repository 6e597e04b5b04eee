"""The handwritten digits that come with scikit-learn, with one fixed split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from wsopt.datasets._base import DatasetSplit
from wsopt.datasets._stratified import StratifiedDataset


class Digits(StratifiedDataset):
    """1,797 handwritten digits of 8 x 8 pixels (scikit-learn's ``load_digits``, from UCI's optical recognition set).

    Pixels are whole numbers 0..16 in the source and ``v / 8 - 1`` here: ``[N, 1, 8, 8]``, labels 0..9. The split is
    part of the definition of the data set: 1,197 images to train on, 200 for validation, 400 for test, stratified by
    class.

    Args:
        params: nothing; there is nothing to set.
    """

    name: ClassVar[str] = "digits"
    sizes: ClassVar[Mapping[DatasetSplit, int]] = {"train": 1197, "validation": 200, "test": 400}
    split_seed: ClassVar[int] = 20250523

    @staticmethod
    def load() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See `StratifiedDataset.load`: ``[1797, 1, 8, 8]`` and ``[1797]`` in scikit-learn's order."""
        # Imported here: `import wsopt` must stay quick, and only those who ask for the digits pay for scikit-learn.
        from sklearn.datasets import load_digits

        data = load_digits()
        images = (data.images / 8.0 - 1.0).astype(np.float32)[:, None]
        return images, data.target.astype(np.int64)
