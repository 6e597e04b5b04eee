"""Algorithm 1, line by line."""

from __future__ import annotations

import numpy as np
import pytest

from wsopt.config.params import LcscParams
from wsopt.optimizers import LcscSearch, SearchSpace
from wsopt.types import Result, Start

D = 40


def search(starts: list[Start], scale: float = 1.0, seed: int = 0, **params: float) -> LcscSearch:
    generator = np.random.Generator(np.random.PCG64(seed))
    space = SearchSpace(D, np.full(D, scale))
    return LcscSearch(LcscParams(**params), space, starts, generator, 10_000)  # type: ignore[arg-type]


def constant(value: float, loss: float) -> Start:
    return Start(f"ema-{value}", np.full(D, value), loss)


def test_an_epoch_has_iter_children_and_waits_for_all_of_them() -> None:
    optimizer = search([constant(0, 1.0)], iter=7)
    first = optimizer.ask(100)
    assert [candidate.id for candidate in first] == list(range(7))
    assert optimizer.ask(100) == []
    optimizer.tell([Result(candidate.id, 1.0) for candidate in first[:-1]])
    assert optimizer.ask(100) == []
    optimizer.tell([Result(first[-1].id, 1.0)])
    assert [candidate.id for candidate in optimizer.ask(100)] == list(range(7, 14))


def test_it_ends_after_the_given_epochs() -> None:
    optimizer = search([constant(0, 1.0)], iter=3, epochs=2)
    for _ in range(2):
        assert not optimizer.finished()
        optimizer.tell([Result(candidate.id, 1.0) for candidate in optimizer.ask(3)])
    assert optimizer.finished()
    assert optimizer.ask(3) == []


def test_only_the_best_m_cp_become_parents() -> None:
    starts = [constant(100.0 * i, loss=float(i)) for i in range(6)]
    children = search(starts, iter=300, m_cp=2, mutation_scale=1e-6).ask(300)
    values = np.unique(np.round(np.stack([child.x for child in children])))
    np.testing.assert_array_equal(values, [0.0, 100.0])


def test_crossover_mixes_coefficient_wise_or_takes_one_parent() -> None:
    starts = [constant(0.0, 1.0), constant(100.0, 2.0)]

    def shares(probability: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        children = search(starts, iter=400, mix_probability=probability, mutation_scale=1e-6).ask(400)
        return np.array([np.mean(np.round(child.x) == 100.0) for child in children])

    assert set(shares(0.0)) == {0.0, 1.0}
    mixed = shares(1.0)
    assert ((mixed > 0) & (mixed < 1)).all()
    assert mixed.mean() == pytest.approx(0.5, abs=0.03)
    half = shares(0.5)
    assert np.mean((half > 0) & (half < 1)) == pytest.approx(0.5, abs=0.1)


def test_mutation_is_gaussian_on_every_coefficient_in_units_of_the_scale() -> None:
    children = np.stack([c.x for c in search([constant(0, 1.0)], scale=3.0, iter=2000, mutation_scale=0.1).ask(2000)])
    assert children.std(axis=0) == pytest.approx(np.full(D, 0.3), rel=0.1)
    assert np.abs(children.mean()) < 0.01
    # kurtosis of a Gaussian is 3
    assert ((children / children.std()) ** 4).mean() == pytest.approx(3.0, abs=0.2)


def test_the_population_keeps_everyone() -> None:
    """A start stays a parent when no child beats it."""
    optimizer = search([constant(0, loss=0.0)], iter=20, m_cp=1, mutation_scale=1e-3)
    for _ in range(5):
        children = optimizer.ask(20)
        assert max(np.abs(child.x).max() for child in children) < 0.01
        optimizer.tell([Result(child.id, 1.0) for child in children])
    np.testing.assert_array_equal(optimizer.recommend(), np.zeros(D))


def test_recommend_is_the_best_told_also_within_an_epoch() -> None:
    optimizer = search([constant(0, 1.0)], iter=5)
    children = optimizer.ask(5)
    optimizer.tell([Result(children[3].id, 0.5)])
    np.testing.assert_array_equal(optimizer.recommend(), children[3].x)


def test_recorded_sequence() -> None:
    """A change here changes every seeded run: raise it in review."""
    optimizer = search([constant(0.0, 1.0), constant(1.0, 2.0)], seed=42, iter=2, mutation_scale=0.1)
    head = [child.x[:3].round(6).tolist() for child in optimizer.ask(2)]
    assert head == RECORDED


RECORDED = [[0.88288, 1.054315, -0.066551], [0.022, 0.135919, 1.083511]]
