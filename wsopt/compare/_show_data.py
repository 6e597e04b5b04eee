"""A comparison as CSV and JSON: what other programs read."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsopt.compare._base import CellRecord, Column, Comparison, Curve, Quartiles
from wsopt.report import ScoreRow

_MAIN_ROWS = ("best", "validated", "recommended", "ema*", "best-single", "uniform", "last", "floor")


def runs_csv(comparison: Comparison) -> str:
    """One row per evaluation of every run, in the long format of IOHinspector.

    Columns of IOHinspector: ``data_id`` (one number per run), ``algorithm_name`` (the method), ``function_name`` (what
    is scored), ``function_id``, ``instance`` (a number, from 1), ``run_id``, ``evaluations`` (from 1, baselines
    included), ``raw_y`` (best so far of the combinations, in natural values; empty before the first). Others:
    ``instance_name``; ``value``, this evaluation's own score, empty where it failed; ``loss``, the minimised number;
    ``baseline`` and ``combination``, 1 or 0; ``seconds``, empty where they were not measured.
    """
    header = (
        "data_id", "algorithm_name", "function_name", "function_id", "instance", "run_id", "evaluations", "raw_y",
        "instance_name", "value", "loss", "baseline", "combination", "seconds",
    )  # fmt: skip
    rows: list[Sequence[object]] = []
    for number, cell in enumerate(_ordered(comparison), 1):
        best = cell.sign * cell.best_so_far()
        place = comparison.instances.index(cell.instance) + 1
        run = (number, cell.method, comparison.label, 1, place, place)
        for i, loss in enumerate(cell.losses):
            is_baseline = int(i < cell.baselines)
            own = (cell.instance, cell.sign * loss, loss, is_baseline, int(cell.combination[i]), cell.seconds[i])
            rows.append((*run, i + 1, best[i], *own))
    return _csv(header, rows)


def cells_csv(comparison: Comparison) -> str:
    """One row per run: its final scores in every column, and what is known of the run."""
    named = [(name, column) for name in _MAIN_ROWS for column in comparison.columns]
    there = {(row.name, row.column) for cell in comparison.cells for row in cell.rows}
    shown = [key for key in named if key in there]
    header = [
        "method", "instance", "path", "budget", "evaluations", "baselines", "failed", "search", "search ema*",
        *(f"{name} {_plain(column)}" for name, column in shown),
        "optimism", "seconds_per_evaluation", "optimizer_seconds", "samples", "nfe", "optimizer_facts",
    ]  # fmt: skip
    rows = []
    for cell in _ordered(comparison):
        values = {(row.name, row.column): row.value for row in cell.rows}
        rows.append(
            (
                cell.method, cell.instance, cell.path.as_posix(), cell.budget, len(cell.losses), cell.baselines,
                _failed(cell), _final(cell), None if cell.ema_star is None else cell.sign * cell.ema_star,
                *(values.get(key) for key in shown), cell.optimism, _seconds(cell), cell.optimizer_seconds,
                cell.samples, cell.nfe,
                json.dumps(plain(cell.results.get("optimizer_facts")), sort_keys=True, ensure_ascii=False),
            )
        )  # fmt: skip
    return _csv(header, rows)


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Everything of a comparison but what there is one of per evaluation; finite numbers or null."""
    content = {
        "name": comparison.name,
        "label": comparison.label,
        "minimize": comparison.minimize,
        "methods": comparison.methods,
        "instances": comparison.instances,
        "reference": comparison.reference,
        "budgets": comparison.budgets,
        "forced": comparison.forced,
        "search_comparable": comparison.search_comparable,
        "columns": [_column(column) for column in comparison.columns],
        "fixed_budget": [
            {"method": method, "share": share, "evaluations": count, **asdict(found)}
            for method in comparison.methods
            for share, count, found in comparison.fixed_budget.get(method, ())
        ],
        "finals": _of_columns(comparison.finals, comparison.methods, comparison.columns, "method"),
        "baselines": _of_columns(
            comparison.baselines, sorted({name for name, _ in comparison.baselines}), comparison.columns, "name"
        ),
        "report": [
            {"method": method, "column": _column(column), "points": _points(comparison.report[method, column])}
            for method in comparison.methods
            for column in comparison.columns
            if (method, column) in comparison.report
        ],
        "targets": comparison.targets,
        "ecdf_area": {name: comparison.ecdf[name].area for name in comparison.methods if name in comparison.ecdf},
        "wins": [
            {"column": _column(column), "matrix": comparison.wins[column]}
            for column in (None, *comparison.columns)
            if column in comparison.wins
        ],
        "tests": [{**asdict(test), "column": _column(test.column), "pairs": test.pairs} for test in comparison.tests],
        "costs": comparison.costs,
        "gaps": comparison.gaps,
        "cells": [_cell(cell) for cell in _ordered(comparison)],
        "manifest": comparison.manifest,
    }
    found: dict[str, Any] = plain(content)
    return found


def plain(value: object) -> Any:  # noqa: ANN401
    """JSON values of what records hold: objects of records, lists of arrays and tuples, null of NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, set | frozenset):
        return sorted(plain(inner) for inner in value)
    return [plain(inner) for inner in value] if isinstance(value, Iterable) else str(value)


def _ordered(comparison: Comparison) -> list[CellRecord]:
    """The runs by method and instance, in the comparison's order."""
    places = {name: i for i, name in enumerate(comparison.methods)}, {n: i for i, n in enumerate(comparison.instances)}
    return sorted(comparison.cells, key=lambda cell: (places[0][cell.method], places[1][cell.instance]))


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_field(value) for value in row])
    return text.getvalue()


def _field(value: object) -> object:
    """Numbers with all their digits; nothing for what is no number."""
    if isinstance(value, float | np.floating):
        return repr(float(value)) if math.isfinite(value) else ""
    return "" if value is None else value


def _failed(cell: CellRecord) -> int:
    return int((~np.isfinite(cell.losses)).sum()) - cell.given_up


def _final(cell: CellRecord) -> float | None:
    best = cell.best_so_far()
    return float(cell.sign * best[-1]) if len(best) else None


def _seconds(cell: CellRecord) -> float | None:
    known = cell.seconds[np.isfinite(cell.seconds)]
    return float(np.median(known)) if len(known) else None


def _plain(column: Column) -> str:
    return "/".join(part for part in column if part)


def _column(column: Column | None) -> dict[str, str | None] | None:
    return None if column is None else dict(zip(("metric", "features", "reference"), column, strict=True))


def _of_columns(
    found: Mapping[tuple[str, Column], Quartiles], names: Sequence[str], columns: Sequence[Column], key: str
) -> list[dict[str, Any]]:
    return [
        {key: name, "column": _column(column), **asdict(found[name, column])}
        for name in names
        for column in columns
        if (name, column) in found
    ]


def _points(curve: Curve) -> list[dict[str, Any]]:
    numbers = zip(curve.evaluations, curve.median, curve.lower, curve.upper, strict=True)
    return [dict(zip(("evaluations", "median", "lower", "upper"), point, strict=True)) for point in numbers]


def _cell(cell: CellRecord) -> dict[str, Any]:
    return {
        "path": cell.path,
        "method": cell.method,
        "instance": cell.instance,
        "budget": cell.budget,
        "evaluations": len(cell.losses),
        "baselines": cell.baselines,
        "failed": _failed(cell),
        "search": _final(cell),
        "ema_star": None if cell.ema_star is None else cell.sign * cell.ema_star,
        "optimism": cell.optimism,
        "seconds_per_evaluation": _seconds(cell),
        "optimizer_seconds": cell.optimizer_seconds,
        "samples": cell.samples,
        "nfe": cell.nfe,
        "optimizer_facts": cell.results.get("optimizer_facts"),
        "rows": [_score(row) for row in cell.rows],
        "curve": [{"evaluations": count, "rows": [_score(row) for row in rows]} for count, rows in cell.curve],
    }


def _score(row: ScoreRow) -> dict[str, Any]:
    return asdict(row)
