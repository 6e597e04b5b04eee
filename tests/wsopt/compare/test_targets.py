from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from compare_cells import make_cell
from wsopt.compare._base import CellRecord, TargetRow
from wsopt.compare._targets import Target, best_until, ecdf, target_rows, targets

LOSSES = st.lists(st.floats(0.5, 50.0) | st.just(float("nan")), min_size=6, max_size=20)


def goals(*cells: CellRecord, reference: str | None = "lcsc", budget: int = 8) -> dict[str, Target]:
    return {target.name: target for target in targets(cells, reference, budget)}


def rows_of(cells: list[CellRecord], budget: int, reference: str = "lcsc") -> dict[tuple[str, str], TargetRow]:
    found = targets(cells, reference, budget)
    instances = list(dict.fromkeys(cell.instance for cell in cells))
    rows: dict[tuple[str, str], TargetRow] = {}
    for method in {cell.method for cell in cells}:
        own = {cell.instance: cell for cell in cells if cell.method == method}
        rows |= {(method, row.target): row for row in target_rows(found, method, own, instances, budget)}
    return rows


def test_best_so_far_counts_combinations_alone_and_passes_failures() -> None:
    whole = [True, False, True, True, True, True]
    cell = make_cell(losses=[5, 1, float("nan"), 4, 6, 2], combination=whole, baselines=2)
    assert best_until(cell, 6).tolist() == [5, 5, 5, 4, 4, 2]
    assert best_until(cell, 4).tolist() == [5, 5, 5, 4]
    assert best_until(cell, 8).tolist() == [5, 5, 5, 4, 4, 2, 2, 2]


def test_best_so_far_before_the_first_combination_is_nan() -> None:
    cell = make_cell(losses=[1, float("nan"), 3], combination=[False, True, True], baselines=1)
    assert np.isnan(best_until(cell, 3)[:2]).all()
    assert best_until(cell, 3)[2] == 3


def test_ema_star_is_to_be_undercut_and_the_best_of_the_methods_counts() -> None:
    first = make_cell("lcsc", "a", [9, 8, 8, 7], baselines=2, ema_star=8.0)
    second = make_cell("cmaes", "a", [9, 8.5, 7, 7], baselines=2, ema_star=8.5)
    target = goals(first, second, budget=4)["EMA*"]
    assert target.losses == {"a": 8.0}
    assert target.reached(best_until(first, 4), "a") == 4
    assert target.reached(best_until(second, 4), "a") == 3


def test_the_final_of_the_reference_is_reached_by_equalling_it() -> None:
    first = make_cell("lcsc", "a", [9, 8, 6, 7], baselines=2)
    second = make_cell("cmaes", "a", [9, 8, 7, 6], baselines=2)
    rows = rows_of([first, second], 4)
    assert rows["lcsc", "final of lcsc"].evaluations == (3,)
    assert rows["cmaes", "final of lcsc"].evaluations == (4,)
    assert "final of lcsc" not in goals(first, second, reference=None)


def test_ten_targets_in_equal_ratios_by_hand() -> None:
    # Starts 16 and 64 have the median 40; the best found is 40 / 2**10.
    first = make_cell("lcsc", "a", [21, 16, 10, 8], baselines=2)
    second = make_cell("cmaes", "a", [64, 70, 30, 40 / 1024], baselines=2)
    found = goals(first, second, budget=4)
    assert_allclose([found[str(k)].losses["a"] for k in range(1, 11)], 40.0 / 2.0 ** np.arange(1, 11), rtol=1e-12)
    assert found["10"].losses["a"] == 40 / 1024
    rows = rows_of([first, second], 4)
    assert rows["cmaes", "10"].evaluations == (4,)
    assert rows["lcsc", "1"].evaluations == (2,)
    assert rows["lcsc", "2"].evaluations == (3,)
    assert rows["lcsc", "3"].evaluations == (None,)


def test_ten_targets_in_equal_steps_where_a_loss_is_not_positive() -> None:
    found = goals(make_cell("lcsc", "a", [5, 5, 1, -5], baselines=2), budget=4)
    assert_allclose([found[str(k)].losses["a"] for k in range(1, 11)], np.arange(4, -6, -1))


def test_an_instance_without_improvement_has_no_targets() -> None:
    flat = make_cell("lcsc", "a", [5, 4, 6, 7], baselines=2)
    good = make_cell("lcsc", "b", [5, 4, 3, 2], baselines=2)
    rows = rows_of([flat, good], 4)
    assert rows["lcsc", "10"].attempts == 1
    assert rows["lcsc", "10"].evaluations == (None, 4)
    assert rows["lcsc", "10"].ert == 4.0


def test_missing_runs_are_not_charged_and_failures_are() -> None:
    cells = [
        make_cell("lcsc", "a", [9, 8, 6, 5], baselines=2),
        make_cell("lcsc", "b", [9, 8, 6, 5], baselines=2),
        make_cell("lcsc", "c", [9, 8, 6, 5], baselines=2),
        make_cell("cmaes", "a", [9, 8, 4, 4], baselines=2),
        make_cell("cmaes", "c", [9, 8, 8, 8], baselines=2),
    ]
    row = rows_of(cells, 4)["cmaes", "final of lcsc"]
    assert row.evaluations == (3, None, None)
    assert (row.attempts, row.successes, row.ert, row.median) == (2, 1, 3 + 4, None)


def test_ecdf_by_hand() -> None:
    rows = [
        TargetRow("lcsc", "1", (2, 3), 2, 2, 2.5, 2.5),
        TargetRow("lcsc", "2", (5, None), 2, 1, 10.0, None),
    ]
    found = ecdf(rows, budget=5, baselines=2)
    assert found.evaluations.tolist() == [1, 2, 3, 4, 5]
    assert found.share.tolist() == [0, 0.25, 0.5, 0.5, 0.75]
    assert found.area == pytest.approx((0.5 + 0.5 + 0.75) / 3)
    assert ecdf(rows, budget=5, baselines=9).area == 0.75
    assert ecdf([], budget=3, baselines=1).share.tolist() == [0, 0, 0]


@given(st.lists(LOSSES, min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_ecdf_rises_within_its_range(losses: list[list[float]]) -> None:
    cells = [make_cell("lcsc", f"train.seed={i}", one, baselines=2) for i, one in enumerate(losses)]
    rows = list(rows_of(cells, 12).values())
    found = ecdf([row for row in rows if row.target.isdecimal()], 12, 2)
    assert (np.diff(found.share) >= 0).all()
    assert found.share.min() >= 0
    assert found.share.max() <= 1
    assert 0 <= found.area <= 1


@given(LOSSES, st.data())
@settings(deadline=None, max_examples=60)
def test_a_better_run_reaches_every_target_no_later(losses: list[float], data: st.DataObject) -> None:
    worse = make_cell("lcsc", "a", losses, baselines=2)
    better = make_cell("lcsc", "a", [one - data.draw(st.sampled_from([0.0, 0.3, 5.0])) for one in losses], baselines=2)
    budget = len(losses)
    target = Target("x", {"a": data.draw(st.floats(0.1, 60))}, below=data.draw(st.booleans()))
    late, soon = target.reached(best_until(worse, budget), "a"), target.reached(best_until(better, budget), "a")
    assert late is None or (soon is not None and soon <= late)
