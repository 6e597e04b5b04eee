"""The delete-a-block jackknife: how far a score would move with other samples, and how far a difference would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCKS = 10
"""Blocks that the samples are split into. Even, so that even and odd blocks are two halves."""


def blocks_of(indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    """The blocks of samples: sample i is in block ``i % BLOCKS``, in whatever batch it comes.

    Args:
        indices: N sample indices within the split.

    Returns:
        ``[N]`` int64 in [0, BLOCKS).
    """
    return np.asarray(indices, dtype=np.int64) % BLOCKS


def stderr_of(replicates: ArrayLike | None) -> float | None:
    """Standard error of a value from its replicates: sqrt((B - 1) / B * sum (r - mean r)^2).

    The delete-a-group jackknife (Shao and Tu, "The Jackknife and Bootstrap", 1995, section 2.3), for blocks of about
    equal size.

    Args:
        replicates: ``[B]`` values, each without one block (`Objective.replicates`), or None.

    Returns:
        In the unit of the value; None with fewer than two replicates, or where one is not finite.
    """
    values = np.asarray([] if replicates is None else replicates, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    b = len(values)
    return float(np.sqrt((b - 1) / b * ((values - values.mean()) ** 2).sum()))


def paired_stderr(first: ArrayLike | None, second: ArrayLike | None) -> float | None:
    """Standard error of the difference of two values that were computed on the same samples.

    What the shared noise does to both cancels, so it is usually far below the standard error of either.

    Args:
        first: ``[B]`` replicates of one value.
        second: ``[B]`` replicates of the other, the same blocks left out in the same order.

    Returns:
        In the unit of the values; None where the two do not pair up, or where `stderr_of` is.
    """
    one, other = (np.asarray([] if side is None else side, dtype=np.float64) for side in (first, second))
    if one.shape != other.shape or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    return stderr_of(one - other)
