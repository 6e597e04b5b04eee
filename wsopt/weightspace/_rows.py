"""The coefficients of the candidates in a block, row by row."""

from __future__ import annotations

import numpy as np

from wsopt.types import FloatArray


class Rows:
    """What `WeightSpace.prepare` was last given.

    Args:
        shape: width of the block, G layer groups, K checkpoints.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._shape = shape
        self._rows: list[FloatArray | None] = [None] * shape[0]

    def take(self, coefficients: FloatArray, rows: tuple[int, ...] | None) -> FloatArray:
        """Keep the coefficients of new candidates; those of all former ones are forgotten.

        Args:
            coefficients: ``[n, G, K]`` float64.
            rows: the row of each; None takes 0..n-1.

        Returns:
            ``[width, G, K]``, unused rows zero.

        Raises:
            ValueError: for another shape.
        """
        width, groups, count = self._shape
        if coefficients.shape[1:] != (groups, count) or len(coefficients) > width:
            raise ValueError(
                f"coefficients are {list(coefficients.shape)}, expected at most {width} x {groups} groups x {count} "
                f"checkpoints"
            )
        padded = np.zeros(self._shape)
        self._rows = [None] * width
        places = range(len(coefficients)) if rows is None else rows
        for place, row in zip(places, coefficients, strict=True):
            padded[place] = row
            self._rows[place] = row.copy()
        return padded

    def coefficients(self, row: int) -> FloatArray:
        """``[G, K]`` of the candidate in `row`.

        Raises:
            ValueError: where it holds none.
        """
        found = self._rows[row]
        if found is None:
            raise ValueError(f"row {row} holds no candidate")
        return found

    def single(self, row: int) -> int | None:
        """See `one_hot`, of the candidate in `row`."""
        return one_hot(self.coefficients(row))


def one_hot(coefficients: FloatArray) -> int | None:
    """The checkpoint that ``[G, K]`` coefficients select in every group, or None."""
    hot = int(coefficients[0].argmax())
    expected = np.zeros_like(coefficients)
    expected[:, hot] = 1.0
    return hot if np.array_equal(coefficients, expected) else None
