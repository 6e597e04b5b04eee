"""What wsopt does around nevergrad."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer_zoo import generator, spend
from wsopt.config.params import NevergradParams
from wsopt.errors import MissingDependencyError, UnknownNameError, WsoptError
from wsopt.optimizers import SearchSpace
from wsopt.optimizers.nevergrad import SHORT_LIST, NevergradSearch
from wsopt.types import FloatArray, Result, Start


def search(optimizer: str, dimension: int = 4, budget: int = 100, start: float = 0.0) -> NevergradSearch:
    x = np.full(dimension, start)
    starts = [Start("a", x, sphere(x)), Start("bad", x + 9, sphere(x + 9))]
    settings = NevergradParams(optimizer=optimizer, step=0.1)
    return NevergradSearch(settings, SearchSpace(dimension, np.ones(dimension)), starts, generator(0), budget)


def sphere(x: FloatArray) -> float:
    return float(((x - 1) ** 2).sum())


@pytest.mark.parametrize("name", SHORT_LIST)
def test_the_short_list_works_and_never_asks_for_the_start(name: str) -> None:
    optimizer = search(name, start=0.25)
    points: list[FloatArray] = []

    def loss(x: FloatArray) -> float:
        points.append(x)
        return sphere(x)

    spend(optimizer, loss, 80)
    assert not (np.array(points) == 0.25).all(axis=1).any()


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"no optimizer 'OneplusOne'; did you mean 'OnePlusOne'"):
        NevergradSearch.check(NevergradParams(optimizer="OneplusOne"))
    with pytest.raises(UnknownNameError, match="Begin with one of: OnePlusOne, CMA"):
        search("qqqqqq")


def test_the_resolved_method_is_known() -> None:
    assert search("NGOpt", 99, 2000).inner == "MetaModelOnePlusOne"
    assert search("OnePlusOne").inner == "OnePlusOne"


def test_it_depends_on_the_budget_and_says_so() -> None:
    assert NevergradSearch.uses_budget
    assert search("NGOpt", 99, 20).inner != search("NGOpt", 99, 200_000).inner


def test_the_start_is_known_to_the_method() -> None:
    """(1+1) mutates the start, and does not take a worse child for its parent."""
    optimizer = search("OnePlusOne")
    for _ in range(30):
        (candidate,) = optimizer.ask(1)
        assert np.abs(candidate.x).max() < 1.0
        optimizer.tell([Result(candidate.id, 1e6)])
    np.testing.assert_array_equal(optimizer.recommend(), np.zeros(4))


def test_a_missing_package_and_a_failing_method_are_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, kind in ((ImportError("no fcmaes"), MissingDependencyError), (TypeError("x"), WsoptError)):
        optimizer = search("CMA")

        def broken(error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(optimizer._method, "_internal_ask_candidate", broken)
        with pytest.raises(kind, match="nevergrad's CMA"):
            optimizer.ask(1)


def test_the_quadratic_model_fits() -> None:
    """With a model the minimum of a quadratic is proposed exactly, long before a search could be so near."""
    losses = spend(search("MetaModel", 2, 200), sphere, 200)
    assert min(losses[:60]) < 1e-6
