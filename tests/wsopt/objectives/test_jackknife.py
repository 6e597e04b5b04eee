from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsopt.objectives.jackknife import BLOCKS, blocks_of, paired_stderr, stderr_of

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30)


def test_blocks_follow_from_the_index() -> None:
    assert blocks_of(range(23)).tolist() == [i % BLOCKS for i in range(23)]
    assert blocks_of([107, 3]).tolist() == [7, 3]
    assert blocks_of([]).shape == (0,)
    assert BLOCKS % 2 == 0, "even and odd blocks are the halves of even and odd samples"


@given(NUMBERS)
def test_of_means_it_is_the_textbook_standard_error(values: list[float]) -> None:
    x = np.array(values)
    replicates = (x.sum() - x) / (len(x) - 1)
    assert stderr_of(replicates) == pytest.approx(x.std(ddof=1) / np.sqrt(len(x)), rel=1e-6, abs=1e-6)


def test_by_hand() -> None:
    assert stderr_of([1.0, 2.0, 6.0]) == pytest.approx((2 / 3 * (4 + 1 + 9)) ** 0.5)
    assert stderr_of((5.0, 5.0)) == 0.0


@pytest.mark.parametrize("replicates", [None, (), (1.0,), (1.0, float("nan")), (1.0, float("inf"))])
def test_where_there_is_none(replicates: tuple[float, ...] | None) -> None:
    assert stderr_of(replicates) is None
    assert paired_stderr(replicates, (1.0, 2.0)) is None
    assert paired_stderr((1.0, 2.0), replicates) is None


@given(NUMBERS, st.floats(-1e3, 1e3))
def test_a_constant_difference_has_no_error(values: list[float], gap: float) -> None:
    first = np.array(values)
    assert paired_stderr(first, first + gap) == pytest.approx(0.0, abs=1e-8)
    assert paired_stderr(first, np.zeros_like(first)) == stderr_of(first)


def test_sets_of_other_blocks_do_not_pair() -> None:
    assert paired_stderr((1.0, 2.0, 3.0), (1.0, 2.0)) is None
