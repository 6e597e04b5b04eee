"""What wsopt does around pycma."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from optimizer_zoo import generator, spend
from wsopt.config.params import CmaesParams
from wsopt.optimizers import SearchSpace
from wsopt.optimizers.cmaes import CmaEsSearch
from wsopt.types import FloatArray, Result, Start

D = 8


def search(loss: float = 8.0, seed: int = 0, **params: object) -> CmaEsSearch:
    settings = CmaesParams(**params)  # type: ignore[arg-type]
    return CmaEsSearch(
        settings, SearchSpace(D, np.ones(D)), [Start("origin", np.zeros(D), loss)], generator(seed), 1000
    )


def sphere(x: FloatArray) -> float:
    return float(((x - 1) ** 2).sum())


def test_a_generation_is_waited_for() -> None:
    optimizer = search(popsize=7)
    first = optimizer.ask(100)
    assert len(first) == 7
    optimizer.tell([Result(candidate.id, sphere(candidate.x)) for candidate in first[:6]])
    assert optimizer.ask(1) == []
    optimizer.tell([Result(first[6].id, None)])
    assert [candidate.id for candidate in optimizer.ask(100)] == list(range(7, 14))


def test_the_default_generation_is_pycmas() -> None:
    assert len(search().ask(100)) == 4 + int(3 * np.log(D))


def test_only_the_order_of_losses_counts() -> None:
    plain, monotone = search(), search(loss=float(np.exp(8.0)))
    for _ in range(10):
        first, second = plain.ask(100), monotone.ask(100)
        np.testing.assert_array_equal([c.x for c in first], [c.x for c in second])
        plain.tell([Result(c.id, sphere(c.x)) for c in first])
        monotone.tell([Result(c.id, float(np.exp(sphere(c.x)))) for c in second])


def test_failed_candidates_rank_last_whatever_the_losses() -> None:
    """Failing is what a loss above all others would do."""
    failing, high = search(), search()
    for _ in range(5):
        first, second = failing.ask(100), high.ask(100)
        np.testing.assert_array_equal([c.x for c in first], [c.x for c in second])
        worst = max(range(len(first)), key=lambda i: sphere(first[i].x))
        failing.tell([Result(c.id, None if i == worst else sphere(c.x)) for i, c in enumerate(first)])
        high.tell([Result(c.id, 1e300 if i == worst else sphere(c.x)) for i, c in enumerate(second)])
    assert len(failing.ask(100)) == len(high.ask(100))


def test_generations_of_failures_contract_the_search() -> None:
    optimizer = search(step=1.0)
    spreads = []
    for _ in range(20):
        candidates = optimizer.ask(100)
        spreads.append(np.std([candidate.x for candidate in candidates], axis=0).mean())
        optimizer.tell([Result(candidate.id, None) for candidate in candidates])
    assert spreads[-1] < spreads[0] / 1000


def test_it_begins_again_where_it_has_converged() -> None:
    optimizer = search(step=0.1)
    losses = spend(optimizer, sphere, 6000)
    assert min(losses) < 1e-20
    assert max(losses[1500:3000]) < 1e-8
    assert max(losses[3000:]) > 1e-2, "a step of 0.1 again"
    assert sphere(optimizer.recommend()) < 1e-9


def test_the_mean_is_recommended_once_a_generation_is_complete() -> None:
    optimizer = search()
    candidates = optimizer.ask(100)
    optimizer.tell([Result(c.id, sphere(c.x)) for c in candidates[:-1]])
    best = min(candidates[:-1], key=lambda c: sphere(c.x))
    expected = best.x if sphere(best.x) < 8.0 else np.zeros(D)
    np.testing.assert_array_equal(optimizer.recommend(), expected)
    optimizer.tell([Result(candidates[-1].id, sphere(candidates[-1].x))])
    points = np.array([c.x for c in candidates])
    assert not (optimizer.recommend() == points).all(axis=1).any()


def test_vkd_adapts_its_step_by_itself() -> None:
    with pytest.raises(ValidationError, match="of its own"):
        CmaesParams(covariance="vkd", step_adaptation="tpa")
