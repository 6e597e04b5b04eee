from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from wsopt.compare._statistics import (
    LEAST_PAIRS,
    expected_running_time,
    holm,
    median_evaluations,
    quartiles,
    signed_rank,
    smallest_p,
)


def test_quartiles_are_numpys_over_finite_values() -> None:
    values = [3.0, 1.0, np.nan, 4.0, 1.5, 9.0]
    found = quartiles(values)
    assert found is not None
    assert (found.lower, found.median, found.upper) == tuple(np.nanpercentile(values, (25, 50, 75)))
    assert found.count == 5
    assert quartiles([np.nan]) is None
    assert quartiles([]) is None


def test_expected_running_time_by_hand() -> None:
    # 100 + 300 evaluations of the two that reached it, 2 x 400 of the two that did not, over two successes.
    assert expected_running_time([100, None, 300, None], 400) == 600.0
    assert expected_running_time([100, 300], 400) == 200.0
    assert expected_running_time([None, None], 400) is None
    assert expected_running_time([], 400) is None


@pytest.mark.parametrize(
    ("evaluations", "expected"),
    [
        ([5, 9, 7], 7.0),
        ([5, None, 7], 7.0),
        ([5, 9, None, None], None),  # the middle is between 9 and more than any budget
        ([5, None, None], None),
        ([5, 9, 20, None], 14.5),
        ([], None),
    ],
)
def test_median_counts_failures_as_more_than_any_budget(evaluations: list[int | None], expected: float | None) -> None:
    assert median_evaluations(evaluations) == expected


@given(st.lists(st.integers(1, 400) | st.none(), min_size=1, max_size=8), st.data(), st.integers(400, 900))
@settings(deadline=None, max_examples=60)
def test_a_better_run_never_has_a_larger_running_time(
    evaluations: list[int | None], data: st.DataObject, budget: int
) -> None:
    better = [data.draw(st.integers(1, one or budget)) if data.draw(st.booleans()) else one for one in evaluations]
    before, after = expected_running_time(evaluations, budget), expected_running_time(better, budget)
    assert before is None or (after is not None and after <= before)


def by_enumeration(differences: np.ndarray) -> float:
    """Two-sided p over all signs of the nonzero differences, zeros ranked (Pratt)."""
    from scipy.stats import rankdata

    ranks = rankdata(np.abs(differences))[differences != 0]
    observed = ranks[differences[differences != 0] > 0].sum()
    sums = np.array([(np.array(signs) * ranks).sum() for signs in itertools.product((0, 1), repeat=len(ranks))])
    return float(min(1.0, 2 * min((sums <= observed + 1e-9).mean(), (sums >= observed - 1e-9).mean())))


@pytest.mark.parametrize("count", range(1, 11))
def test_signed_rank_is_exact_with_ties_and_zeros(count: int) -> None:
    generator = np.random.Generator(np.random.PCG64(count))
    for _ in range(5):
        differences = generator.integers(-4, 6, size=count).astype(np.float64)
        assert_allclose(signed_rank(differences), by_enumeration(differences), rtol=1e-12)


@pytest.mark.parametrize("count", [6, 9, 15, 25, 40])
def test_signed_rank_is_scipys_where_all_differ(count: int) -> None:
    from scipy.stats import wilcoxon

    generator = np.random.Generator(np.random.PCG64(count))
    for shift in (0.0, 0.5, 2.0):
        differences = generator.normal(shift, 1.0, size=count)
        assert_allclose(signed_rank(differences), wilcoxon(differences, method="exact").pvalue, rtol=1e-10)


def test_signed_rank_ignores_order_and_direction() -> None:
    differences = np.array([0.3, -1.0, 2.0, 2.0, 0.0, 5.0, -0.3])
    assert signed_rank(differences) == signed_rank(-differences[::-1])
    assert signed_rank(np.zeros(7)) == 1.0


@pytest.mark.parametrize(("pairs", "expected"), [(0, 1.0), (1, 1.0), (5, 0.0625), (6, 0.03125), (8, 0.0078125)])
def test_smallest_p_is_that_of_all_signs_alike(pairs: int, expected: float) -> None:
    assert smallest_p(pairs) == expected
    if pairs:
        assert signed_rank(np.arange(1.0, pairs + 1)) == expected


def test_below_the_least_pairs_nothing_can_reach_five_per_cent() -> None:
    assert smallest_p(LEAST_PAIRS) < 0.05 < smallest_p(LEAST_PAIRS - 1)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04 with factors 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.06 after the running maximum.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    # Factors 5 .. 1 of 0.001, 0.008, 0.039, 0.041, 0.6.
    assert holm([0.041, 0.6, 0.008, 0.001, 0.039]) == pytest.approx([0.117, 0.6, 0.032, 0.005, 0.117])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_counts_tests_that_could_not_be_made() -> None:
    assert holm([0.01, None, 0.02]) == [pytest.approx(0.03), None, pytest.approx(0.04)]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(deadline=None, max_examples=60)
def test_holm_keeps_the_order_and_lowers_nothing(values: list[float]) -> None:
    corrected = [p for p in holm(list(values)) if p is not None]
    assert all(before <= after <= 1 for before, after in zip(values, corrected, strict=True))
    ranks = np.argsort(values, kind="stable")
    assert (np.diff(np.array(corrected)[ranks]) >= 0).all()
