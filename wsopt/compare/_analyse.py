"""Everything that is shown of a comparison, worked out from its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsopt.compare._base import CellRecord, Column, Comparison, Ecdf, Quartiles, TargetRow
from wsopt.compare._comparable import check_comparable
from wsopt.compare._names import natural
from wsopt.compare._pairs import pair_tests, win_matrix
from wsopt.compare._series import (
    BASELINES,
    Runs,
    baseline_score,
    cost,
    direction,
    final_score,
    fixed_budget,
    gap,
    report_curve,
    search_curve,
)
from wsopt.compare._statistics import quartiles
from wsopt.compare._targets import STEPS, ecdf, in_ratios, ladder_ends, target_rows, targets
from wsopt.compare._tried import manifest
from wsopt.errors import InputError
from wsopt.report import metric_label

_TARGETS = (
    f"{STEPS} targets per instance, in equal {{}} from the median over methods of the best baseline combination to the "
    f"best search score that any method found within the budget"
)


def analyse(
    cells: Sequence[CellRecord],
    *,
    name: str,
    reference: str | None = None,
    comparisons: Sequence[tuple[str, str]] | None = None,
    forced: Sequence[str] = (),
    tuning: Mapping[str, Any] | None = None,
) -> Comparison:
    """Work out a comparison. The order of `cells` changes nothing.

    Args:
        cells: the runs, at most one per method and instance.
        name: of the comparison.
        reference: the method that others are compared with. Where None: the first by name of those that use the paper's
            search (``lcsc``), else the first by name.
        comparisons: pairs of methods that are tested, declared before the results were seen; every other method against
            the reference where None.
        forced: kinds of differences that are allowed, see `wsopt.compare.check_comparable`.
        tuning: how the methods' settings were chosen; kept in the manifest.

    Raises:
        InputError: for no runs, runs that cannot be compared and are not forced, objectives of opposite directions,
            two runs of a method on an instance, and names that are no method's.
    """
    if not cells:
        raise InputError("there are no runs to compare. Give the folders of finished runs, runs/NAME-HASH.")
    runs = _by_method(cells)
    differing = check_comparable(cells, forced)
    if len({cell.sign for cell in cells}) > 1:
        raise InputError("some of the runs minimise their objective and some maximise it. Leave one kind out.")
    instances = tuple(sorted({cell.instance for cell in cells}, key=natural))
    runs = {method: {i: of[i] for i in instances if i in of} for method, of in runs.items()}
    reference = _reference(runs, reference)
    pairs = _comparisons(runs, reference, comparisons)
    budget = min(cell.budget for cell in cells)
    comparable = not any("search" in one.spoils for one in differing)
    own, columns = _columns(runs)
    finals = _finals(runs, columns, budget)
    rows, ecdfs = _targets(runs, instances, reference, budget) if comparable else ((), {})
    methods = _order(runs, ecdfs, finals, columns)
    ordered = {method: runs[method] for method in methods}
    scored: list[Column | None] = [*([None] if comparable else []), *columns]
    first = next(iter(runs[methods[0]].values()))
    return Comparison(
        name=name,
        label=_label(first),
        minimize=first.sign > 0,
        methods=methods,
        instances=instances,
        reference=reference,
        budgets=tuple(sorted({cell.budget for cell in cells})),
        forced=tuple(one.text for one in differing),
        search_comparable=comparable,
        columns=columns,
        fixed_budget={method: fixed_budget(of, budget) for method, of in ordered.items()},
        finals=finals,
        baselines=_baselines(runs, instances, columns),
        search={method: search_curve(of, budget) for method, of in ordered.items()} if comparable else {},
        report={
            (method, column): curve
            for method, of in ordered.items()
            for column in columns
            if (curve := report_curve(of, column)) is not None
        },
        targets=tuple(row for method in methods for row in rows if row.method == method),
        ecdf={method: ecdfs[method] for method in methods} if comparable else {},
        wins={column: win_matrix(methods, runs, column, budget) for column in scored},
        tests=tuple(test for column in scored for test in pair_tests(pairs, column, runs, budget)),
        costs=tuple(cost(method, of) for method, of in ordered.items()),
        gaps=tuple(gap(method, of, own, budget) for method, of in ordered.items()),
        cells=tuple(cell for of in ordered.values() for cell in of.values()),
        manifest=manifest(ordered, instances, pairs, _in_words(cells, budget) if comparable else "", tuning),
    )


def _by_method(cells: Sequence[CellRecord]) -> dict[str, dict[str, CellRecord]]:
    """Method -> instance -> run, methods by name."""
    runs: dict[str, dict[str, CellRecord]] = {}
    for cell in sorted(cells, key=lambda cell: natural(cell.method)):
        other = runs.setdefault(cell.method, {}).setdefault(cell.instance, cell)
        if other is not cell:
            raise InputError(
                f"{other.path} and {cell.path} are both runs of {cell.method!r} on {cell.instance!r}. Leave one out."
            )
    return runs


def _reference(runs: Mapping[str, Runs], wanted: str | None) -> str | None:
    if wanted is not None and wanted not in runs:
        raise InputError(f"the reference {wanted!r} is no method of the comparison. These are: {', '.join(runs)}.")
    if len(runs) < 2:
        return None
    if wanted is not None:
        return wanted
    paper = [m for m, of in runs.items() if all(cell.results.get("optimizer") == "lcsc" for cell in of.values())]
    return (paper or list(runs))[0]


def _comparisons(
    runs: Mapping[str, Runs], reference: str | None, declared: Sequence[tuple[str, str]] | None
) -> list[tuple[str, str]]:
    if declared is None:
        return [] if reference is None else [(method, reference) for method in runs if method != reference]
    pairs = [(first, second) for first, second in declared]
    unknown = [method for pair in pairs for method in pair if method not in runs]
    if unknown:
        raise InputError(f"comparisons: {unknown[0]!r} is no method of the comparison. These are: {', '.join(runs)}.")
    return pairs


def _columns(runs: Mapping[str, Runs]) -> tuple[Column | None, tuple[Column, ...]]:
    """The search's own column, None where the report was not scored in it; and all of the report, that one first."""
    cells = [cell for of in runs.values() for cell in of.values()]
    winners = ("best", "validated")
    columns = dict.fromkeys(
        row.column for cell in cells for row in cell.rows if row.split == "report" and row.name in winners
    )
    objective = cells[0].results.get("objective") or {}
    own: Column = (str(objective.get("name")), objective.get("features"), objective.get("reference"))
    if own not in columns:
        return None, tuple(columns)
    return own, (own, *(column for column in columns if column != own))


def _finals(runs: Mapping[str, Runs], columns: Sequence[Column], budget: int) -> dict[tuple[str, Column], Quartiles]:
    found = {}
    for method, of in runs.items():
        for column in columns:
            scores = [final_score(cell, column, budget) for cell in of.values()]
            values = quartiles([score for score in scores if score is not None])
            if values is not None:
                found[method, column] = values
    return found


def _baselines(
    runs: Mapping[str, Runs], instances: Sequence[str], columns: Sequence[Column]
) -> dict[tuple[str, Column], Quartiles]:
    found = {}
    for name in BASELINES:
        for column in columns:
            medians = []
            for instance in instances:
                scores = [baseline_score(of[instance], name, column) for of in runs.values() if instance in of]
                one = quartiles([score for score in scores if score is not None])
                medians += [] if one is None else [one.median]
            values = quartiles(medians)
            if values is not None:
                found[name, column] = values
    return found


def _targets(
    runs: Mapping[str, Runs], instances: Sequence[str], reference: str | None, budget: int
) -> tuple[tuple[TargetRow, ...], dict[str, Ecdf]]:
    cells = [cell for of in runs.values() for cell in of.values()]
    goals = targets(cells, reference, budget)
    baselines = max(cell.baselines for cell in cells)
    rows = {method: target_rows(goals, method, of, instances, budget) for method, of in runs.items()}
    ecdfs = {method: ecdf(of_method[-STEPS:], budget, baselines) for method, of_method in rows.items()}
    return tuple(row for of_method in rows.values() for row in of_method), ecdfs


def _order(
    runs: Mapping[str, Runs],
    ecdfs: Mapping[str, Ecdf],
    finals: Mapping[tuple[str, Column], Quartiles],
    columns: Sequence[Column],
) -> tuple[str, ...]:
    """The best first: by area under the ECDF, or by the report score of the first column where there is none."""

    def badness(method: str) -> float:
        if ecdfs:
            return -ecdfs[method].area
        if not columns or (method, columns[0]) not in finals:
            return np.inf
        sign = direction(next(iter(runs[method].values())), columns[0]) or 1.0
        return sign * finals[method, columns[0]].median

    return tuple(sorted(runs, key=lambda method: (badness(method), natural(method))))


def _label(cell: CellRecord) -> str:
    objective = cell.results.get("objective") or {}
    return str(objective.get("label") or metric_label(str(objective.get("name")), objective.get("features")))


def _in_words(cells: Sequence[CellRecord], budget: int) -> str:
    return _TARGETS.format("ratios" if in_ratios(ladder_ends(cells, budget)) else "steps")
