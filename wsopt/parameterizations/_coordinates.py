"""Coordinates: from the numbers of one layer group to its K coefficients. The sum-zero family is in `_sumzero`."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from wsopt.types import FloatArray

LEAST_DIVISOR = 0.5
"""The sum that normalised direct coefficients are divided by is never taken smaller than this."""


class Coordinates(ABC):
    """A map between numbers and coefficients of S independent sets, one per layer group (S = 1 where all share one).

    Numbers are ``[n, S, m]``, coefficients ``[n, S, K]``, both float64.
    A row's bits depend on that row alone: no matrix product is taken over rows, whose rounding depends on their number.
    """

    keeps_sum: bool = True
    """Whether the coefficients always sum to 1."""

    def __init__(self, size: int) -> None:
        self.size = size
        """m, how many numbers there are per set."""

    @abstractmethod
    def coefficients(self, numbers: FloatArray) -> FloatArray:
        """Coefficients of numbers."""

    @abstractmethod
    def invert(self, alpha: FloatArray) -> FloatArray:
        """Numbers ``[S, m]`` of coefficients ``[S, K]``; of the nearest ones that can be reached."""


class DifferenceCoordinates(Coordinates):
    """alpha_2 .. alpha_K, and the anchor takes what is left to 1 (the paper's equation 7)."""

    def __init__(self, count: int) -> None:
        super().__init__(count - 1)

    def coefficients(self, numbers: FloatArray) -> FloatArray:
        """See `Coordinates.coefficients`."""
        return with_anchor(numbers)

    def invert(self, alpha: FloatArray) -> FloatArray:
        """See `Coordinates.invert`. Of coefficients that do not sum to 1, those of checkpoints 2..K are kept."""
        return alpha[:, 1:].copy()


class DirectCoordinates(Coordinates):
    """All K coefficients themselves."""

    keeps_sum = False

    def __init__(self, count: int) -> None:
        super().__init__(count)

    def coefficients(self, numbers: FloatArray) -> FloatArray:
        """See `Coordinates.coefficients`."""
        return numbers.copy()

    def invert(self, alpha: FloatArray) -> FloatArray:
        """See `Coordinates.invert`."""
        return alpha.copy()


class NormalizedCoordinates(DirectCoordinates):
    """All K coefficients, brought to the sum 1.

    With s the sum of x: alpha = x / d + (1 - s / d) / K, where d is s but at least 1/2. So x is divided by its sum
    where that is 1/2 or more; below, x is doubled and what is missing to 1 is spread evenly. The map is continuous and
    defined everywhere, a sum of 0 and a negative one included, and leaves coefficients that sum to 1 as they are.
    """

    keeps_sum = True

    def coefficients(self, numbers: FloatArray) -> FloatArray:
        """See `Coordinates.coefficients`."""
        total = numbers.sum(axis=-1, keepdims=True)
        divisor = np.maximum(total, LEAST_DIVISOR)
        missing = (divisor - total) / divisor / numbers.shape[-1]
        return np.asarray(numbers / divisor + missing)

    def invert(self, alpha: FloatArray) -> FloatArray:
        """See `Coordinates.invert`. Coefficients of another sum are shifted evenly, which is the nearest of sum 1."""
        return np.asarray(alpha + (1.0 - alpha.sum(axis=-1, keepdims=True)) / alpha.shape[-1])


def with_anchor(rest: FloatArray) -> FloatArray:
    """Coefficients ``[..., K]`` of alpha_2 .. alpha_K ``[..., K - 1]``; the anchor's makes the sum 1."""
    first = 1.0 - rest.sum(axis=-1, keepdims=True)
    alpha: FloatArray = np.concatenate([first, rest], axis=-1)
    return alpha
