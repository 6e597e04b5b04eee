"""Which candidates of a generation the lq model has evaluated, and what the others are taken for."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer_zoo import generator, spend
from wsopt.config.params import CmaesParams
from wsopt.optimizers import SearchSpace
from wsopt.optimizers._surrogate import LqSurrogate
from wsopt.optimizers.cmaes import CmaEsSearch
from wsopt.types import FloatArray, Result, Start

D = 5


def sphere(x: FloatArray) -> float:
    return float(((x - 1) ** 2).sum())


def points(count: int, seed: int = 0) -> list[FloatArray]:
    return list(generator(seed).standard_normal((count, D)))


def known(count: int) -> LqSurrogate:
    given = points(count, seed=1)
    return LqSurrogate(given, [sphere(z) for z in given])


def test_without_losses_five_are_evaluated_first() -> None:
    assert len(LqSurrogate([], []).batch(points(10), {})) == 5
    assert len(known(1).batch(points(10), {})) == 4
    assert len(known(9).batch(points(10), {})) == 1


def test_the_best_by_the_model_comes_first_and_a_true_model_needs_no_other() -> None:
    surrogate, population = known(60), points(12)
    order = np.argsort([sphere(z) for z in population])
    (first,) = surrogate.batch(population, {})
    assert first == order[0]
    losses = {first: sphere(population[first])}
    assert surrogate.batch(population, losses) == []
    ranking = surrogate.ranking(population, losses)
    np.testing.assert_array_equal(np.argsort(np.array(ranking, dtype=float)), order)
    optimum = surrogate.optimum()
    assert optimum is not None
    np.testing.assert_allclose(optimum, np.ones(D), atol=1e-6)
    assert surrogate.facts() == {"surrogate": "lq", "model": "full", "share_evaluated": 1 / 12}


def test_a_wrong_model_has_all_evaluated_in_growing_batches() -> None:
    """Losses without any order: one candidate, one more, then half as many as are evaluated."""
    surrogate, population, draws = known(30), points(12), generator(3)
    losses: dict[int, float | None] = {}
    sizes = []
    while batch := surrogate.batch(population, losses):
        sizes.append(len(batch))
        losses |= {position: float(draws.standard_normal() * 1e3) for position in batch}
    assert sizes == [1, 1, 1, 2, 3, 4]
    assert surrogate.ranking(population, losses) == [losses[position] for position in range(12)]


def test_a_model_is_not_believed_while_most_have_failed() -> None:
    surrogate, population = known(60), points(12)
    (first,) = surrogate.batch(population, {})
    losses: dict[int, float | None] = {first: None}
    (second,) = surrogate.batch(population, losses)
    losses[second] = sphere(population[second])
    (third,) = surrogate.batch(population, losses)
    losses[third] = sphere(population[third])
    assert surrogate.batch(population, losses) == []
    assert [value is None for value in surrogate.ranking(population, losses)] == [i == first for i in range(12)]


def test_a_model_that_cannot_be_computed_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    surrogate, population = known(60), points(12)
    (first,) = surrogate.batch(population, {})

    def broken(number: int) -> float:
        raise ValueError("shapes (400,143) and (144,) not aligned")

    monkeypatch.setattr(surrogate._model, "kendall", broken)
    assert surrogate.batch(population, {first: 1.0}) != []
    assert surrogate.optimum() is None
    assert len(surrogate.batch(points(12, seed=5), {})) == 5


@pytest.mark.parametrize("covariance", ["full", "vkd"])
def test_fewer_evaluations_are_needed_on_a_quadratic(covariance: str) -> None:
    def least(surrogate: str) -> float:
        settings = CmaesParams.model_validate({"covariance": covariance, "surrogate": surrogate, "step": 0.3})
        start = Start("origin", np.zeros(D), sphere(np.zeros(D)))
        return min(spend(CmaEsSearch(settings, SearchSpace(D, np.ones(D)), [start], generator(0), 100), sphere, 60))

    assert least("lq") < least("none") / 1e6


def test_the_starts_are_part_of_the_model() -> None:
    """With the starts the model is complete before anything is asked; its optimum is in the second generation."""
    starts = [Start(str(i), z, sphere(z)) for i, z in enumerate(points(60, seed=1))]
    optimizer = CmaEsSearch(CmaesParams(surrogate="lq"), SearchSpace(D, np.ones(D)), starts, generator(0), 100)
    (candidate,) = optimizer.ask(100)
    optimizer.tell([Result(candidate.id, sphere(candidate.x))])
    assert optimizer.facts()["generations"] == 1
    (candidate,) = optimizer.ask(100)
    assert sphere(candidate.x) < min(start.loss for start in starts)
