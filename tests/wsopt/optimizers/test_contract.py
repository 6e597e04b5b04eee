"""Rules that every optimizer keeps (see `wsopt.optimizers.Optimizer`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsopt.config.params import LcscParams, RandomParams
from wsopt.optimizers import LcscSearch, Optimizer, RandomSearch, SearchSpace
from wsopt.types import FloatArray, Result, Start

D = 6
TARGET = np.linspace(-1, 1, D)


def sphere(x: FloatArray) -> float:
    return float(((x - TARGET) ** 2).sum())


def starts() -> list[Start]:
    return [Start(f"ema-{i}", np.full(D, i / 10), sphere(np.full(D, i / 10))) for i in range(4)]


def lcsc(seed: int = 0, **params: float) -> Optimizer:
    return LcscSearch(
        LcscParams(**({"mutation_scale": 0.1} | params)),  # type: ignore[arg-type]
        SearchSpace(D, np.ones(D)),
        starts(),
        np.random.Generator(np.random.PCG64(seed)),
        1000,
    )


def random(seed: int = 0) -> Optimizer:
    generator = np.random.Generator(np.random.PCG64(seed))
    return RandomSearch(RandomParams(), SearchSpace(D, np.ones(D)), starts(), generator, 1000)


Factory = Callable[[], Optimizer]
every = pytest.mark.parametrize("make", [lcsc, random])


def spend(optimizer: Optimizer, budget: int, ask: int = 20) -> list[float]:
    losses: list[float] = []
    while len(losses) < budget:
        candidates = optimizer.ask(min(ask, budget - len(losses)))
        results = [Result(c.id, sphere(c.x)) for c in candidates]
        losses += [r.loss for r in results if r.loss is not None]
        optimizer.tell(results)
    return losses


@every
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 7), min_size=1, max_size=8))
def test_the_sequence_does_not_depend_on_how_asks_are_cut(make: Factory, cuts: list[int]) -> None:
    whole = make().ask(20)
    parts = make()
    pieces = [candidate for cut in cuts for candidate in parts.ask(cut)][:20]
    for first, second in zip(whole, pieces, strict=False):
        assert first.id == second.id
        np.testing.assert_array_equal(first.x, second.x)


@every
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_tells_does_not_matter(make: Factory, seed: int) -> None:
    straight, shuffled = make(), make()
    order = np.random.Generator(np.random.PCG64(seed))
    for _ in range(3):
        results = [Result(c.id, sphere(c.x)) for c in straight.ask(20)]
        assert [c.id for c in shuffled.ask(20)] == [r.id for r in results]
        straight.tell(results)
        for i in order.permutation(len(results)):
            shuffled.tell([results[i]])
    np.testing.assert_array_equal(straight.recommend(), shuffled.recommend())
    np.testing.assert_array_equal([c.x for c in straight.ask(20)], [c.x for c in shuffled.ask(20)])


@every
@pytest.mark.usefixtures("untouched_randomness")
def test_same_seed_same_run(make: Factory) -> None:
    assert spend(make(), 100) == spend(make(), 100)


@every
def test_a_wrong_id_is_refused_and_changes_nothing(make: Factory) -> None:
    optimizer = make()
    (candidate,) = optimizer.ask(1)
    with pytest.raises(ValueError, match="never asked"):
        optimizer.tell([Result(candidate.id, 1.0), Result(99, 1.0)])
    optimizer.tell([Result(candidate.id, 1.0)])
    with pytest.raises(ValueError, match="told before"):
        optimizer.tell([Result(candidate.id, 1.0)])


@every
def test_failed_candidates_are_never_recommended(make: Factory) -> None:
    optimizer = make()
    for _ in range(3):
        optimizer.tell([Result(candidate.id, None) for candidate in optimizer.ask(20)])
    best = min(starts(), key=lambda start: start.loss)
    np.testing.assert_array_equal(optimizer.recommend(), best.x)
    assert len(optimizer.ask(20)) == 20


@every
def test_it_improves_on_its_starts(make: Factory) -> None:
    optimizer = make()
    spend(optimizer, 400)
    assert sphere(optimizer.recommend()) < min(start.loss for start in starts()) * 0.9


@every
def test_returned_arrays_are_not_the_optimizers_own(make: Factory) -> None:
    optimizer = make()
    optimizer.recommend()[:] = np.nan
    assert np.isfinite(optimizer.recommend()).all()
