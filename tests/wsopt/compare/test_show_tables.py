from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from compare_cells import COLUMNS, TRAIN, make_cell, make_comparison
from wsopt.compare import Column, Comparison, PairTest, Quartiles, TargetRow, analyse
from wsopt.compare._show_details import declared_tests, pair_notes, stages, targets
from wsopt.compare._show_facts import missing_runs, record, speed_up
from wsopt.compare._show_grid import Entry, Grid, mark_best
from wsopt.compare._show_markdown import latex, markdown
from wsopt.compare._show_notes import extent, warnings
from wsopt.compare._show_numbers import Digits, evaluations, probability, short_names, signed_percent
from wsopt.compare._show_tables import against, effort, scores
from wsopt.compare._show_terminal import terminal_view


def many(methods: int, instances: int = 3, budget: int = 30) -> Comparison:
    """As many methods as one likes, with names that are long, all alike at their beginning."""
    rng = np.random.default_rng(5)
    cells = []
    for m in range(methods):
        name = "lcsc" if m == 0 else f"cmaes, covariance full, coordinates whitened, power {m / 10}"
        for i in range(instances):
            found = 18.0 + i - np.sort(rng.uniform(0, 3 + m, budget - 4))
            losses = [25.0 + i, 20.0 + i, 19.0 + i, 19.5 + i, *found]
            cells.append(make_cell(name, f"train.seed={i + 1}", losses, ema_star=19.0 + i, curve=(10, budget)))
    return analyse(cells, name="many", reference="lcsc", comparisons=None, forced=())


def shown(comparison: Comparison, colour: bool = False) -> str:
    file = io.StringIO()
    Console(file=file, width=100, force_terminal=colour, color_system="standard" if colour else None).print(
        terminal_view(comparison)
    )
    return file.getvalue()


def cell(grid: Grid | None, row: str, header: str) -> Entry:
    assert grid is not None
    position = [" ".join(one.split("\n")) for one in grid.headers].index(header)
    return next(entries for name, entries in (*grid.rows, *grid.below) if name == row)[position - 1]


@pytest.mark.parametrize(
    ("values", "value", "text"),
    [
        ([4.812, 13.02], 13.02, "13.02"),
        ([0.123456, 2.0], 2.0, "2.000"),
        ([1234.5, 20345.6], 20345.6, "20346"),
        ([1e-9, 5.0], 1e-9, "1e-09"),
        ([0.001, 70000.0], 70000.0, "7e+04"),
        ([-0.5, -2.25], -2.25, "−2.250"),
        ([0.0], 0.0, "0.00"),
        ([3.0, float("nan"), None], float("nan"), "—"),
        ([3.0], float("inf"), "—"),
        ([3.0], None, "—"),
        ([-0.5, 10.0], -0.0001, "0.000"),
    ],
)
def test_numbers_of_a_column(values: list[float | None], value: float | None, text: str) -> None:
    assert Digits(values)(value) == text


def test_a_single_value_has_no_quartiles() -> None:
    digits = Digits([4.8])
    assert digits.spread(Quartiles(4.8, 4.8, 4.8, 1)) == "4.80"
    assert digits.spread(Quartiles(4.8, 4.6, 5.0, 3)) == "4.80 [4.60, 5.00]"
    assert digits.spread(None) == "—"


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.63, "−63 %"), (0.041, "+4.1 %"), (12.5, "+1,250 %"), (0.0, "0 %"), (-0.0001, "0 %"), (None, "—")],
)
def test_changes(value: float | None, text: str) -> None:
    assert signed_percent(value) == text


def test_probabilities_and_evaluations() -> None:
    assert [probability(p) for p in (0.03125, 1e-6, None, float("nan"))] == ["0.031", "<0.0001", "—", "—"]
    assert [evaluations(n, 1200) for n in (1034.5, None)] == ["1,035", ">1,200"]


def test_short_names_stay_different() -> None:
    long = [f"{'a' * 40}{i}{'b' * 40}" for i in range(2)]
    assert short_names(long) == {name: name for name in long}
    cut = short_names(["cmaes, coordinates whitened, power 0.5", "lcsc"])
    assert cut["lcsc"] == "lcsc"
    assert len(cut["cmaes, coordinates whitened, power 0.5"]) <= 32


def test_best_marks_ties_and_knows_the_direction() -> None:
    grid = Grid(
        "g", "t", ("m", "x"), (("a", (Entry("1", 1.0),)), ("b", (Entry("1", 1.0),)), ("c", (Entry("2", 2.0),))),
        (("EMA*", (Entry("3", 3.0),)), ("floor (real images)", (Entry("0", 0.0),))),
    )  # fmt: skip
    for direction, best in ((True, ["a", "b"]), (False, ["EMA*"]), (None, [])):
        marked = mark_best(grid, [direction])
        assert [name for name, entries in (*marked.rows, *marked.below) if entries[0].best] == best


def test_scores_hold_methods_and_baselines() -> None:
    grid = scores(make_comparison(3, 3))
    assert [name for name, _ in grid.rows] == [
        "cmaes_vkd & 50% <b>", "one-plus-one, sqrt-whitened, step 0.03", "lcsc",
    ]  # fmt: skip
    assert [name for name, _ in grid.below] == [
        "EMA*", "best single checkpoint", "uniform average", "last checkpoint", "floor (real images)",
    ]  # fmt: skip
    assert grid.headers[1:3] == ("search\nFD(digits) ↓", "FD(digits) ↓\nto digits/train")
    assert cell(grid, "EMA*", "search FD(digits) ↓").text == "21.00 [20.50, 21.50]"
    first = grid.rows[0][1]
    assert all(entry.best for entry in first)
    assert not any(entry.best for _, entries in (*grid.rows[1:], *grid.below) for entry in entries)


def test_a_baseline_that_is_better_than_every_method_is_the_best() -> None:
    made = make_comparison(2, 3)
    best = {**made.baselines, ("ema*", TRAIN): Quartiles(0.01, 0.01, 0.01, 3)}
    grid = scores(replace(made, baselines=best))
    assert cell(grid, "EMA*", "FD(digits) ↓ to digits/train").best
    assert not cell(grid, "floor (real images)", "FD(digits) ↓ to digits/train").best


def test_against_counts_wins_losses_and_ties() -> None:
    made = make_comparison(2, 3)
    wins: dict[Column | None, np.ndarray] = dict.fromkeys(COLUMNS, np.array([[0, 0], [2, 0]]))
    wins[None] = np.array([[0, 1], [0, 0]])
    made = replace(made, wins=wins, tests=())
    first, reference = made.methods
    assert record(made, first, reference, None) == (1, 0, 2)
    assert record(made, first, reference, TRAIN) == (0, 2, 1)
    grid = against(made)
    assert grid is not None
    texts = [entry.text for entry in grid.rows[0][1]]
    assert texts[1] == "1-0-2"
    assert texts[5] == "0-2-1"
    assert grid.rows[1][1][0].text == "reference"


def test_speed_up_is_the_references_budget_by_the_running_time() -> None:
    made = make_comparison(2, 3, 40)
    row = TargetRow(made.methods[0], "final of lcsc", (8, 8, None), 3, 2, 20.0, 8.0)
    other = TargetRow("lcsc", "final of lcsc", (None, None, None), 3, 0, None, None)
    made = replace(made, targets=(row, other))
    assert speed_up(made, made.methods[0]) == 2.0
    assert speed_up(made, "lcsc") is None
    grid = against(made)
    assert cell(grid, made.methods[0], "speed-up").text == "2.0×"
    assert cell(grid, made.methods[0], "evaluations to its final").text == "8"
    assert cell(grid, "lcsc", "evaluations to its final").text == ">40"
    reached = targets(made)
    assert cell(reached, made.methods[0], "final of lcsc").text == "20 (2/3)"
    assert cell(reached, "lcsc", "final of lcsc").text == ">40"


def test_images_times_nfe_only_where_they_differ() -> None:
    made = make_comparison(2, 2)
    assert "images\n× NFE" not in effort(made).headers
    costs = tuple(replace(cost, network_evaluations=3 * cost.images, seconds=None) for cost in made.costs)
    grid = effort(replace(made, costs=costs))
    assert cell(grid, "lcsc", "images × NFE").text == "120,000"
    assert cell(grid, "lcsc", "time per evaluation").text == "—"


def test_no_p_below_six_pairs() -> None:
    few = make_comparison(3, 5)
    grid = declared_tests(few)
    assert grid is not None
    assert "p" not in grid.headers
    assert pair_notes(few) == [
        "5 pairs can show no difference at the 5 % level, whatever the scores (the smallest possible p is 0.0625): no "
        "p is given, read the counts."
    ]
    assert "ignifican" not in shown(few) + markdown(few) + latex(few)


def test_p_from_six_pairs_on() -> None:
    enough = make_comparison(3, 6)
    grid = declared_tests(enough, [None])
    assert grid is not None
    assert [entry.text for entry in grid.rows[0][1]][-2:] == ["0.031", "0.062"]
    assert not grid.rows[0][1][-1].best
    assert "0.031" in shown(enough)
    lonely = PairTest(enough.methods[0], "lcsc", None, 2, 1, 0, -0.2, 0.01, 0.01, 0.25)
    mixed = declared_tests(replace(enough, tests=(*enough.tests, lonely)), [None])
    assert mixed is not None
    assert [entry.text for entry in mixed.rows[-1][1]][-2:] == ["—", "—"]


def test_the_numbered_targets_are_explained() -> None:
    grid = targets(make_comparison(manifest={"targets": "10 targets per instance"}))
    assert grid is not None
    assert grid.notes[1:] == ("EMA*: beaten, not only reached. 1 to 10: 10 targets per instance.",)


def test_notes_name_what_was_forced_and_what_is_missing() -> None:
    made = make_comparison(3, 3)
    made = replace(
        made, cells=made.cells[:-1], forced=("samples differ: 500 and 1000",), manifest={"notes": ["Ties: none [b]."]}
    )
    assert missing_runs(made) == [("cmaes_vkd & 50% <b>", "train.seed=3")]
    assert warnings(made) == [
        "Forced: samples differ: 500 and 1000.",
        "Missing: no finished run of cmaes_vkd & 50% <b> on train.seed=3.",
    ]
    assert extent(made).startswith("3 methods; 3 instances; 8 finished runs; 4 of 40 evaluations are baselines")
    text = shown(made)
    assert "Forced: samples differ" in text
    assert "Ties: none [b]." in text


@pytest.mark.parametrize(("methods", "instances"), [(1, 1), (3, 3), (6, 6)])
def test_the_terminal_is_a_hundred_columns_wide(methods: int, instances: int) -> None:
    text = shown(make_comparison(methods, instances))
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)


def test_twelve_long_names_stay_readable() -> None:
    text = shown(many(12))
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert len(text.splitlines()) < 140
    squeezed = "".join(text.split())
    for m in range(1, 12):
        assert squeezed.count(f"power{m / 10}") >= 3  # the whole name in each of the tables


def test_the_best_is_bold_on_a_terminal() -> None:
    made = make_comparison(2, 3)
    best = scores(made).rows[0][1][0].text
    assert re.search(rf"\x1b\[1m *{re.escape(best)}", shown(made, colour=True))


def test_one_method_has_nothing_to_be_compared_with() -> None:
    one = make_comparison(1, 1)
    assert against(one) is None
    assert declared_tests(one) is None
    text = shown(one)
    assert "Compared with" not in text
    assert " [" not in scores(one).rows[0][1][0].text  # no quartiles of one instance


def test_a_search_that_does_not_compare_is_left_out() -> None:
    made = make_comparison(
        3, 3, search_comparable=False, search={}, targets=(), ecdf={}, fixed_budget={}, forced=("quantize differs",)
    )
    made = replace(
        made,
        wins={key: value for key, value in made.wins.items() if key is not None},
        tests=tuple(test for test in made.tests if test.column is not None),
    )
    assert scores(made).headers[1] == "FD(digits) ↓\nto digits/train"
    assert targets(made) is None
    assert stages(made) is None
    assert "Search scores were made differently" in shown(made)
    assert "search\n" not in "".join((against(made) or scores(made)).headers)
    assert "ECDF" not in markdown(made) + latex(made)


def test_a_maximised_objective_turns_arrows_and_best_round() -> None:
    cells = [
        make_cell(name, f"train.seed={i}", [-1.0 - i, -2.0, -3.0 - gain], baselines=1, sign=-1.0, ema_star=-1.5)
        for name, gain in (("a", 0.0), ("b", 4.0))
        for i in (1, 2)
    ]
    made = analyse(cells, name="up", reference="a", comparisons=None, forced=())
    grid = scores(made)
    assert grid.headers[1] == "search\nFD(digits) ↑"
    assert cell(grid, "b", "search FD(digits) ↑").text == "7.00 [7.00, 7.00]"
    assert cell(grid, "b", "search FD(digits) ↑").best
    assert cell(grid, "EMA*", "search FD(digits) ↑").text == "1.50 [1.50, 1.50]"
    found = against(made)
    assert cell(found, "b", "search FD(digits) ↑ change").text == "+133 %"
