"""The (1+1) strategy, the line searches and the repaired evolutionary search, rule by rule."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer_zoo import generator, make, spend
from wsopt.config.params import CoordinateParams, LcscParams, OnePlusOneParams
from wsopt.optimizers import CoordinateSearch, LcscSearch, OnePlusOneSearch, SearchSpace
from wsopt.types import FloatArray, Result, Start

D = 5


def start(loss: float, dimension: int = D) -> Start:
    return Start("origin", np.zeros(dimension), loss)


def space(dimension: int = D) -> SearchSpace:
    return SearchSpace(dimension, np.ones(dimension))


@pytest.mark.parametrize("name", ["one-plus-one", "coordinate", "nevergrad-oneplusone"])
def test_the_next_candidate_waits_for_the_former(name: str) -> None:
    optimizer = make(name, [start(1.0)])
    (candidate,) = optimizer.ask(10)
    assert optimizer.ask(10) == []
    optimizer.tell([Result(candidate.id, 2.0)])
    assert [candidate.id for candidate in optimizer.ask(10)] == [1]


def steps(outcomes: list[float | None], **params: float) -> list[float]:
    """The step before each child, from the noise that the same generator draws."""
    settings = OnePlusOneParams.model_validate(params)
    optimizer = OnePlusOneSearch(settings, space(), [start(10.0)], generator(0), 100)
    noise, parent, found = generator(0), np.zeros(D), []
    for outcome in outcomes:
        (child,) = optimizer.ask(1)
        z = noise.standard_normal(D)
        found.append(float(((child.x - parent) / z).mean()))
        np.testing.assert_allclose(child.x, parent + found[-1] * z)
        optimizer.tell([Result(child.id, outcome)])
        if outcome is not None and outcome <= 10.0:
            parent = child.x
    return found


def test_the_step_grows_on_success_and_shrinks_otherwise() -> None:
    assert steps([10.0, 11.0, None, 10.0], step=0.3, increase=1.5) == pytest.approx(
        [0.3, 0.3 * 1.5, 0.3 * 1.5**0.75, 0.3 * 1.5**0.5]
    )


def test_the_step_stays_at_the_success_rate() -> None:
    """One success in five leaves the step as it was; one in four at success_rate = 1/4."""
    assert steps([10.0, 11.0, 11.0, 11.0, 11.0, 10.0], step=0.3)[5] == pytest.approx(0.3)
    assert steps([10.0, 11.0, 11.0, 11.0, 10.0], step=0.3, success_rate=0.25)[4] == pytest.approx(0.3)


def asked(loss: object, count: int, dimension: int = 2, step: float = 0.5) -> list[FloatArray]:
    origin = np.zeros(dimension)
    optimizer = CoordinateSearch(
        CoordinateParams(step=step),
        space(dimension),
        [Start("a", origin, loss(origin))],  # type: ignore[operator]
        generator(0),
        99,
    )
    points = []
    for _ in range(count):
        (candidate,) = optimizer.ask(1)
        points.append(candidate.x)
        optimizer.tell([Result(candidate.id, loss(candidate.x))])  # type: ignore[operator]
    return points


def test_a_line_is_searched_forward_doubling_and_by_a_parabola() -> None:
    points = asked(lambda x: (x[0] - 1.3) ** 2 + (x[1] + 0.1) ** 2, 7)
    first = [0.5, 1.0, 2.0, 1.3]
    np.testing.assert_allclose(points[:4], [[t, 0] for t in first])
    # The second axis: forward and backward do not gain, the vertex does.
    np.testing.assert_allclose(points[4:], [[1.3, 0.5], [1.3, -0.5], [1.3, -0.1]])


def test_a_line_is_searched_backward() -> None:
    points = asked(lambda x: (x[0] + 0.6) ** 2, 4)
    np.testing.assert_allclose([point[0] for point in points], [0.5, -0.5, -1.0, -0.6])


def test_a_failed_point_ends_a_line_without_a_parabola() -> None:
    def loss(x: FloatArray) -> float | None:
        return None if x[0] > 0.6 else float((x[0] - 2) ** 2 + x[1] ** 2)

    points = asked(loss, 5)
    np.testing.assert_allclose(points, [[0.5, 0], [1.0, 0], [0.5, 0.5], [0.5, -0.5], [1.0, 0]])


def test_powell_replaces_an_axis_along_a_valley() -> None:
    """A narrow valley along (1, 1): axes alone creep, the displacement of a sweep does not."""

    def valley(x: FloatArray) -> float:
        return float(1000 * (x[0] - x[1]) ** 2 + (x[0] + x[1] - 2) ** 2)

    points = asked(valley, 60)
    assert min(valley(point) for point in points) < 1e-9


def test_keep_sum_keeps_the_sum_of_the_coefficients() -> None:
    starts = [Start(f"ema-{i}", np.eye(D)[i], float(i)) for i in range(4)]
    for keep in (False, True):
        settings = LcscParams(keep_sum=keep, mutation_scale=0.1)
        children = LcscSearch(settings, space(), starts, generator(0), 100).ask(20)
        sums = np.array([child.x.sum() for child in children])
        assert bool(np.allclose(sums, 1.0)) is keep


def test_keep_sum_shifts_evenly() -> None:
    starts = [Start("a", np.eye(D)[0], 0.0)]
    plain, kept = (
        LcscSearch(LcscParams(keep_sum=keep, mutation_scale=0.1), space(), starts, generator(0), 100).ask(20)
        for keep in (False, True)
    )
    shift = np.stack([a.x - b.x for a, b in zip(plain, kept, strict=True)])
    np.testing.assert_allclose(shift, np.repeat(shift[:, :1], D, axis=1))


def test_the_budget_is_spent_exactly() -> None:
    for name in ("lcsc", "one-plus-one", "coordinate", "cmaes-full", "nevergrad-oneplusone"):
        assert len(spend(make(name, [start(5.0)], budget=33), lambda x: float(((x - 1) ** 2).sum()), 33)) == 33
