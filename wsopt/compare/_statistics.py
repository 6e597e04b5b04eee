"""Quartiles, expected running times, the signed-rank test and its correction: numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from wsopt.compare._base import Quartiles
from wsopt.types import FloatArray

LEAST_PAIRS = 6
"""Pairs below which no two-sided signed-rank test can reach 5 %: 2 / 2**5 = 0.0625."""


def quartiles(values: Sequence[float] | FloatArray) -> Quartiles | None:
    """Median and quartiles of the finite values, linearly interpolated (numpy's default); None where there are none."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return None
    lower, median, upper = (float(one) for one in np.percentile(finite, (25, 50, 75)))
    return Quartiles(median, lower, upper, int(finite.size))


def expected_running_time(evaluations: Sequence[int | None], budget: int) -> float | None:
    """All evaluations spent by the number of successes (COCO's average running time, Hansen et al. 2021, section 5).

    Args:
        evaluations: to the target, None for a failure, which has spent `budget`.
        budget: in evaluations.

    Returns:
        None without a success.
    """
    reached = [one for one in evaluations if one is not None]
    if not reached:
        return None
    return (sum(reached) + budget * (len(evaluations) - len(reached))) / len(reached)


def median_evaluations(evaluations: Sequence[int | None]) -> float | None:
    """Median, a failure counting as more than any budget; None where the median is one, or there is nothing."""
    if not evaluations:
        return None
    median = float(np.median([math.inf if one is None else float(one) for one in evaluations]))
    return median if math.isfinite(median) else None


def smallest_p(pairs: int) -> float:
    """The least two-sided p of a signed-rank test of so many pairs: all signs alike, 2 / 2**n."""
    return min(1.0, 2.0 ** (1 - pairs))


def signed_rank(differences: Sequence[float] | FloatArray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, exact for any number of pairs, ties and zeros.

    Ties get their mean rank; zeros take part in the ranking and carry no sign (Pratt 1959), so a method that often
    equals another is not rewarded for it. The distribution is over all signs of the nonzero differences given their
    ranks, so there is no normal approximation to fail with few pairs. Without ties and zeros it is the textbook's.

    Args:
        differences: of the pairs, finite.

    Returns:
        1 where all differences are 0.
    """
    values = np.asarray(differences, dtype=np.float64)
    nonzero = values != 0
    if not nonzero.any():
        return 1.0
    # Mean ranks are multiples of a half: doubled, their sums are whole numbers.
    doubled = np.rint(2 * _mean_ranks(np.abs(values))).astype(np.int64)[nonzero]
    observed = int(doubled[values[nonzero] > 0].sum())
    chances = np.zeros(int(doubled.sum()) + 1)
    chances[0] = 1.0
    for rank in doubled:
        shifted = np.zeros_like(chances)
        shifted[rank:] = chances[:-rank]
        chances = (chances + shifted) / 2
    tail = min(float(chances[: observed + 1].sum()), float(chances[observed:].sum()))
    return min(1.0, 2 * tail)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction over a family of tests (Holm 1979).

    Args:
        values: the p of each; None for a test that could not be made, which counts in the family and stays None.
    """
    order = sorted((p, index) for index, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    highest = 0.0
    for position, (p, index) in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - position) * p))
        corrected[index] = highest
    return corrected


def _mean_ranks(values: FloatArray) -> FloatArray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: FloatArray = (last - (counts - 1) / 2)[inverse]
    return means
