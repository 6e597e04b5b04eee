"""Constraints: convex hull and clipping, with every kind of coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from wsopt.config.params import DifferenceParams, DirectParams
from wsopt.parameterizations import DifferenceBase, Direct, Parameterization
from wsopt.types import FloatArray, SpaceInfo

Numbers = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12)


def difference(count: int, **limits: object) -> DifferenceBase:
    one = DifferenceBase(DifferenceParams.model_validate(limits))
    one.bind(SpaceInfo(tuple(range(1, count + 1))))
    return one


def direct(count: int, **limits: object) -> Direct:
    one = Direct(DirectParams.model_validate(limits))
    one.bind(SpaceInfo(tuple(range(1, count + 1))))
    return one


def row(one: Parameterization, *x: float) -> FloatArray:
    alpha: FloatArray = one.coefficients(np.array([x]))[0, 0]
    return alpha


def test_convex_clips_and_divides() -> None:
    # alpha = (0.5, 1, -0.5) -> (0.5, 1, 0) / 1.5
    np.testing.assert_allclose(row(difference(3, constraint="convex"), 1.0, -0.5), [1 / 3, 2 / 3, 0.0])
    np.testing.assert_allclose(row(direct(3, constraint="convex"), 2.0, -5.0, 6.0), [0.25, 0.0, 0.75])


@pytest.mark.parametrize("x", [(0.0, 0.0), (-1.0, -2.0), (-1e300, 0.0)])
def test_nothing_positive_becomes_the_uniform_average(x: tuple[float, ...]) -> None:
    assert row(direct(2, constraint="convex"), *x).tolist() == [0.5, 0.5]


def test_the_smallest_numbers_are_divided_well() -> None:
    tiny = 5e-324
    np.testing.assert_allclose(row(direct(3, constraint="convex"), tiny, tiny, tiny), 1 / 3)
    np.testing.assert_allclose(row(direct(2, constraint="convex"), 1e308, 1e308), 0.5)


@given(Numbers)
def test_the_hull_is_kept_and_left_alone(numbers: list[float]) -> None:
    one = direct(len(numbers), constraint="convex")
    alpha = row(one, *numbers)
    assert (alpha >= 0).all()
    assert alpha.sum() == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_array_equal(row(one, *alpha), alpha)


def test_clip_sets_coefficients_to_the_limits_and_the_anchor_takes_the_rest() -> None:
    assert row(difference(3, constraint="clip"), 1.5, -2.0).tolist() == [2.0, 1.0, -2.0]
    assert row(difference(3, constraint="clip", upper=0.5, lower=-1.0), 1.5, -2.0).tolist() == [1.5, 0.5, -1.0]
    normalised = row(direct(3, constraint="clip", normalize=True), 3.0, 3.0, -5.0)
    assert normalised.tolist() == [5.0, 1.0, -5.0]


def test_clip_of_free_coefficients_clips_all() -> None:
    assert row(direct(3, constraint="clip", lower=-0.5), 3.0, -3.0, 0.25).tolist() == [1.0, -0.5, 0.25]


@given(Numbers)
def test_what_is_inside_the_limits_keeps_its_bits(numbers: list[float]) -> None:
    x = np.clip(np.array(numbers), -2.0, 1.0)
    free, clipped = difference(len(x) + 1), difference(len(x) + 1, constraint="clip", lower=-2.0)
    np.testing.assert_array_equal(clipped.coefficients(x[None]), free.coefficients(x[None]))


@pytest.mark.parametrize("limits", [{"constraint": "convex"}, {"constraint": "clip", "upper": 0.6}])
def test_a_start_beyond_the_constraint_is_moved_inside(limits: dict[str, object]) -> None:
    one = difference(3, **limits)
    outside = np.array([[0.2, 1.8, -1.0]])
    x = one.initial(outside)
    assert x.tolist() == one.coefficients(x[None])[0, 0, 1:].tolist()  # nothing is left to constrain
    assert one.coefficients(x[None])[0, 0].sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"constraint": "clip", "lower": 1.0}, r"lower must be less than upper \(1\), not 1"),
        ({"constraint": "convex", "upper": 0.5}, "upper is a limit of constraint = 'clip'"),
        ({"lower": 0.0}, "lower is a limit of constraint = 'clip'; the constraint is 'none'"),
        ({"constraint": "clip", "upper": float("nan")}, "finite"),
        ({"constraint": "box"}, "'none', 'convex' or 'clip'"),
        ({"normalize": True}, "Extra inputs"),
        ({"coordinates": "direct"}, "'difference', 'sum-zero', 'pca', 'sqrt-whitened' or 'whitened'"),
    ],
)
def test_settings_that_do_not_fit(params: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DifferenceParams.model_validate(params)
