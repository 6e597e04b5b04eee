"""The regression that shifts the children of one-plus-one."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer_zoo import generator, make, spend
from wsopt.optimizers._slope import Slope
from wsopt.types import FloatArray, Start

D = 40


def ball(x: FloatArray) -> float:
    return 3.0 * float(((x - 1) ** 2).sum())


def told(count: int, spread: float = 0.3) -> Slope:
    slope = Slope(D)
    for z in spread * generator(1).standard_normal((count, D)):
        slope.add(z, ball(z))
    return slope


def test_with_as_many_points_as_dimensions_a_ball_is_solved() -> None:
    shift = told(D).shift(np.zeros(D), ball(np.zeros(D)), reach=100.0)
    assert ball(shift) < 0.05 * ball(np.zeros(D))


def test_fewer_points_give_the_part_of_the_slope_that_they_span() -> None:
    origin = np.zeros(D)
    gains = [1 - ball(told(count).shift(origin, ball(origin), 100.0)) / ball(origin) for count in (4, 10, 20)]
    assert 0 < gains[0] < gains[1] < gains[2] < 1


def test_the_shift_is_no_longer_than_the_reach() -> None:
    shift = told(D).shift(np.zeros(D), ball(np.zeros(D)), reach=0.5)
    assert np.linalg.norm(shift) == pytest.approx(0.5)
    assert ball(shift) < ball(np.zeros(D))


def test_where_the_curvature_is_negative_it_goes_as_far_as_it_may() -> None:
    slope = Slope(D)
    for z in 0.3 * generator(1).standard_normal((D, D)):
        slope.add(z, -ball(z))
    assert np.linalg.norm(slope.shift(np.zeros(D), -ball(np.zeros(D)), reach=2.0)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("losses", "parent"), [([1.0, 2.0, 3.0], 1.0), ([1.0] * 9, 1.0), ([1e308, 5.0, 1e308, 6.0, 1e308], -1e308)]
)
def test_nothing_is_known_of_too_few_or_equal_or_overflowing_losses(losses: list[float], parent: float) -> None:
    slope = Slope(D)
    for z, loss in zip(generator(2).standard_normal((9, D)), losses, strict=False):
        slope.add(z, loss)
    np.testing.assert_array_equal(slope.shift(np.zeros(D), parent, 1.0), np.zeros(D))


@pytest.mark.parametrize("unit", [1e-300, 1e-170, 1e170, 1e300])
def test_the_unit_of_the_loss_changes_nothing(unit: float) -> None:
    points, origin = 0.3 * generator(1).standard_normal((20, D)), np.zeros(D)
    slope = Slope(D)
    for z in points:
        slope.add(z, unit * ball(z))
    expected = told(20).shift(origin, ball(origin), 100.0)
    assert np.linalg.norm(expected) > 1
    np.testing.assert_allclose(slope.shift(origin, unit * ball(origin), 100.0), expected, rtol=1e-9)


def test_the_oldest_points_are_forgotten() -> None:
    slope = told(D)
    for z in 0.3 * generator(4).standard_normal((D, D)):
        slope.add(z, 7.0)
    np.testing.assert_allclose(slope.shift(np.zeros(D), 7.0, 1.0), np.zeros(D), atol=1e-12)


def test_one_plus_one_needs_fewer_evaluations_with_it() -> None:
    def least(name: str, seed: int) -> float:
        return min(spend(make(name, [Start("origin", np.zeros(D), ball(np.zeros(D)))], seed), ball, 150))

    for seed in range(5):
        assert least("one-plus-one-slope", seed) < 0.2 * least("one-plus-one", seed)
