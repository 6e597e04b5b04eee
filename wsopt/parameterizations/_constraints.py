"""Constraints: what is done to coefficients after a search vector became some (the paper's appendix F)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from wsopt.types import FloatArray


class Constraint(ABC):
    """A map of coefficients ``[..., K]`` to allowed ones, row by row. Allowed coefficients stay as they are."""

    @abstractmethod
    def apply(self, alpha: FloatArray) -> FloatArray:
        """Allowed coefficients ``[..., K]`` float64; `alpha` itself is not changed."""


class Unconstrained(Constraint):
    """No constraint: negative and large coefficients are what the search is for (the paper's default)."""

    def apply(self, alpha: FloatArray) -> FloatArray:
        """See `Constraint.apply`."""
        return alpha


class ConvexHull(Constraint):
    """Negative coefficients become 0, the rest is divided by its sum (the paper's appendix F.1.3).

    Where no coefficient is positive, which only coefficients of another sum than 1 can come to, the uniform average
    is taken.
    """

    def apply(self, alpha: FloatArray) -> FloatArray:
        """See `Constraint.apply`."""
        # Coefficients that are allowed already keep their bits. The largest numbers would overflow in the sum.
        total = np.clip(alpha, 0.0, 2.0).sum(axis=-1, keepdims=True)
        allowed = (alpha >= 0).all(axis=-1, keepdims=True) & (np.abs(total - 1.0) <= 1e-12)
        positive = np.maximum(alpha, 0.0)
        largest = positive.max(axis=-1, keepdims=True)
        positive = np.where(largest > 0, positive, 1.0)
        # Divided by the largest first: a sum of subnormal numbers has no digits to divide by.
        positive = positive / np.where(largest > 0, largest, 1.0)
        hull: FloatArray = np.where(allowed, alpha, positive / positive.sum(axis=-1, keepdims=True))
        return hull


class Clip(Constraint):
    """Coefficients beyond a limit are set to it (the paper's appendix F.2, which clips at 1 from above).

    Args:
        upper: largest coefficient.
        lower: smallest coefficient, below `upper`; None has no lower limit.
        keeps_sum: whether the coefficients are to sum to 1. Then those of checkpoints 2..K are clipped and the anchor
            takes what is left to 1, as in the difference base (equation 7); the anchor's is the only coefficient
            that may lie beyond a limit. Otherwise all K are clipped.
    """

    def __init__(self, upper: float, lower: float | None, keeps_sum: bool) -> None:
        self._upper = upper
        self._lower = -np.inf if lower is None else lower
        self._keeps_sum = keeps_sum

    def apply(self, alpha: FloatArray) -> FloatArray:
        """See `Constraint.apply`."""
        clipped: FloatArray = np.clip(alpha, self._lower, self._upper)
        if not self._keeps_sum:
            return clipped
        inside = (clipped[..., 1:] == alpha[..., 1:]).all(axis=-1)
        first = np.where(inside, alpha[..., 0], 1.0 - clipped[..., 1:].sum(axis=-1))
        return np.concatenate([first[..., None], clipped[..., 1:]], axis=-1)
