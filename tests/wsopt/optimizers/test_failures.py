"""Candidates without a score: not a number, an exception, a timeout. All of them are told as `loss=None`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer_zoo import ZOO, make, spend
from wsopt.types import Candidate, FloatArray, Result, Start

D = 6
TARGET = np.linspace(-1, 1, D)
every = pytest.mark.parametrize("name", ZOO)


def sphere(x: FloatArray) -> float:
    return float(((x - TARGET) ** 2).sum())


def starts() -> list[Start]:
    return [Start(f"ema-{i}", np.full(D, i / 10), sphere(np.full(D, i / 10))) for i in range(4)]


moves = st.lists(
    st.tuples(st.integers(1, 8), st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=8)),
    min_size=1,
    max_size=15,
)
"""Of each move: how many to ask for, then which of those outstanding to tell, and whether each failed."""


@every
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(moves=moves)
def test_any_interleaving_of_asks_and_failed_tells(name: str, moves: list[tuple[int, list[tuple[int, bool]]]]) -> None:
    optimizer = make(name, starts(), budget=200)
    out: list[Candidate] = []
    asked = 0
    for count, tells in moves:
        candidates = optimizer.ask(count)
        assert [candidate.id for candidate in candidates] == list(range(asked, asked + len(candidates)))
        assert len(candidates) <= count
        assert candidates or out, "nothing is outstanding, and the search is not over"
        assert all(np.isfinite(candidate.x).all() for candidate in candidates)
        asked += len(candidates)
        out += candidates
        for place, failed in tells[: len(out)]:
            candidate = out.pop(place % len(out))
            optimizer.tell([Result(candidate.id, None if failed else sphere(candidate.x))])
        assert np.isfinite(optimizer.recommend()).all()


@every
@pytest.mark.parametrize("failed", [range(1), range(40), range(30, 90)], ids=["first", "forty", "later"])
def test_after_failures_in_a_row_the_search_still_improves(name: str, failed: range) -> None:
    """The first candidate, the first generations, and generations in the middle of a search."""
    optimizer = make(name, starts(), budget=150)
    losses: list[float] = []
    count = 0
    while count < 150:
        candidates = optimizer.ask(min(20, 150 - count))
        count += len(candidates)
        results = [Result(c.id, None if c.id in failed else sphere(c.x)) for c in candidates]
        losses += [result.loss for result in results if result.loss is not None]
        optimizer.tell(results)
    assert len(losses) == 150 - len(failed)
    assert min(losses) < min(start.loss for start in starts())


@every
def test_a_failed_candidate_is_worse_than_a_bad_one(name: str) -> None:
    """It is never recommended, though all others are far worse than the start."""
    optimizer = make(name, [Start("origin", np.zeros(D), 1.0)])
    failed: list[FloatArray] = []

    def told(candidate: Candidate) -> Result:
        if candidate.id % 3:
            return Result(candidate.id, 1e6 + candidate.id)
        failed.append(candidate.x)
        return Result(candidate.id, None)

    for _ in range(30):
        optimizer.tell([told(candidate) for candidate in optimizer.ask(4)])
        assert not any(np.array_equal(optimizer.recommend(), x) for x in failed)


@every
@pytest.mark.parametrize("budget", [1, 2, 23])
def test_a_budget_that_ends_inside_a_generation_is_spent_exactly(name: str, budget: int) -> None:
    optimizer = make(name, starts(), budget=budget)
    assert len(spend(optimizer, sphere, budget, ask=32)) == budget
    assert np.isfinite(optimizer.recommend()).all()
