"""The Frechet distance of two Gaussians, exact, by whichever symmetric route is shorter. float64 unless asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh
from scipy.linalg.blas import dsymm, dsyrk, dtrmm
from scipy.linalg.lapack import dsygst

from wsopt.errors import InputError
from wsopt.objectives._single import LIMIT, float32_resolves, mean_and_float32_covariance, rounding_bound
from wsopt.objectives.moments import Vectors, mean_and_upper_covariance, mirrored
from wsopt.types import FloatArray

GRAM_SHARE = 0.9
"""Samples per dimension below which the n x n route is taken (measured in benchmarks/speed/frechet.py)."""
_ROOT = "frechet-root-v1"


class FrechetReference:
    """A reference Gaussian with its covariance factored once: S_r = F F^T.

    |m_r - m|^2 + tr S_r + tr S - 2 tr (S_r S)^(1/2) (Dowson and Landau 1982; Heusel et al. 2017), where

        tr (S_r S)^(1/2)  =  sum sqrt eig(F^T S F)  =  sum sqrt eig(Y Y^T) / sqrt(n - 1),    Y = (X - m) F,

    because products of matrices share their non-zero eigenvalues in any cyclic order. Both are symmetric eigenvalue
    problems, and no matrix root of a product is ever taken.

    * From d x d moments: n d^2 operations for the covariance (one dsyrk), d^3 for F^T S F (LAPACK dsygst with the
      Cholesky factor) and 4/3 d^3 for the eigenvalues. d = 2048, n = 10,000: 42 + 9 + 11 = 62 GFLOP.
    * From n < 0.9 d samples: n d^2 for Y (F is triangular), n^2 d for its Gram matrix and 4/3 n^3 for the eigenvalues.
      d = 2048, n = 256: 1.1 + 0.1 + 0.02 GFLOP.

    A matrix of n samples has at most n - 1 non-zero eigenvalues, and a reference of rank r at most r. The rest is
    rounding, whose square roots would add up (1e-16 becomes 1e-8, times d), and is left out.

    F is the Cholesky factor, or the eigenvector root ``[d, r]`` where the reference is singular to working precision
    (no more samples than dimensions, dead features).

    Args:
        mean: ``[d]``.
        covariance: ``[d, d]``, symmetric, positive semidefinite up to rounding.
        derived: keeps the factor (`Reference.derived`); None to compute it.
        name: what error messages call the reference.
        precision: "float32" multiplies samples in float32 where the d x d route is taken and a bound on the error
            allows it (1e-6 of the distance, `wsopt.objectives._single`); else, and with "float64", in float64.

    Raises:
        InputError: where the moments do not fit together, are not finite, or are no covariance.
    """

    def __init__(
        self,
        mean: FloatArray,
        covariance: FloatArray,
        derived: Callable[[str, Callable[[], FloatArray]], FloatArray] | None = None,
        name: str = "reference statistics",
        precision: Literal["float64", "float32"] = "float64",
    ) -> None:
        self.precision = precision
        self.mean = np.asarray(mean, dtype=np.float64)
        cov = np.asarray(covariance, dtype=np.float64)
        _check(self.mean, cov, name)
        self._covariance = cov
        self.trace = float(np.trace(cov))
        root = _root(cov, name) if derived is None else derived(_ROOT, lambda: _root(cov, name))
        self._root = np.ascontiguousarray(root)
        self._triangular = root.shape[0] == root.shape[1] and not np.triu(root, 1).any()

    @property
    def dimension(self) -> int:
        """The length d of a feature vector."""
        return self.mean.size

    @property
    def rank(self) -> int:
        """Rank of the covariance, to working precision."""
        return int(self._root.shape[1])

    def takes_gram(self, samples: int) -> bool:
        """Whether a distance from so many samples is found from their n x n Gram matrix."""
        return samples < GRAM_SHARE * self.dimension

    def distance(self, mean: FloatArray, covariance: FloatArray, samples: int | None = None) -> float:
        """The distance to a Gaussian.

        Args:
            mean: ``[d]``.
            covariance: ``[d, d]``, symmetric.
            samples: how many samples the covariance (divisor n - 1) was computed from; bounds its rank, which makes the
                distance more accurate where n <= d. None where it is not known.

        Returns:
            At least 0 up to rounding; NaN for moments that are not finite.

        Raises:
            InputError: for moments of another dimension.
        """
        if np.shape(mean) != self.mean.shape or np.shape(covariance) != (self.dimension, self.dimension):
            raise InputError(
                f"moments have shapes {list(np.shape(mean))} and {list(np.shape(covariance))}, but the reference "
                f"statistics have dimension {self.dimension}. Use features of one extractor for both."
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            return float("nan")
        cov = np.asarray(covariance, dtype=np.float64)
        # The transpose of a symmetric matrix in C order is the same one in Fortran order, without a copy.
        upper = cov.T if cov.flags.c_contiguous else np.asfortranarray(cov)
        return self._dense(mean, upper, self.dimension if samples is None else samples - 1, keep=True)

    def distance_of(self, vectors: Vectors) -> float:
        """The distance to the Gaussian fitted to samples (covariance with divisor n - 1), by the shorter route.

        Args:
            vectors: ``[n, d]`` float32 or float64.

        Returns:
            NaN where a vector is not finite, or there are fewer than two.

        Raises:
            InputError: for vectors of another length.
        """
        return float(self.distances_of(vectors, [np.ones(len(vectors), dtype=bool)])[0])

    def distances_of(self, vectors: Vectors, subsets: Sequence[NDArray[np.bool_]]) -> FloatArray:
        """`distance_of` several subsets of the same samples; in the n x n route they share one Gram matrix.

        Args:
            vectors: ``[n, d]``.
            subsets: masks ``[n]``.

        Returns:
            ``[len(subsets)]``.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise InputError(
                f"features have shape {list(vectors.shape)}, but the reference statistics have dimension "
                f"{self.dimension}. Use the extractor that the reference was made with."
            )
        if self.takes_gram(len(vectors)):
            return self._by_gram(vectors, subsets)
        return np.array([self._by_moments(vectors if mask.all() else vectors[mask]) for mask in subsets])

    def distance_in_float32(self, vectors: Vectors) -> tuple[float, float]:
        """The distance from float32 products, and a bound on what that changes; the d x d route whatever n.

        Args:
            vectors: ``[n, d]`` float32 or float64.

        Returns:
            The distance and the bound, both in squared units; NaN and infinity where float32 cannot be trusted: no more
            samples than dimensions, or a spectrum (of the reference or the samples) that it does not resolve.
        """
        refused = float("nan"), float("inf")
        if len(vectors) <= self.dimension or not self._resolved_by_float32:
            return refused
        mean, upper, size = mean_and_float32_covariance(vectors)
        bound = rounding_bound(upper, size, self._covariance)
        return (self._dense(mean, upper, len(vectors) - 1, keep=False), bound) if np.isfinite(bound) else refused

    @cached_property
    def _resolved_by_float32(self) -> bool:
        return self._triangular and float32_resolves(self._covariance)

    def _by_moments(self, vectors: Vectors) -> float:
        if len(vectors) < 2:
            return float("nan")
        if self.precision == "float32":
            value, bound = self.distance_in_float32(vectors)
            if bound <= LIMIT * value:
                return value
        mean, upper = mean_and_upper_covariance(vectors)
        if not np.isfinite(mean).all():
            return float("nan")
        return self._dense(mean, upper, len(vectors) - 1, keep=False)

    def _by_gram(self, vectors: Vectors, subsets: Sequence[NDArray[np.bool_]]) -> FloatArray:
        with np.errstate(invalid="ignore"):
            mean = vectors.mean(axis=0, dtype=np.float64) if len(vectors) else self.mean
        if len(vectors) < 2 or not np.isfinite(mean).all():
            # A subset without the vector that is not finite has a distance, but its set is broken.
            return np.full(len(subsets), np.nan)
        centred = vectors - mean
        n = len(centred)
        gram = dsyrk(1.0, self._whitened(centred).T, trans=1) if self.rank else np.zeros((n, n), order="F")
        if any(not mask.all() for mask in subsets):
            gram = mirrored(gram)
        return np.array([self._of_gram(mean, centred, gram, mask) for mask in subsets])

    def _of_gram(self, mean: FloatArray, centred: FloatArray, gram: FloatArray, mask: NDArray[np.bool_]) -> float:
        n = int(mask.sum())
        if n < 2:
            return float("nan")
        if mask.all():
            return self._value(mean, float(np.vdot(centred, centred)) / (n - 1), gram / (n - 1), n - 1)
        rows, inner = centred[mask], gram[np.ix_(mask, mask)]
        moved = rows.mean(axis=0)
        to_mean = inner.mean(axis=0)
        inner = np.asfortranarray(inner - to_mean - to_mean[:, None] + to_mean.mean())
        trace = (float(np.vdot(rows, rows)) - n * float(moved @ moved)) / (n - 1)
        return self._value(mean + moved, trace, inner / (n - 1), n - 1)

    def _whitened(self, rows: FloatArray) -> FloatArray:
        """``[n, r]`` rows F."""
        if self._triangular:
            return np.asarray(dtrmm(1.0, self._root.T, rows.T)).T
        return rows @ self._root

    def _dense(self, mean: FloatArray, upper: FloatArray, rank: int, keep: bool) -> float:
        with np.errstate(over="ignore"):
            trace = float(np.trace(upper))
        if self.rank == 0:  # a reference that is one point
            return self._value(mean, trace, np.zeros((1, 1)), 0)
        if self._triangular:
            # Computes U A U^T of the upper triangle of A, with U = F^T; nothing is inverted (LAPACK, itype 2).
            middle, _ = dsygst(upper, self._root.T, itype=2, lower=0, overwrite_a=not keep)
        else:
            middle = np.asfortranarray(dsymm(1.0, upper, self._root.T, side=1) @ self._root)
        return self._value(mean, trace, middle, rank)

    def _value(self, mean: FloatArray, trace: float, upper: FloatArray, rank: int) -> float:
        """The distance, where `upper` has the eigenvalues of S_r S; of these `rank` at most are not zero."""
        if not (np.isfinite(trace) and np.isfinite(upper).all()):  # finite moments whose sum or product is not
            return float("nan")
        eigenvalues = eigvalsh(upper, lower=False, overwrite_a=True, check_finite=False)
        largest = eigenvalues[max(len(eigenvalues) - min(rank, self.rank), 0) :]
        shift = self.mean - mean
        return float(shift @ shift) + self.trace + trace - 2.0 * float(np.sqrt(largest.clip(min=0.0)).sum())


def _check(mean: FloatArray, cov: FloatArray, name: str) -> None:
    if mean.ndim != 1 or cov.shape != (mean.size, mean.size):
        raise InputError(
            f"{name}: a mean of shape {list(mean.shape)} and a covariance of shape {list(cov.shape)}; expected [d] and "
            f"[d, d]. Make the reference again."
        )
    if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
        raise InputError(f"{name}: mean or covariance hold NaN or infinite values. Make the reference again.")
    if np.abs(cov - cov.T).max(initial=0.0) > 1e-5 * np.abs(cov).max(initial=0.0):
        raise InputError(f"{name}: the covariance is not symmetric. Make the reference again.")


def _root(cov: FloatArray, name: str) -> FloatArray:
    """F with F F^T = cov: lower triangular ``[d, d]``, or ``[d, r]`` where the rank is r < d."""
    tolerance = len(cov) * np.finfo(np.float64).eps
    try:
        factor = np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        pass
    else:
        pivots = np.diagonal(factor) ** 2
        if pivots.min() > tolerance * pivots.max():
            return np.asarray(factor, dtype=np.float64)
    values, vectors = np.linalg.eigh(cov)
    if values[0] < -1e-3 * abs(values[-1]):
        raise InputError(
            f"{name}: the covariance has an eigenvalue of {values[0]:.3g} (largest: {values[-1]:.3g}), so it is none. "
            f"Make the reference again."
        )
    used = values > tolerance * values[-1]
    return np.ascontiguousarray(vectors[:, used] * np.sqrt(values[used]))
