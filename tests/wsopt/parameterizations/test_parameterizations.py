from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsopt.errors import InputError
from wsopt.parameterizations import DifferenceBase, ema, power_ema, power_exponent, single, uniform
from wsopt.types import SpaceInfo

Steps = st.lists(st.integers(1, 100_000), min_size=2, max_size=40, unique=True).map(sorted)


def bound(count: int) -> DifferenceBase:
    parameterization = DifferenceBase()
    parameterization.bind(SpaceInfo(steps=tuple(range(1, count + 1))))
    return parameterization


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30))
def test_difference_base_sums_to_one_and_inverts(rest: list[float]) -> None:
    parameterization = bound(len(rest) + 1)
    x = np.array(rest)
    alpha = parameterization.coefficients(x[None])
    assert alpha.shape == (1, 1, len(rest) + 1)
    assert alpha.sum() == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_array_equal(parameterization.initial(alpha[0]), x)
    assert parameterization.dimension == parameterization.scale().size == len(rest)


def test_difference_base_is_equation_seven() -> None:
    alpha = bound(3).coefficients(np.array([[0.5, -0.25], [0.0, 1.0]]))
    assert alpha[:, 0].tolist() == [[0.75, 0.5, -0.25], [0.0, 0.0, 1.0]]


def test_difference_base_shares_one_vector_over_groups() -> None:
    parameterization = DifferenceBase()
    parameterization.bind(SpaceInfo(steps=(1, 2, 3), groups=("in", "out")))
    alpha = parameterization.coefficients(np.array([[0.1, 0.2]]))
    assert alpha.shape == (1, 2, 3)
    np.testing.assert_array_equal(alpha[0, 0], alpha[0, 1])


def test_difference_base_needs_two_checkpoints() -> None:
    with pytest.raises(InputError, match="needs at least 2 checkpoints, the window has 1"):
        bound(1)


@given(Steps, st.floats(0.01, 0.99999))
def test_ema_profile_is_the_recursion_over_real_steps(steps: list[int], rate: float) -> None:
    alpha = ema(steps, rate)
    assert alpha.sum() == pytest.approx(1.0)
    assert (np.diff(alpha) >= 0).all()
    # gamma per training step: neighbours differ by gamma to the power of their distance
    i = len(steps) - 2
    assert alpha[i] == pytest.approx(alpha[i + 1] * rate ** (steps[i + 1] - steps[i]), rel=1e-6, abs=1e-300)


def test_ema_has_the_uniform_average_and_the_last_checkpoint_as_limits() -> None:
    steps = [100, 200, 300]
    np.testing.assert_allclose(ema(steps, 1 - 1e-12), uniform(3), atol=1e-8)
    np.testing.assert_allclose(ema(steps, 0.01), single(3, 2), atol=1e-8)


@pytest.mark.parametrize("width", [0.02, 0.05, 0.1, 0.2])
def test_power_ema_has_the_asked_width(width: float) -> None:
    steps = np.arange(1, 20_001)
    alpha = power_ema(list(steps), width)
    at = steps / steps[-1]
    mean = (alpha * at).sum()
    assert alpha.sum() == pytest.approx(1.0)
    assert np.sqrt((alpha * (at - mean) ** 2).sum()) == pytest.approx(width, rel=1e-3)


def test_power_ema_of_one_checkpoint_is_that_checkpoint() -> None:
    assert power_ema([300], 0.1).tolist() == [1.0]


def test_power_exponent_known_values() -> None:
    # the two widths that EDM2 keeps by default
    assert power_exponent(0.05) == pytest.approx(16.97, abs=0.01)
    assert power_exponent(0.10) == pytest.approx(6.94, abs=0.01)
