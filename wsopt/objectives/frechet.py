"""The Frechet distance of two Gaussians, symmetric route, and running moments. numpy and float64 throughout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsopt.errors import InputError
from wsopt.types import FloatArray


class FrechetReference:
    """A reference Gaussian with its covariance factored once.

    tr (S_r S)^(1/2) = sum sqrt eig(F^T S F) for any F with F F^T = S_r (the two products share their non-zero
    eigenvalues), so one symmetric eigenvalue problem per distance is enough. F is the Cholesky factor, or the
    eigenvector root where the reference is singular (fewer samples than dimensions, dead features).

    Args:
        mean: ``[d]``.
        covariance: ``[d, d]``, symmetric, positive semidefinite up to rounding.

    Raises:
        InputError: where the moments do not fit together or are not finite.
    """

    def __init__(self, mean: FloatArray, covariance: FloatArray) -> None:
        self.mean = np.asarray(mean, dtype=np.float64)
        cov = np.asarray(covariance, dtype=np.float64)
        if self.mean.ndim != 1 or cov.shape != (self.mean.size, self.mean.size):
            raise InputError(
                f"reference statistics have a mean of shape {list(self.mean.shape)} and a covariance of shape "
                f"{list(cov.shape)}; expected [d] and [d, d]."
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(cov).all()):
            raise InputError("reference statistics hold NaN or infinite values; compute them again.")
        self.trace = float(np.trace(cov))
        self._factor = _factor(cov)

    def distance(self, mean: FloatArray, covariance: FloatArray) -> float:
        """|mu_r - mu|^2 + tr S_r + tr S - 2 tr (S_r S)^(1/2), at least 0 up to rounding; NaN for non-finite moments."""
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            return float("nan")
        shift = self.mean - mean
        middle = self._factor.T @ covariance @ self._factor
        eigenvalues = np.linalg.eigvalsh((middle + middle.T) / 2)
        root_trace = float(np.sqrt(np.clip(eigenvalues, 0.0, None)).sum())
        return float(shift @ shift) + self.trace + float(np.trace(covariance)) - 2.0 * root_trace


def _factor(cov: FloatArray) -> FloatArray:
    try:
        factor = np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(cov)
        return np.asarray(vectors * np.sqrt(np.clip(values, 0.0, None)))
    return np.asarray(factor)


@dataclass
class Moments:
    """Running sums of feature vectors, one set per jackknife block.

    Features are shifted by a fixed vector (the reference mean) before they are squared, so that the covariance does
    not suffer where means are large.

    Args:
        shift: ``[d]`` float64.
        counts: ``[B]`` samples per block.
        sums: ``[B, d]`` float64 sums of shifted features.
        squares: ``[B, d, d]`` float64 sums of outer products.
    """

    shift: FloatArray
    counts: FloatArray
    sums: FloatArray
    squares: FloatArray

    @classmethod
    def empty(cls, shift: FloatArray, blocks: int) -> Moments:
        """No samples, `blocks` blocks."""
        d = shift.size
        return cls(shift, np.zeros(blocks), np.zeros((blocks, d)), np.zeros((blocks, d, d)))

    def add(self, features: FloatArray, block: FloatArray | list[int]) -> None:
        """Add ``[N, d]`` features, sample i to block ``block[i]``."""
        which = np.asarray(block)
        shifted = np.asarray(features, dtype=np.float64) - self.shift
        for b in np.unique(which):
            rows = shifted[which == b]
            self.counts[b] += len(rows)
            self.sums[b] += rows.sum(axis=0)
            self.squares[b] += rows.T @ rows

    def merged(self, other: Moments) -> Moments:
        """The moments of both sets of samples."""
        return Moments(self.shift, self.counts + other.counts, self.sums + other.sums, self.squares + other.squares)

    def mean_covariance(self, without: int | None = None) -> tuple[FloatArray, FloatArray]:
        """Mean ``[d]`` and covariance ``[d, d]`` (divisor n - 1) of all blocks, or of all but one.

        With fewer than two samples the covariance is NaN, so a distance from it is NaN.
        """
        keep = np.ones(len(self.counts), dtype=bool)
        if without is not None:
            keep[without] = False
        n = float(self.counts[keep].sum())
        total = self.sums[keep].sum(axis=0)
        square = self.squares[keep].sum(axis=0)
        if n < 2:
            return np.full_like(total, np.nan), np.full_like(square, np.nan)
        mean = total / n
        return self.shift + mean, (square - n * np.outer(mean, mean)) / (n - 1)
