"""The bar: worse candidates have no influence on the search, however much worse they are said to be."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer_zoo import ZOO, generator, make
from wsopt.types import Candidate, FloatArray, Result, Start

D = 6
TARGET = np.linspace(-1, 1, D)
BUDGET = 150

WITH_BAR = {"lcsc", "lcsc-keep-sum", "random", "one-plus-one", "one-plus-one-2", "coordinate", "coordinate-small"}


def bumpy(x: FloatArray) -> float:
    away = x - TARGET
    return float((away**2).sum() + 0.3 * np.cos(5 * away).sum())


def starts(count: int = 12) -> list[Start]:
    points = [np.full(D, i / 10) for i in range(count)]
    return [Start(f"ema-{i}", x, bumpy(x)) for i, x in enumerate(points)]


def search(name: str, *, estimates: bool) -> tuple[list[Candidate], FloatArray, list[float | None], int]:
    """All candidates, the recommendation, every bar, and how many losses were replaced by estimates.

    Args:
        name: of the configuration.
        estimates: whether losses above the bar are told as something else above the bar.
    """
    optimizer, draws = make(name, starts(), budget=BUDGET), generator(3)
    known = {start.loss for start in starts()}
    asked: list[Candidate] = []
    bars: list[float | None] = []
    replaced = 0
    while len(asked) < BUDGET:
        candidates = optimizer.ask(min(8, BUDGET - len(asked)))
        bar = optimizer.bar()
        bars.append(bar)
        assert bar is None or bar in known
        results = []
        for candidate in candidates:
            loss = bumpy(candidate.x)
            if estimates and bar is not None and loss > bar:
                loss = bar + float(draws.exponential(10.0)) + 1e-9
                replaced += 1
            else:
                known.add(loss)
            results.append(Result(candidate.id, loss))
        optimizer.tell(results)
        asked += candidates
    return asked, optimizer.recommend(), bars, replaced


@pytest.mark.parametrize("name", sorted(WITH_BAR))
def test_losses_above_the_bar_may_be_anything_above_it(name: str) -> None:
    exact, recommended, _, _ = search(name, estimates=False)
    raced, same, _, replaced = search(name, estimates=True)
    # A line search has few: vertices are usually an improvement.
    assert replaced > 2
    np.testing.assert_array_equal([one.x for one in exact], [one.x for one in raced])
    np.testing.assert_array_equal(recommended, same)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_who_has_a_bar(name: str) -> None:
    if name.startswith("nevergrad"):
        optimizer = make(name, starts(), budget=BUDGET)
        optimizer.ask(1)
        assert optimizer.bar() is None
        return
    _, _, bars, _ = search(name, estimates=False)
    assert any(bar is not None for bar in bars) == (name in WITH_BAR)


def test_lcsc_has_none_until_the_candidate_parents_are_complete() -> None:
    optimizer = make("lcsc", starts(3))
    losses = sorted(start.loss for start in starts(3))
    for _ in range(2):
        candidates = optimizer.ask(1000)
        bar = optimizer.bar()
        if len(losses) < 10:
            assert bar is None
        else:
            assert bar == losses[9]
        optimizer.tell([Result(c.id, bumpy(c.x)) for c in candidates])
        losses = sorted([*losses, *(bumpy(c.x) for c in candidates)])
    assert len(losses) > 10


def test_the_bar_of_a_sequential_search_is_the_best_loss_so_far() -> None:
    optimizer = make("one-plus-one", starts())
    best = min(start.loss for start in starts())
    for _ in range(40):
        (candidate,) = optimizer.ask(1)
        assert optimizer.bar() == best
        loss = bumpy(candidate.x)
        optimizer.tell([Result(candidate.id, loss)])
        best = min(best, loss)
