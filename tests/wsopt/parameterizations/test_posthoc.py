"""Post-hoc EMA against averages that are kept step by step over synthetic training runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsopt.config.sections import WIDTHS
from wsopt.errors import InputError
from wsopt.parameterizations import (
    ProfilePoint,
    _profiles,
    absolute_sum,
    amplifies,
    ema,
    ema_from_first,
    posthoc,
    power_ema,
    power_exponent,
)
from wsopt.parameterizations import _posthoc as implementation
from wsopt.types import FloatArray

STEPS, WEIGHTS = 4_000, 40


@pytest.fixture(scope="module")
def run() -> FloatArray:
    """Weights of steps 0..STEPS: a drift, correlated noise and a random walk, ``[STEPS + 1, WEIGHTS]``."""
    generator = np.random.default_rng(5)
    time = np.linspace(0, 1, STEPS + 1)[:, None]
    noise = generator.standard_normal((STEPS + 1, WEIGHTS))
    for step in range(1, STEPS + 1):
        noise[step] = 0.98 * noise[step - 1] + 0.2 * noise[step]
    walk = np.cumsum(generator.standard_normal((STEPS + 1, WEIGHTS)), axis=0) * 0.01
    return np.asarray(np.sqrt(time) * 3.0 + noise + walk)


Averages = Callable[[ProfilePoint], FloatArray]


@pytest.fixture(scope="module")
def kept(run: FloatArray) -> Averages:
    """Averages of the run after every step, by stream, computed once."""
    found: dict[tuple[float | None, float | None], FloatArray] = {}

    def of(point: ProfilePoint) -> FloatArray:
        stream = point.rate, point.width
        if stream not in found:
            found[stream] = run if point.raw else averages(run, point)
        return found[stream]

    return of


def averages(run: FloatArray, point: ProfilePoint) -> FloatArray:
    """The average after every step, by its recursion."""
    kept = np.empty_like(run)
    average = run[0].copy()
    kept[0] = average
    for step in range(1, len(run)):
        if point.rate is not None:
            left = point.rate
        else:
            assert point.width is not None
            left = (1.0 - 1.0 / step) ** (power_exponent(point.width) + 1.0)
        average = left * average + (1.0 - left) * run[step]
        kept[step] = average
    return kept


def error(kept: Averages, streams: list[ProfilePoint], count: int, target: ProfilePoint) -> float:
    """Distance of the reconstruction to the true average, divided by that of the last raw checkpoint to it."""
    steps = np.linspace(STEPS / count, STEPS, count).astype(int)
    points, weights = [], []
    for stream in streams:
        for step in steps:
            points.append(ProfilePoint(int(step), stream.rate, stream.width))
            weights.append(kept(stream)[step])
    found = posthoc(points, target)
    true = kept(target)[target.step]
    assert found.coefficients.sum() == pytest.approx(1.0, abs=1e-12)
    merged = found.coefficients @ np.stack(weights)
    return float(np.linalg.norm(merged - true) / np.linalg.norm(kept(RAW)[target.step] - true))


RAW = ProfilePoint(1)
NARROW, BROAD = ProfilePoint(1, width=0.05), ProfilePoint(1, width=0.10)


@pytest.mark.parametrize(("count", "limit"), [(20, 0.003), (50, 0.0004)])
@pytest.mark.parametrize("width", [0.075, 0.12, 0.2])
def test_two_power_streams_give_every_width_between_and_beyond(
    kept: Averages, count: int, limit: float, width: float
) -> None:
    assert error(kept, [NARROW, BROAD], count, ProfilePoint(STEPS, width=width)) <= limit


def test_what_one_stream_and_raw_weights_are_worth(kept: Averages) -> None:
    target = ProfilePoint(STEPS, width=0.12)
    two, one, raw = (error(kept, streams, 20, target) for streams in ([NARROW, BROAD], [BROAD], [RAW]))
    assert two < one < 0.05
    assert 0.1 < raw < 0.6


def test_three_constant_rates_give_an_unseen_one(kept: Averages) -> None:
    streams = [ProfilePoint(1, rate=rate) for rate in (0.99, 0.998, 0.9995)]
    target = ProfilePoint(STEPS, rate=0.999)
    assert error(kept, streams, 40, target) < 0.01
    assert error(kept, [RAW], 40, target) > 0.1


def test_streams_of_both_kinds_mix(kept: Averages) -> None:
    streams = [ProfilePoint(1, rate=0.9995), NARROW, RAW]
    assert error(kept, streams, 40, ProfilePoint(STEPS, width=0.08)) < 0.01


def test_a_point_that_is_the_target_gets_everything() -> None:
    points = [ProfilePoint(step, width=width) for step in (100, 200, 300) for width in (0.05, 0.1)]
    found = posthoc(points, ProfilePoint(200, width=0.1))
    np.testing.assert_allclose(found.coefficients, [0, 0, 0, 1, 0, 0], atol=1e-6)
    assert found.error < 1e-6
    assert found.absolute_sum == pytest.approx(1.0, abs=1e-5)
    assert not found.amplifies


def test_twice_the_same_point_shares() -> None:
    found = posthoc([ProfilePoint(100, rate=0.9), ProfilePoint(100, rate=0.9)], ProfilePoint(100, rate=0.95))
    np.testing.assert_allclose(found.coefficients, [0.5, 0.5], atol=1e-9)


def test_coefficients_follow_the_order_of_the_points() -> None:
    points = [ProfilePoint(step, width=0.1) for step in (100, 150, 200, 300)]
    target = ProfilePoint(250, width=0.15)
    forward, backward = posthoc(points, target), posthoc(points[::-1], target)
    np.testing.assert_allclose(forward.coefficients, backward.coefficients[::-1], atol=1e-9)


def test_later_points_get_next_to_nothing() -> None:
    points = [ProfilePoint(step, width=width) for step in range(100, 1001, 50) for width in (0.05, 0.1)]
    found = posthoc(points, ProfilePoint(600, width=0.08))
    later = np.array([point.step > 600 for point in points])
    assert np.abs(found.coefficients[later]).max() < 1e-6


def test_narrower_than_anything_stored_is_flagged() -> None:
    points = [ProfilePoint(step, width=width) for step in range(500, 10_001, 500) for width in (0.05, 0.1)]
    between, beyond = (posthoc(points, ProfilePoint(10_000, width=width)) for width in (0.07, 0.02))
    assert not between.amplifies
    assert between.absolute_sum < 5 < beyond.absolute_sum
    assert between.error < 0.01 < beyond.error
    assert posthoc(points, ProfilePoint(10_000, width=0.012)).amplifies


def test_raw_weights_alone_take_the_gaps_before_them() -> None:
    steps = [300, 400, 700, 1000]
    raw = [ProfilePoint(step) for step in steps]
    np.testing.assert_allclose(
        posthoc(raw, ProfilePoint(1000, width=0.1)).coefficients, power_ema(steps, 0.1), rtol=1e-12
    )
    by_rate = posthoc(raw, ProfilePoint(1000, rate=0.99)).coefficients
    # The same gaps everywhere make it the profile of the paper.
    np.testing.assert_allclose(
        posthoc([ProfilePoint(step) for step in (100, 200, 300)], ProfilePoint(300, rate=0.99)).coefficients,
        ema([100, 200, 300], 0.99),
        rtol=1e-12,
    )
    assert by_rate[2] / by_rate[1] == pytest.approx(0.99**-300 * (1 - 0.99**300) / (1 - 0.99**100), rel=1e-9)
    assert posthoc(raw, ProfilePoint(700, width=0.1)).coefficients[3] == 0.0


@settings(max_examples=30, deadline=None)
@given(
    point=st.one_of(
        st.builds(ProfilePoint, st.integers(1, 400), rate=st.floats(0.01, 0.9999)),
        st.builds(ProfilePoint, st.integers(1, 400), width=st.floats(0.01, 0.28)),
    )
)
def test_profiles_are_those_of_the_recursions(point: ProfilePoint) -> None:
    # The average of one-hot weights is the profile itself.
    one_hot = np.eye(point.step + 1)
    profile = averages(one_hot, point)[point.step]
    mass = point.mass_until(np.arange(point.step + 1.0))
    np.testing.assert_allclose(np.diff(mass, prepend=0.0), profile, atol=1e-9)
    assert mass[-1] == 1.0


def test_a_run_too_long_to_be_summed_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [ProfilePoint(step, width=width) for step in range(1000, 20_001, 1000) for width in (0.05, 0.1)]
    target = ProfilePoint(20_000, rate=0.9995)
    exact = posthoc(points, target)
    monkeypatch.setattr(implementation, "MOST_CELLS", 3000)
    coarse = posthoc(points, target)
    np.testing.assert_allclose(coarse.coefficients, exact.coefficients, atol=2e-3)
    assert coarse.error == pytest.approx(exact.error, rel=0.02)


def test_the_error_is_the_distance_of_the_profiles() -> None:
    points = [ProfilePoint(100, rate=0.9), ProfilePoint(200, width=0.1)]
    target = ProfilePoint(200, rate=0.97)
    steps = np.arange(201.0)
    profiles = [np.diff(point.mass_until(steps), prepend=0.0) for point in points]
    wanted = np.diff(target.mass_until(steps), prepend=0.0)
    found = posthoc(points, target)
    combined = found.coefficients @ np.stack(profiles)
    assert found.error == pytest.approx(np.linalg.norm(combined - wanted) / np.linalg.norm(wanted), rel=1e-9)
    assert found.absolute_sum == pytest.approx(np.abs(found.coefficients).sum())


def test_the_absolute_sum_is_that_of_the_worst_group() -> None:
    assert absolute_sum(np.array([3.0, -2.0])) == 5.0
    assert not amplifies(np.array([[0.5, 0.5], [5.0, -5.0]]))
    assert amplifies(np.array([[0.5, 0.5], [6.0, -5.0]]))
    assert absolute_sum(np.array([[0.5, 0.5], [-2.0, 3.0], [4.0, -3.0]])) == 7.0


def test_the_widest_average_is_the_plain_one() -> None:
    assert power_exponent(_profiles.WIDEST) == pytest.approx(0.0, abs=1e-9)
    assert WIDTHS[1] < _profiles.WIDEST < WIDTHS[1] + 0.001


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProfilePoint(0), "step 0 has no profile"),
        (lambda: ProfilePoint(5, rate=1.0), "between 0 and 1, not 1"),
        (lambda: ProfilePoint(5, width=0.3), r"between 0 and 0\.2887, not 0\.3"),
        (lambda: ProfilePoint(5, rate=0.9, width=0.1), "has a rate and a width"),
        (lambda: posthoc([], ProfilePoint(5, rate=0.9)), "at least one snapshot"),
        (lambda: posthoc([ProfilePoint(5)], ProfilePoint(5)), "are no average"),
        (lambda: posthoc([ProfilePoint(900)], ProfilePoint(5, width=0.1)), "almost nothing of the average"),
        (lambda: posthoc([ProfilePoint(90_000, rate=0.99)], ProfilePoint(500, rate=0.9)), "almost nothing"),
    ],
)
def test_wrong_input(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(InputError, match=message):
        make()


@given(st.lists(st.integers(1, 100_000), min_size=2, max_size=30, unique=True).map(sorted), st.floats(0.01, 0.99999))
def test_the_recursion_from_the_first_checkpoint(steps: list[int], rate: float) -> None:
    one_hot = np.eye(len(steps))
    average = one_hot[0]
    for i in range(1, len(steps)):
        left = rate ** (steps[i] - steps[i - 1])
        average = left * average + (1.0 - left) * one_hot[i]
    alpha = ema_from_first(steps, rate)
    np.testing.assert_allclose(alpha, average, atol=1e-10)
    assert alpha.sum() == pytest.approx(1.0)
