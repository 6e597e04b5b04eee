"""Methods against each other on the instances that both have: counts of wins, and the declared tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wsopt.compare._base import CellRecord, Column, PairTest
from wsopt.compare._series import Runs, direction, final_loss, final_score
from wsopt.compare._statistics import LEAST_PAIRS, holm, signed_rank, smallest_p
from wsopt.types import FloatArray

Losses = Mapping[str, float]
"""Instance -> the minimised number of a method's run; instances without one are left out."""


def losses_of(runs: Runs, column: Column | None, budget: int) -> dict[str, float]:
    """What is minimised in a column: the final search loss for None, else the winner's report score.

    A column whose direction is not known gives no losses, so nobody wins in it.
    """
    if column is None:
        found: dict[str, float | None] = {name: final_loss(cell, budget) for name, cell in runs.items()}
    else:
        found = {name: _report_loss(cell, column, budget) for name, cell in runs.items()}
    return {name: loss for name, loss in found.items() if loss is not None and np.isfinite(loss)}


def win_matrix(
    methods: Sequence[str], runs: Mapping[str, Runs], column: Column | None, budget: int
) -> NDArray[np.int64]:
    """``[M, M]`` how often the row's method has the lower loss; equal ones are nobody's win."""
    losses = [losses_of(runs[method], column, budget) for method in methods]
    wins = np.zeros((len(methods), len(methods)), dtype=np.int64)
    for i, first in enumerate(losses):
        for j, second in enumerate(losses):
            a, b = _paired(first, second)
            wins[i, j] = int((a < b).sum())
    return wins


def pair_tests(
    comparisons: Sequence[tuple[str, str]], column: Column | None, runs: Mapping[str, Runs], budget: int
) -> list[PairTest]:
    """The declared comparisons in one column, corrected over all of them (Holm).

    Args:
        comparisons: (first, second) names of methods.
        column: None for the final search score.
        runs: method -> its runs.
        budget: that all runs had.
    """
    tests = [_pair_test(first, second, column, runs, budget) for first, second in comparisons]
    corrected = holm([test.p for test in tests])
    return [replace(test, p_holm=p) for test, p in zip(tests, corrected, strict=True)]


def _pair_test(first: str, second: str, column: Column | None, runs: Mapping[str, Runs], budget: int) -> PairTest:
    a, b = _paired(losses_of(runs[first], column, budget), losses_of(runs[second], column, budget))
    one = next(iter(runs[first].values()))
    sign = (one.sign if column is None else direction(one, column)) or 1.0
    change = float(np.median(sign * (a - b) / np.abs(b))) if len(a) and (b != 0).all() else None
    return PairTest(
        first=first,
        second=second,
        column=column,
        wins=int((a < b).sum()),
        losses=int((a > b).sum()),
        ties=int((a == b).sum()),
        change=change,
        p=signed_rank(a - b) if len(a) >= LEAST_PAIRS else None,
        p_holm=None,
        smallest_p=smallest_p(len(a)),
    )


def _report_loss(cell: CellRecord, column: Column, budget: int) -> float | None:
    sign, score = direction(cell, column), final_score(cell, column, budget)
    return None if sign is None or score is None else sign * score


def _paired(first: Losses, second: Losses) -> tuple[FloatArray, FloatArray]:
    """Losses of two methods on the instances on which both have one."""
    pairs = [(first[name], second[name]) for name in first if name in second]
    table: FloatArray = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
