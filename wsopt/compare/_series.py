"""What runs say of themselves, and its quartiles over instances: values at budgets, report scores, costs, gaps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wsopt.compare._base import CellRecord, Column, CostRow, Curve, GapRow, Quartiles
from wsopt.compare._statistics import quartiles
from wsopt.compare._targets import best_until
from wsopt.report import ScoreRow
from wsopt.types import FloatArray

SHARES = (0.1, 0.25, 0.5, 1.0)
BASELINES = ("ema*", "last", "uniform", "best-single", "floor")
_MINIMIZED = ("fid", "kid", "fcd")

Runs = Mapping[str, CellRecord]
"""Instance -> the run of one method."""


def direction(cell: CellRecord, column: Column) -> float | None:
    """+1 where a smaller score of `column` is better, -1 where a larger one is, None where it is not known."""
    told = next((row.minimize for row in cell.rows if row.column == column and row.minimize is not None), None)
    if told is not None:
        return 1.0 if told else -1.0
    if column[0] == (cell.results.get("objective") or {}).get("name"):
        return cell.sign
    return 1.0 if column[0] in _MINIMIZED else None


def final_loss(cell: CellRecord, budget: int) -> float:
    """Lowest search loss within `budget`; NaN where no combination has one."""
    return float(best_until(cell, budget)[-1])


def final_score(cell: CellRecord, column: Column, budget: int) -> float | None:
    """The winner's score on the report split, at the budget that all runs had.

    The winner is what the run exported: the candidate chosen on the validation split where there was one, else the best
    of the search split. A run that went on after `budget` is judged by the point of its curve at `budget`.

    Returns:
        None where it was not scored.
    """
    if len(cell.losses) > budget:
        rows = dict(cell.curve).get(budget, ())
        return _value(rows, column)
    name = "validated" if cell.results.get("exported") == "validated" else "best"
    return _value([row for row in cell.rows if row.name == name and row.split == "report"], column)


def baseline_score(cell: CellRecord, name: str, column: Column) -> float | None:
    """Score of a baseline on the report split, or of the real images."""
    return _value([row for row in cell.rows if row.name == name], column)


def fixed_budget(runs: Runs, budget: int) -> tuple[tuple[float, int, Quartiles], ...]:
    """Best so far, in natural values, after shares of the budget; one that no instance has a value at is left out."""
    found = []
    for share in SHARES:
        number = max(1, math.ceil(share * budget - 1e-9))
        values = quartiles([cell.sign * best_until(cell, budget)[number - 1] for cell in runs.values()])
        if values is not None:
            found.append((share, number, values))
    return tuple(found)


def search_curve(runs: Runs, budget: int) -> Curve:
    """Best so far on the search split, after each evaluation."""
    table = np.stack([cell.sign * best_until(cell, budget) for cell in runs.values()])
    return _curve(np.arange(1, budget + 1), table)


def report_curve(runs: Runs, column: Column) -> Curve | None:
    """Best so far on the report split, where it was scored; None where it was nowhere."""
    found = [{n: _value(rows, column) for n, rows in cell.curve} for cell in runs.values()]
    scored = [{n: value for n, value in points.items() if value is not None} for points in found]
    numbers = sorted({n for points in scored for n in points})
    if not numbers:
        return None
    table = np.array([[points.get(n, np.nan) for n in numbers] for points in scored])
    return _curve(np.array(numbers, dtype=np.int64), table)


def cost(method: str, runs: Runs) -> CostRow:
    """Medians over instances."""
    cells = list(runs.values())
    counts = [len(cell.losses) for cell in cells]
    images = [_images(cell) for cell in cells]
    measured = [float(np.median(taken)) for cell in cells if (taken := cell.seconds[np.isfinite(cell.seconds)]).size]
    asked = [cell.optimizer_seconds / max(1, len(cell.losses) - cell.baselines) for cell in cells]
    return CostRow(
        method=method,
        evaluations=float(np.median(counts)),
        baselines=float(np.median([cell.baselines for cell in cells])),
        seconds=float(np.median(measured)) if measured else None,
        optimizer_seconds=float(np.median(asked)),
        images=float(np.median(images)),
        network_evaluations=float(np.median([one * cell.nfe for one, cell in zip(images, cells, strict=True)])),
    )


def gap(method: str, runs: Runs, column: Column | None, budget: int) -> GapRow:
    """Optimism, and how often the winner is worse than EMA* on the report split in the search's own column.

    The optimism of a run that found something better after `budget` is that of another winner, and left out.
    """
    same = [cell for cell in runs.values() if final_loss(cell, budget) == final_loss(cell, len(cell.losses))]
    optimism = quartiles([cell.optimism for cell in same if cell.optimism is not None])
    pairs = []
    for cell in runs.values():
        sign = None if column is None else direction(cell, column)
        if column is None or sign is None:
            continue
        winner, ema = final_score(cell, column, budget), baseline_score(cell, "ema*", column)
        if winner is not None and ema is not None:
            pairs.append((sign * winner, sign * ema))
    return GapRow(method, optimism, sum(winner > ema for winner, ema in pairs), len(pairs))


def _images(cell: CellRecord) -> int:
    """Generated over the search, for validation too."""
    validation = cell.results.get("validation") or {}
    saved = float((cell.results.get("race") or {}).get("samples_saved", 0.0))
    searched = round(len(cell.losses) * cell.samples * (1 - saved))
    return searched + int(validation.get("evaluations", 0)) * int(validation.get("samples", 0))


def _value(rows: Sequence[ScoreRow], column: Column) -> float | None:
    return next((row.value for row in rows if row.column == column), None)


def _curve(evaluations: NDArray[np.int64], table: FloatArray) -> Curve:
    """Quartiles of the columns of ``[instances, E]`` in which at least half of the rows have a value."""
    out = np.full((3, table.shape[1]), np.nan)
    present = np.isfinite(table)
    enough = 2 * present.sum(axis=0) >= len(table)
    whole = enough & present.all(axis=0)
    out[:, whole] = np.percentile(table[:, whole], (25, 50, 75), axis=0)
    for index in np.flatnonzero(enough & ~whole):
        out[:, index] = np.percentile(table[present[:, index], index], (25, 50, 75))
    return Curve(evaluations, out[1], out[0], out[2])
