"""Covariances from float32 products, and how far their rounding can move a Frechet distance.

Let E be the error of a covariance S, D = diag(S), C = D^-1/2 S D^-1/2 the correlations and E' = D^-1/2 E D^-1/2 the
error relative to them. With M = F^T S F and T = F M^-1/2 F^T the distance to S_r = F F^T changes by

    tr E - tr T E + q / 2 + ...,        0 <= q <= tr E S^-1 E T

(the derivatives of tr M^1/2; a b / (a + b) <= (a + b) / 4). A rigorous cheap bound is not to be had: the worst E of a
given norm moves the distance about d times as much as rounding does, since every entry has to conspire, so that such a
bound would refuse every spectrum. Hence the entries of E' are taken as independent, of mean 0 and of one size t, the
probabilistic model of Higham and Mary (2019), its constant not assumed but measured. The rest is a bound:

* The diagonal of S is summed in float64: tr E = 0.
* t is the root mean square of E' in the worst of `PROBES` columns that are computed in float64 as well.
* tr T E = tr T' E', with T' = D^1/2 T D^1/2, has the standard deviation sqrt(2) t |T'| at most (Frobenius norms).
  T' is the geometric mean of A = D^1/2 S_r D^1/2 and B = C^-1, so that B = T' A^-1 T'. In the eigenbasis of A, with
  eigenvalues x_i, tr A B = sum T'_ij^2 (x_i / x_j + x_j / x_i) / 2 >= |T'|^2. `SIGMAS` times sqrt(2 tr A B) t are
  allowed.
* tr E S^-1 E T = tr E' B E' T' is t^2 (tr B tr T' + tr B T') <= 2 t^2 tr B tr T' on average; tr T' <= sqrt(d tr A B).
* E' has to be small against C. A random symmetric E' has the norm 2 sqrt(d) t (Wigner), and B is found from S + E in
  float32, whose rounding u counts too. r = 2 sqrt(d) (t + u) |B| may be 1/4 at most: a direction that float32 hides
  would show as an eigenvalue of C of about 2 sqrt(d) (t + u), hence as r near 1. Then B and T' are wrong by factors of
  1 / (1 - r) at most, also along the way from S to S + E: together at most (1 - r)^-3 < 4 in the quadratic term.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import ssyrk
from scipy.linalg.lapack import spotrf, spotri

from wsopt.objectives.moments import Vectors
from wsopt.types import FloatArray

LIMIT = 1e-6
"""Relative error of a distance that float32 products are good enough for."""
PROBES = 32
"""Columns of the covariance that are computed in float64 as well."""
SIGMAS = 4.0
RATIO = 0.25
"""What r may be at most."""
_BLOCK = 2500
"""Rows whose products are summed in float32 (measured: longer sums round more, shorter ones cost more)."""
_CHUNK = 500
_UNIT = float(np.finfo(np.float32).eps) / 2


def mean_and_float32_covariance(vectors: Vectors) -> tuple[FloatArray, FloatArray, float]:
    """`mean_and_upper_covariance` with products in float32, of vectors less their mean; everything else in float64.

    Args:
        vectors: ``[n, d]``, at least two.

    Returns:
        ``[d]``; ``[d, d]`` in Fortran order of which only the upper triangle is filled, its diagonal exact; and the
        error t of the other entries, relative to the standard deviations: NaN where float32 overflows or a feature is
        constant.
    """
    n, d = vectors.shape
    columns = np.unique(np.linspace(0, d - 1, min(PROBES, d)).astype(int))
    squares, exact = np.zeros(d), np.zeros((d, len(columns)))
    upper = np.zeros((d, d), order="F")
    rows = np.empty((min(_BLOCK, n), d), dtype=np.float32)
    with np.errstate(all="ignore"):
        mean = vectors.mean(axis=0, dtype=np.float64)
        for at in range(0, n, _BLOCK):
            block = vectors[at : at + _BLOCK]
            for start in range(0, len(block), _CHUNK):
                moved = block[start : start + _CHUNK] - mean
                rows[start : start + len(moved)] = moved
                squares += np.einsum("ij,ij->j", moved, moved)
                exact += moved.T @ moved[:, columns]
            upper += ssyrk(1.0, rows[: len(block)].T)
        spread = np.sqrt(squares)
        error = np.where(np.arange(d)[:, None] <= columns, upper[:, columns], upper[columns].T) - exact
        error /= np.outer(spread, spread[columns])
        error[columns, np.arange(len(columns))] = 0.0
        size = float(np.sqrt((error**2).sum(axis=0).max() / max(d - 1, 1)))
        np.fill_diagonal(upper, squares)
        upper /= n - 1
    return mean, upper, size


def rounding_bound(upper: FloatArray, size: float, reference: FloatArray) -> float:
    """How far the distance of a covariance can be from what it would be without rounding; see above.

    Args:
        upper: ``[d, d]`` the upper triangle of a covariance, in Fortran order, with an exact diagonal.
        size: t, the error of its other entries.
        reference: ``[d, d]`` the covariance S_r that the distance is to.

    Returns:
        In the unit of the distance. Infinite where float32 does not resolve the correlations.
    """
    d = len(upper)
    inverse = _inverse_correlations(upper)
    ratio = _ratio(inverse, size)
    if inverse is None or not ratio <= RATIO:
        return float("inf")
    spread = np.sqrt(np.diagonal(upper))
    inverse_trace = float(np.trace(inverse, dtype=np.float64))
    # The symmetric product from the triangle: twice the whole less once the diagonal.
    whole = float(spread @ (reference.T * inverse) @ spread)
    product = 2.0 * whole - float((np.diagonal(reference) * np.diagonal(upper)) @ np.diagonal(inverse))
    norm = np.sqrt(max(product, 0.0) / (1.0 - ratio))
    return float(SIGMAS * np.sqrt(2.0) * size * norm + 4.0 * size**2 * inverse_trace * np.sqrt(d) * norm)


def float32_resolves(covariance: FloatArray) -> bool:
    """Whether the correlations of a covariance survive float32 at all: r <= 1/4 with t = 0."""
    return _ratio(_inverse_correlations(covariance), 0.0) <= RATIO


def _ratio(inverse: NDArray[np.float32] | None, size: float) -> float:
    """r, from the upper triangle of C^-1."""
    if inverse is None:
        return float("inf")
    off = 2.0 * float(np.linalg.norm(inverse)) ** 2 - float(np.linalg.norm(np.diagonal(inverse))) ** 2
    return float(2.0 * np.sqrt(len(inverse)) * (size + _UNIT) * np.sqrt(max(off, 0.0)))


def _inverse_correlations(upper: FloatArray) -> NDArray[np.float32] | None:
    """The upper triangle of C^-1, in float32; None where C has no Cholesky factor in it."""
    with np.errstate(all="ignore"):
        scale = 1.0 / np.sqrt(np.diagonal(upper))
        if not np.isfinite(scale).all():
            return None
        correlations = np.empty(upper.shape, dtype=np.float32, order="F")
        np.multiply(upper, np.outer(scale, scale).T, out=correlations, casting="unsafe")
    factor, failed = spotrf(correlations, lower=0, overwrite_a=1)
    if failed:
        return None
    inverse, _ = spotri(factor, lower=0, overwrite_c=1)
    return np.asarray(inverse)
