from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from compare_cells import BASELINES, COLUMNS, METHODS, OTHER, TEST, TRAIN, make_cell, make_cells
from wsopt.compare._analyse import analyse
from wsopt.compare._base import CellRecord, Comparison, Curve, Ecdf
from wsopt.errors import InputError

LCSC, PLUS, CMAES = METHODS[:3]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return analyse(make_cells(3, 8), name="toy")


def plain(value: object) -> object:
    """Records as values that can be compared: arrays as lists, NaN as text."""
    if isinstance(value, np.ndarray):
        return [plain(one) for one in value.tolist()]
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, Curve | Ecdf | Comparison | CellRecord):
        return {key: plain(one) for key, one in vars(value).items()}
    return value


def test_the_best_method_comes_first(comparison: Comparison) -> None:
    assert comparison.methods == (CMAES, PLUS, LCSC)
    areas = [comparison.ecdf[method].area for method in comparison.methods]
    assert areas == sorted(areas, reverse=True)
    assert comparison.reference == LCSC
    assert comparison.instances == tuple(f"train.seed={i}" for i in range(1, 9))
    assert (comparison.label, comparison.minimize, comparison.budgets) == ("FD(digits)", True, (40,))
    assert [cell.method for cell in comparison.cells] == [CMAES] * 8 + [PLUS] * 8 + [LCSC] * 8


def test_fixed_budgets_are_quartiles_of_best_so_far(comparison: Comparison) -> None:
    cells = [cell for cell in comparison.cells if cell.method == PLUS]
    rows = comparison.fixed_budget[PLUS]
    assert [(share, number) for share, number, _ in rows] == [(0.1, 4), (0.25, 10), (0.5, 20), (1.0, 40)]
    for _, number, found in rows:
        values = [np.nanmin(cell.losses[:number]) for cell in cells]
        assert_allclose((found.lower, found.median, found.upper), np.percentile(values, (25, 50, 75)))
        assert found.count == 8
    curve = comparison.search[PLUS]
    assert curve.evaluations.tolist() == list(range(1, 41))
    assert_allclose(curve.median[[3, 9, 19, 39]], [found.median for _, _, found in rows])


def test_columns_begin_with_the_searchs_own() -> None:
    cells = [
        make_cell(method, "train.seed=1", finals={TEST: 3.0, OTHER: 2.0, TRAIN: 1.0}) for method in (LCSC, CMAES)
    ]  # fmt: skip
    assert analyse(cells, name="toy").columns == (TRAIN, TEST, OTHER)


def test_finals_and_baselines(comparison: Comparison) -> None:
    ends = [cell.best_so_far()[-1] / 2 for cell in comparison.cells if cell.method == LCSC]
    assert comparison.finals[LCSC, TEST].median == pytest.approx(np.median(ends) + 1)
    assert comparison.baselines["ema*", TRAIN].median == pytest.approx(17 + np.median(range(8)))
    assert comparison.baselines["floor", OTHER].median == 1.1
    assert {name for name, _ in comparison.baselines} == {"ema*", "last", "uniform", "best-single", "floor"}


def test_the_validated_winner_counts_where_it_was_exported() -> None:
    cell = make_cell(LCSC, finals={TRAIN: 9.0})
    row = next(row for row in cell.rows if row.name == "best")
    rows = (*cell.rows, replace(row, name="validated", value=7.0))
    assert analyse([replace(cell, rows=rows)], name="toy").finals[LCSC, TRAIN].median == 9.0
    chosen = replace(cell, rows=rows, results={**cell.results, "exported": "validated"})
    assert analyse([chosen], name="toy").finals[LCSC, TRAIN].median == 7.0


def test_the_report_curve_is_where_it_was_scored(comparison: Comparison) -> None:
    curve = comparison.report[LCSC, TEST]
    assert curve.evaluations.tolist() == [10, 20, 40]
    assert_allclose(curve.median, comparison.search[LCSC].median[[9, 19, 39]] / 2 + 1)
    assert analyse([make_cell(LCSC)], name="toy").report == {}


def test_curves_are_empty_where_less_than_half_of_the_runs_have_a_value() -> None:
    points = [(10, 20, 30), (20, 30), (20, 40)]
    losses = [float(100 - n) for n in range(40)]
    cells = [make_cell(LCSC, f"train.seed={i}", losses, curve=curve) for i, curve in enumerate(points)]
    curve = analyse(cells, name="toy").report[LCSC, TRAIN]
    assert curve.evaluations.tolist() == [10, 20, 30, 40]
    assert np.isnan(curve.median).tolist() == [True, False, False, True]
    assert curve.median[2] == (100 - 29) / 2 + 1


def test_wins_count_paired_instances_and_ties_are_nobodys() -> None:
    cells = [
        make_cell("a", "train.seed=1", [9, 5], baselines=1), make_cell("b", "train.seed=1", [9, 4], baselines=1),
        make_cell("a", "train.seed=2", [9, 5], baselines=1), make_cell("b", "train.seed=2", [9, 5], baselines=1),
        make_cell("a", "train.seed=3", [9, 5], baselines=1), make_cell("b", "train.seed=4", [9, 5], baselines=1),
    ]  # fmt: skip
    found = analyse(cells, name="toy", reference="a")
    position = {method: i for i, method in enumerate(found.methods)}
    assert found.wins[None][position["b"], position["a"]] == 1
    assert found.wins[None].sum() == 1
    (test, *_) = found.tests
    assert (test.wins, test.losses, test.ties, test.pairs) == (1, 0, 1, 2)
    assert test.change == pytest.approx((-0.2 + 0) / 2)
    assert (test.p, test.p_holm, test.smallest_p) == (None, None, 0.5)


def test_declared_comparisons_are_corrected_within_a_column(comparison: Comparison) -> None:
    assert [(test.first, test.second, test.column) for test in comparison.tests] == [
        (method, LCSC, column) for column in (None, *COLUMNS) for method in sorted((PLUS, CMAES))
    ]
    assert [test.p for test in comparison.tests] == [2 / 2**8] * 8
    assert [test.p_holm for test in comparison.tests] == [2 * 2 / 2**8] * 8
    (one, *_) = analyse(make_cells(3, 8), name="toy", comparisons=[(PLUS, CMAES)]).tests
    assert (one.first, one.second, one.wins, one.losses) == (PLUS, CMAES, 0, 8)
    assert one.p == one.p_holm == 2 / 2**8
    assert one.change is not None
    assert one.change > 0


def test_no_p_below_six_pairs() -> None:
    assert {test.p for test in analyse(make_cells(2, 5), name="toy").tests} == {None}
    assert {test.p for test in analyse(make_cells(2, 6), name="toy").tests} == {2 / 2**6}


def test_a_maximised_objective_is_the_mirror_image() -> None:
    cells = make_cells(3, 3)
    mirrored = [
        replace(
            cell,
            sign=-1.0,
            rows=tuple(replace(row, value=-row.value) for row in cell.rows),
            curve=tuple((n, tuple(replace(row, value=-row.value) for row in rows)) for n, rows in cell.curve),
            results={**cell.results, "objective": {**cell.results["objective"], "direction": "maximize"}},
        )
        for cell in cells
    ]
    usual, found = analyse(cells, name="toy"), analyse(mirrored, name="toy")
    assert not found.minimize
    assert found.methods == usual.methods
    assert found.targets == usual.targets
    assert_allclose(found.search[PLUS].median, -usual.search[PLUS].median)
    assert_allclose(found.search[PLUS].lower, -usual.search[PLUS].upper)
    assert_allclose(found.report[PLUS, TEST].lower, -usual.report[PLUS, TEST].upper)
    assert found.finals[PLUS, TEST].median == -usual.finals[PLUS, TEST].median
    assert [test.wins for test in found.tests] == [test.wins for test in usual.tests]
    assert [test.change for test in found.tests] == [pytest.approx(-(test.change or 0)) for test in usual.tests]
    assert [row.worse_than_start for row in found.gaps] == [row.worse_than_start for row in usual.gaps]


def test_costs() -> None:
    cells = [make_cell(LCSC, f"train.seed={i}", seconds=0.1 * i, nfe=2, samples=100) for i in (1, 2, 3)]
    seconds = np.full(40, np.nan)
    cells[1] = replace(cells[1], seconds=seconds)
    (row,) = analyse(cells, name="toy").costs
    assert (row.evaluations, row.baselines) == (40, BASELINES)
    assert row.seconds == pytest.approx(0.2)
    assert row.optimizer_seconds == pytest.approx(0.04 / 36)
    assert (row.images, row.network_evaluations) == (4000, 8000)
    validated = [replace(c, results={**c.results, "validation": {"samples": 50, "evaluations": 10}}) for c in cells]
    assert analyse(validated, name="toy").costs[0].images == 4500
    unmeasured = [replace(cell, seconds=seconds) for cell in cells]
    assert analyse(unmeasured, name="toy").costs[0].seconds is None


def test_gaps() -> None:
    cells = [
        make_cell(LCSC, f"train.seed={i}", optimism=gap, finals={TRAIN: final}, ema_finals={TRAIN: 5.0})
        for i, (gap, final) in enumerate([(0.1, 4.0), (0.3, 6.0), (None, 5.0)])
    ]
    (row,) = analyse(cells, name="toy").gaps
    assert row.optimism is not None
    assert row.optimism.median == pytest.approx(0.2)
    assert row.optimism.count == 2
    assert (row.worse_than_start, row.count) == (1, 3)


def test_other_budgets_are_compared_at_the_smallest() -> None:
    losses = [float(100 - n) for n in range(40)]
    long = make_cell("long", losses=losses, curve=(20, 40))
    other = make_cell("other", losses=losses, curve=(10, 40))
    short = make_cell("short", losses=losses[:20])
    found = analyse([long, other, short], name="toy", reference="short")
    assert found.budgets == (20, 40)
    assert len(found.search["long"].evaluations) == 20
    assert found.fixed_budget["long"][-1][2].median == 81.0
    assert found.finals["long", TRAIN].median == 81 / 2 + 1
    assert ("other", TRAIN) not in found.finals
    assert any("compared at 20" in note for note in found.manifest["notes"])


def test_a_run_that_ended_within_the_smallest_budget_keeps_its_winner() -> None:
    """Its budget was larger, and nothing of it was done after the smallest one: there is no other winner."""
    ended = make_cell("ended", losses=[float(100 - n) for n in range(15)], budget=40, finals={TRAIN: 7.0}, curve=(15,))
    short = make_cell("short", losses=[100.0] * 20, finals={TRAIN: 9.0})
    found = analyse([ended, short], name="toy", reference="short")
    assert found.finals["ended", TRAIN].median == 7.0
    assert found.wins[TRAIN][found.methods.index("ended")].sum() == 1


def test_optimism_is_of_the_winner_at_the_smallest_budget() -> None:
    short = make_cell("short", losses=[100.0] * 20)
    for late, expected in ((3.0, None), (5.0, 0.2)):
        long = make_cell("long", losses=[5.0] * 20 + [late] * 20, optimism=0.2)
        (row,) = (one for one in analyse([short, long], name="toy").gaps if one.method == "long")
        assert (row.optimism and row.optimism.median) == expected


def test_scores_of_another_measure_leave_the_report_alone() -> None:
    cells = make_cells(2, 3)
    fewer = [
        replace(cell, resolved={**cell.resolved, "search": {**cell.resolved["search"], "samples": 10}})
        if cell.method == PLUS
        else cell
        for cell in cells
    ]
    with pytest.raises(InputError, match=r"search\.samples"):
        analyse(fewer, name="toy")
    found = analyse(fewer, name="toy", forced=["search.samples"])
    assert not found.search_comparable
    assert len(found.forced) == 1
    assert "search.samples is 10" in found.forced[0]
    assert (found.search, found.targets, found.ecdf) == ({}, (), {})
    assert set(found.wins) == set(COLUMNS) == {test.column for test in found.tests}
    assert found.methods == (PLUS, LCSC)  # by report score
    json.dumps(dict(found.manifest), allow_nan=False)


def test_the_manifest_says_what_the_numbers_stand_on() -> None:
    cells = make_cells(2, 3)
    cells[0] = replace(cells[0], provenance={**cells[0].provenance, "packages": {"wsopt": "0.1.0", "torch": "2.6.0"}})
    tuning = {"lcsc": "mutation_scale from 0.01, 0.03 on train.seed 3"}
    found = analyse(cells[:-1], name="toy", tuning=tuning).manifest
    assert found["packages"]["torch"] == ["2.6.0", "2.13.0"]
    assert found["differing"] == ["torch"]
    assert found["instances"]["train.seed=2"] == {"checkpoints": [f"{2:064x}"], "seed": [0], "train_seed": [2]}
    assert found["methods"][PLUS]["runs"] == 2
    config = found["methods"][LCSC]["config"]
    assert config["search.samples"] == 1000
    assert not {"seed", "train.seed", "output", "checkpoints.path"} & config.keys()
    assert found["methods"][LCSC]["varied"] == []
    assert found["tuning"] == tuning
    assert any(note.startswith(f"{PLUS} has no run on train.seed=3") for note in found["notes"])
    assert any("torch was 2.6.0 and 2.13.0" in note for note in found["notes"])
    assert any("evaluations failed" in note for note in found["notes"])
    json.dumps(dict(found), allow_nan=False)


def test_the_order_of_runs_changes_nothing() -> None:
    cells = make_cells(3, 4)[:-1]
    expected = plain(analyse(cells, name="toy"))
    generator = random.Random(3)
    for _ in range(3):
        generator.shuffle(cells)
        assert plain(analyse(cells, name="toy")) == expected


def test_one_method_has_no_reference() -> None:
    found = analyse([make_cell(LCSC)], name="toy", reference=LCSC)
    assert (found.reference, found.tests, found.wins[None].tolist()) == (None, (), [[0]])
    assert [row.target for row in found.targets] == ["EMA*", *map(str, range(1, 11))]


def test_a_run_in_which_everything_failed_loses() -> None:
    failed = make_cell("failed", losses=[math.nan] * 40, finals={TRAIN: 50.0}, ema_star=None)
    found = analyse([failed, make_cell(LCSC, finals={TRAIN: 5.0})], name="toy")
    assert found.methods == (LCSC, "failed")
    assert found.fixed_budget["failed"] == ()
    assert np.isnan(found.search["failed"].median).all()
    assert {row.successes for row in found.targets if row.method == "failed"} == {0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reference": "sgd"}, "the reference 'sgd' is no method of the comparison. These are: "),
        ({"comparisons": [("sgd", LCSC)]}, "comparisons: 'sgd' is no method of the comparison"),
    ],
)
def test_unknown_methods_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        analyse(make_cells(2, 1), name="toy", **arguments)


def test_runs_that_make_no_comparison_are_refused() -> None:
    with pytest.raises(InputError, match="there are no runs to compare"):
        analyse([], name="toy")
    with pytest.raises(InputError, match=r"are both runs of 'lcsc' on 'train\.seed=1'"):
        analyse([make_cell(), replace(make_cell(), losses=make_cell().losses + 1)], name="toy")
    with pytest.raises(InputError, match="some of the runs minimise"):
        analyse([make_cell(), make_cell("other", sign=-1.0)], name="toy", forced=["all"])


def test_the_analysis_needs_no_heavy_library() -> None:
    heavy = {"torch", "scipy", "sklearn", "matplotlib", "cma", "nevergrad"}
    script = (
        "import sys\nimport wsopt.compare._analyse, wsopt.compare._read\n"
        f"print('found', sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "found []"
