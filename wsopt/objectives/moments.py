"""Means and covariances of feature vectors, from rows or from running sums. numpy and float64 throughout."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.blas import dsyrk

from wsopt.errors import InputError
from wsopt.objectives.jackknife import BLOCKS
from wsopt.types import FloatArray

Vectors = NDArray[np.float32] | NDArray[np.float64]
_CHUNK = 1024
"""Rows that are converted to float64 at a time."""


class Moments:
    """Feature vectors of a candidate's samples, on their way to a mean and a covariance.

    Rows are kept as they come while they take no more memory than the sums would (2 B d rows of float32 against B
    matrices of d x d float64); then they are folded into sums, one set per jackknife block, so that memory stays
    bounded: at d = 2048 and B = 10, 336 MB each. Vectors are shifted before they are squared, so that a covariance does
    not suffer where means are large.

    Args:
        shift: ``[d]``, a mean to expect (the reference's).
        blocks: B, jackknife blocks.
        row_limit: rows that are kept at most; None for 2 B d.
    """

    def __init__(self, shift: FloatArray, blocks: int = BLOCKS, row_limit: int | None = None) -> None:
        self.shift = np.asarray(shift, dtype=np.float64)
        self.counts = np.zeros(blocks, dtype=np.int64)
        """``[B]`` samples per block."""
        self._limit = 2 * blocks * self.dimension if row_limit is None else row_limit
        self._rows: Vectors = np.empty((0, self.dimension), dtype=np.float32)
        self._which = np.empty(0, dtype=np.int64)
        self._kept = 0
        self._sums: FloatArray | None = None
        self._squares: FloatArray | None = None

    @property
    def dimension(self) -> int:
        """The length d of a feature vector."""
        return self.shift.size

    @property
    def samples(self) -> int:
        """How many vectors were added."""
        return int(self.counts.sum())

    @property
    def vectors(self) -> Vectors | None:
        """``[N, d]`` all vectors in the order they were added, as a view; None once some were folded into sums."""
        return self._rows[: self._kept] if self._squares is None else None

    @property
    def blocks(self) -> NDArray[np.int64]:
        """``[N]`` the blocks of `vectors`."""
        return self._which[: self._kept]

    def add(self, features: Vectors, blocks: ArrayLike) -> None:
        """Add vectors.

        Args:
            features: ``[N, d]`` float32 (anything else is taken as float64); copied.
            blocks: ``[N]`` the block of each, in [0, B).

        Raises:
            InputError: where the vectors have another length than the shift.
        """
        rows: Vectors = features if features.dtype == np.float32 else np.asarray(features, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.dimension:
            raise InputError(
                f"features have shape {list(rows.shape)}, but the reference statistics have dimension "
                f"{self.dimension}: [N, {self.dimension}] was expected. Use the extractor that the reference was made "
                f"with, or make the reference again."
            )
        which = np.asarray(blocks, dtype=np.int64)
        self.counts += np.bincount(which, minlength=len(self.counts))
        for at in range(0, len(rows), max(self._limit, 1)):
            self._keep(rows[at : at + max(self._limit, 1)], which[at : at + max(self._limit, 1)])

    def merged(self, other: Moments) -> Moments:
        """The moments of both sets of samples; neither is changed."""
        result = self._copy()
        result.counts += other.counts
        if other._sums is not None and other._squares is not None:
            sums, squares = result._opened()
            sums += other._sums
            squares += other._squares
        result._keep(other._rows[: other._kept], other.blocks)
        return result

    def folded(self) -> Moments:
        """The same moments with every row in its block's sums, which `mean_covariance` of many subsets is fast on."""
        result = self._copy()
        result._fold()
        return result

    def count(self, blocks: ArrayLike | None = None) -> int:
        """Number of samples in the blocks of a boolean mask ``[B]``; None for all."""
        return self.samples if blocks is None else int(self.counts[np.asarray(blocks, dtype=bool)].sum())

    def mean_covariance(self, blocks: ArrayLike | None = None) -> tuple[FloatArray, FloatArray]:
        """Mean and covariance (divisor n - 1) of the samples in some blocks.

        Args:
            blocks: boolean mask ``[B]``; None for all.

        Returns:
            ``[d]`` and ``[d, d]`` float64; NaN where a vector is not finite, or there are fewer than two.
        """
        keep = np.ones(len(self.counts), dtype=bool) if blocks is None else np.asarray(blocks, dtype=bool)
        rows = self._rows[: self._kept]
        if not keep.all():
            rows = rows[keep[self.blocks]]
        n = self.count(keep)
        if n < 2:
            return np.full(self.dimension, np.nan), np.full((self.dimension, self.dimension), np.nan)
        if self._sums is None or self._squares is None:
            mean, upper = mean_and_upper_covariance(rows)
            return mean, mirrored(upper)
        with np.errstate(invalid="ignore"):
            moved = rows - self.shift
            total = self._sums[keep].sum(axis=0) + moved.sum(axis=0)
            square = self._squares[keep].sum(axis=0) + moved.T @ moved
            mean = total / n
            return self.shift + mean, (square - n * np.outer(mean, mean)) / (n - 1)

    def _keep(self, rows: Vectors, which: NDArray[np.int64]) -> None:
        if self._kept + len(rows) > self._limit:
            self._fold()
        needed = self._kept + len(rows)
        dtype = np.promote_types(self._rows.dtype, rows.dtype)
        if needed > len(self._rows) or dtype != self._rows.dtype:
            size = max(needed, min(2 * len(self._rows), self._limit))
            larger, blocks = np.empty((size, self.dimension), dtype=dtype), np.empty(size, dtype=np.int64)
            larger[: self._kept], blocks[: self._kept] = self._rows[: self._kept], self.blocks
            self._rows, self._which = larger, blocks
        self._rows[self._kept : needed] = rows
        self._which[self._kept : needed] = which
        self._kept = needed

    def _fold(self) -> None:
        sums, squares = self._opened()
        with np.errstate(invalid="ignore"):
            for block in np.unique(self.blocks):
                moved = self._rows[: self._kept][self.blocks == block] - self.shift
                sums[block] += moved.sum(axis=0)
                squares[block] += moved.T @ moved
        self._kept = 0

    def _opened(self) -> tuple[FloatArray, FloatArray]:
        if self._sums is None or self._squares is None:
            self._sums = np.zeros((len(self.counts), self.dimension))
            self._squares = np.zeros((len(self.counts), self.dimension, self.dimension))
        return self._sums, self._squares

    def _copy(self) -> Moments:
        result = Moments(self.shift, len(self.counts), self._limit)
        result.counts = self.counts.copy()
        result._rows, result._which = self._rows[: self._kept].copy(), self.blocks.copy()
        result._kept = self._kept
        result._sums = None if self._sums is None else self._sums.copy()
        result._squares = None if self._squares is None else self._squares.copy()
        return result


def mean_and_upper_covariance(vectors: Vectors) -> tuple[FloatArray, FloatArray]:
    """Mean and covariance (divisor n - 1) of at least two rows, in two passes.

    BLAS dsyrk in place: n d^2 operations, half of a matrix product's, and no copy of all rows in float64.

    Returns:
        ``[d]``, and ``[d, d]`` in Fortran order of which only the upper triangle is filled.
    """
    n, d = vectors.shape
    with np.errstate(invalid="ignore"):
        mean = vectors.mean(axis=0, dtype=np.float64)
        upper = np.zeros((d, d), order="F")
        moved = np.empty((min(_CHUNK, n), d))
        for at in range(0, n, _CHUNK):
            part = vectors[at : at + _CHUNK]
            np.subtract(part, mean, out=moved[: len(part)])
            upper = dsyrk(1.0 / (n - 1), moved[: len(part)].T, 1.0, upper, overwrite_c=1)
    return mean, upper


def mirrored(upper: FloatArray) -> FloatArray:
    """The symmetric matrix of an upper triangle."""
    return np.triu(upper) + np.triu(upper, 1).T
