"""The handwritten digits that come with scikit-learn, with one fixed split."""

from __future__ import annotations

from functools import cache
from typing import ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from wsopt.datasets._base import Dataset, DatasetSplit
from wsopt.errors import InputError

_SPLIT_SEED = 20250523
_SIZES: dict[DatasetSplit, int] = {"train": 1197, "validation": 200, "test": 400}


@cache
def _load() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    # Imported here: `import wsopt` must stay quick, and only those who ask for the digits pay for scikit-learn.
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (data.images / 8.0 - 1.0).astype(np.float32)[:, None]
    return images, data.target.astype(np.int64)


def split_indices(labels: NDArray[np.int64]) -> dict[DatasetSplit, NDArray[np.int64]]:
    """The fixed stratified split.

    Each class is shuffled and its images are spread evenly over the unit interval; cutting all images, ordered by that
    position, at the split sizes leaves every split within two images of its proportional share of every class.

    Args:
        labels: ``[1797]`` class labels in scikit-learn's order.

    Returns:
        Ascending row numbers of every split; together they are all rows, each once.
    """
    # Raw words of a bit generator are the one stream that numpy promises never to change (NEP 19).
    keys = np.random.PCG64(_SPLIT_SEED).random_raw(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        position[rows[np.argsort(keys[rows])]] = (np.arange(len(rows)) + 0.5) / len(rows)
    order = np.lexsort((keys, position))
    test, validation = _SIZES["test"], _SIZES["validation"]
    parts: dict[DatasetSplit, NDArray[np.int64]] = {
        "train": order[test + validation :],
        "validation": order[test : test + validation],
        "test": order[:test],
    }
    return {name: np.sort(rows).astype(np.int64) for name, rows in parts.items()}


@cache
def _rows() -> dict[DatasetSplit, NDArray[np.int64]]:
    return split_indices(_load()[1])


class Digits(Dataset):
    """1,797 handwritten digits of 8 x 8 pixels (scikit-learn's ``load_digits``, from UCI's optical recognition set).

    Pixels are whole numbers 0..16 in the source and ``v / 8 - 1`` here. The split is part of the definition of the data
    set: 1,197 images to train on, 200 for validation, 400 for test, stratified by class.

    Args:
        params: nothing; there is nothing to set.
    """

    name: ClassVar[str] = "digits"

    def __init__(self, params: object = None) -> None:
        del params

    def images(self, split: DatasetSplit) -> NDArray[np.float32]:
        """Images of a split.

        Args:
            split: ``train``, ``validation`` or ``test``.

        Returns:
            ``[N, 1, 8, 8]`` float32 in [-1, 1], the caller's own copy.

        Raises:
            InputError: for a split of another name.
        """
        return _load()[0][self._rows(split)]

    def labels(self, split: DatasetSplit) -> NDArray[np.int64]:
        """Labels of a split: ``[N]`` int64 in 0..9, the caller's own copy.

        Raises:
            InputError: for a split of another name.
        """
        return _load()[1][self._rows(split)]

    @staticmethod
    def _rows(split: DatasetSplit) -> NDArray[np.int64]:
        if split not in get_args(DatasetSplit):
            raise InputError(f"data set digits has no split {split!r}; it has {', '.join(get_args(DatasetSplit))}.")
        return _rows()[split]
