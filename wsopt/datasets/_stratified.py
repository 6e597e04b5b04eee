"""Labelled images in memory with one fixed stratified split: what the embedded data sets have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cache
from typing import ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from wsopt.datasets._base import Dataset, DatasetSplit
from wsopt.errors import InputError


def stratified_rows(
    labels: NDArray[np.int64], sizes: Mapping[DatasetSplit, int], seed: int
) -> dict[DatasetSplit, NDArray[np.int64]]:
    """The split of `seed`, stratified by class.

    Each class is shuffled and its images are spread evenly over the unit interval; cutting all images, ordered by that
    position, at the split sizes leaves every split within two images of its proportional share of every class.

    Args:
        labels: ``[N]`` class labels in the source's order.
        sizes: number of images of every split; together N.
        seed: of the shuffling.

    Returns:
        Ascending row numbers of every split; together they are all rows, each once.
    """
    # Raw words of a bit generator are the one stream that numpy promises never to change (NEP 19).
    keys = np.random.PCG64(seed).random_raw(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        position[rows[np.argsort(keys[rows])]] = (np.arange(len(rows)) + 0.5) / len(rows)
    order = np.lexsort((keys, position))
    test, validation = sizes["test"], sizes["validation"]
    parts: dict[DatasetSplit, NDArray[np.int64]] = {
        "train": order[test + validation :],
        "validation": order[test : test + validation],
        "test": order[:test],
    }
    return {name: np.sort(rows).astype(np.int64) for name, rows in parts.items()}


class StratifiedDataset(Dataset):
    """A data set whose images and labels are loaded at once and split by `stratified_rows`.

    A subclass gives `name`, `sizes`, `split_seed` and `load`.

    Args:
        params: nothing; there is nothing to set.
    """

    sizes: ClassVar[Mapping[DatasetSplit, int]]
    split_seed: ClassVar[int]

    def __init__(self, params: object = None) -> None:
        del params

    @staticmethod
    @abstractmethod
    def load() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """All images ``[N, C, H, W]`` float32 in [-1, 1] and labels ``[N]`` int64, in the source's order.

        Raises:
            MissingDependencyError: where the package that brings the data is not installed.
        """

    def images(self, split: DatasetSplit) -> NDArray[np.float32]:
        """Images of a split.

        Args:
            split: ``train``, ``validation`` or ``test``.

        Returns:
            ``[N, C, H, W]`` float32 in [-1, 1], the caller's own copy.

        Raises:
            InputError: for a split of another name.
            MissingDependencyError: where the package that brings the data is not installed.
        """
        rows = self._rows(split)
        return _loaded(type(self))[0][rows]

    def labels(self, split: DatasetSplit) -> NDArray[np.int64]:
        """Labels of a split: ``[N]`` int64, the caller's own copy.

        Raises:
            InputError: for a split of another name.
            MissingDependencyError: where the package that brings the data is not installed.
        """
        rows = self._rows(split)
        return _loaded(type(self))[1][rows]

    def _rows(self, split: DatasetSplit) -> NDArray[np.int64]:
        if split not in get_args(DatasetSplit):
            known = ", ".join(get_args(DatasetSplit))
            raise InputError(f"data set {self.name} has no split {split!r}; it has {known}.")
        return _split(type(self))[split]


@cache
def _loaded(kind: type[StratifiedDataset]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return kind.load()


@cache
def _split(kind: type[StratifiedDataset]) -> dict[DatasetSplit, NDArray[np.int64]]:
    return stratified_rows(_loaded(kind)[1], kind.sizes, kind.split_seed)
