"""What optimizers give to be stored with the results."""

from __future__ import annotations

import json

import cma
import nevergrad as ng
import numpy as np
import pytest

from optimizer_zoo import ZOO, make, spend
from wsopt.types import FloatArray, Result, Start

D = 6


def sphere(x: FloatArray) -> float:
    return float(((x - 1) ** 2).sum())


def start() -> list[Start]:
    return [Start("origin", np.zeros(D), float(D))]


@pytest.mark.parametrize("name", ZOO)
def test_facts_are_json_at_any_time_and_change_nothing(name: str) -> None:
    watched, plain = make(name, start(), budget=60), make(name, start(), budget=60)
    seen = []
    for _ in range(30):
        seen.append(json.dumps(watched.facts(), allow_nan=False))
        candidates, expected = watched.ask(2), plain.ask(2)
        seen.append(json.dumps(watched.facts(), allow_nan=False))
        np.testing.assert_array_equal([c.x for c in candidates], [c.x for c in expected])
        for optimizer in (watched, plain):
            optimizer.tell([Result(c.id, None if c.id in (2, 5) else sphere(c.x)) for c in candidates])
    assert (seen[0] == "{}") == (name == "random")


def test_nevergrads_method_is_named_with_its_options() -> None:
    facts = make("nevergrad-oneplusone", start(), budget=60).facts()
    assert facts["library"] == f"nevergrad {ng.__version__}"
    assert (facts["optimizer"], facts["inner"], facts["budget"], facts["workers"]) == (
        "OnePlusOne",
        "OnePlusOne",
        61,
        1,
    )
    assert facts["options"]["mutation"] == "gaussian"
    facts = make("nevergrad-ngopt", [Start("origin", np.zeros(99), 1.0)], budget=2000).facts()
    assert (facts["optimizer"], facts["inner"]) == ("NGOpt", "MetaModelOnePlusOne")


def test_cmaes_tells_what_it_used() -> None:
    optimizer = make("cmaes-vkd", start())
    popsize = len(optimizer.ask(100))
    assert optimizer.facts() == {
        "library": f"cma {cma.__version__}",
        "covariance": "vkd",
        "popsize": popsize,
        "step_adaptation": "of vkd",
        "generations": 0,
        "restarts": 0,
        "sigma": 0.1,
        "surrogate": "none",
    }


def test_cmaes_counts_generations_and_restarts() -> None:
    optimizer = make("cmaes-full-tpa", start())
    spend(optimizer, lambda x: 1.0, 50)
    assert optimizer.facts()["generations"] == 10
    assert optimizer.facts()["step_adaptation"] == "tpa"
    for _ in range(100):  # every generation halves the step, until it has left the range
        optimizer.tell([Result(candidate.id, None) for candidate in optimizer.ask(100)])
    assert optimizer.facts()["restarts"] >= 1


def test_one_plus_one_counts_successes() -> None:
    optimizer = make("one-plus-one", start())
    for loss in (1.0, 2.0, None, 0.5):
        (candidate,) = optimizer.ask(1)
        optimizer.tell([Result(candidate.id, loss)])
    optimizer.ask(1)  # the search takes a result when it is asked to go on
    assert optimizer.facts() == {"step": pytest.approx(0.1 * 1.4**1.5), "children": 4, "successes": 2}


def test_coordinate_counts_sweeps_and_replaced_lines() -> None:
    optimizer = make("coordinate", [Start("a", np.zeros(2), 1e3)])
    spend(optimizer, lambda x: float(1000 * (x[0] - x[1]) ** 2 + (x[0] + x[1] - 2) ** 2), 60)
    facts = optimizer.facts()
    assert facts["sweeps"] >= 3
    assert 1 <= facts["replaced"] < facts["sweeps"]


def test_lcsc_counts_complete_epochs() -> None:
    optimizer = make("lcsc", start())
    spend(optimizer, sphere, 50)
    assert optimizer.facts() == {"epochs": 2, "population": 41}
