from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsopt.run._baselines import _evenly, next_rate


@given(st.integers(1, 300), st.integers(0, 40))
def test_singles_are_distinct_and_leave_out_the_last(stop: int, number: int) -> None:
    indices = _evenly(stop, number)
    assert len(set(indices)) == len(indices) == min(number, stop)
    assert all(0 <= index < stop for index in indices)


def test_the_grid_is_extended_where_an_end_wins() -> None:
    assert next_rate({0.9: 3.0, 0.99: 2.0, 0.999: 1.0}) == pytest.approx(0.9995)
    assert next_rate({0.9: 1.0, 0.99: 2.0, 0.999: 3.0}) == pytest.approx(0.8)
    assert next_rate({0.9: 2.0, 0.99: 1.0, 0.999: 3.0}) is None
    assert next_rate({0.4: 1.0, 0.9: 2.0}) is None
    assert next_rate({0.9: 1.0}) is None
