"""What the tables and figures ask of a comparison: final scores, paired counts, rows of targets, missing runs."""

from __future__ import annotations

import numpy as np

from wsopt.compare._base import Column, Comparison, Quartiles, TargetRow

_NAMES = {
    "ema*": "EMA*", "best-single": "best single checkpoint", "uniform": "uniform average", "last": "last checkpoint",
}  # fmt: skip
_FLOOR = "floor (real images)"
_ORDER = ("ema*", "best-single", "uniform", "last")
EMA_STAR = "EMA*"
ENOUGH_PAIRS = 6
"""Below six pairs no two-sided signed-rank test can reach 5 %: its smallest p is 2^(1-n)."""


def baseline_names(comparison: Comparison) -> list[tuple[str, str]]:
    """Name and label of the baselines, EMA* first and the floor last."""
    known = {name for name, _ in comparison.baselines}
    others = sorted(known - {*_ORDER, "floor"})
    ordered = [name for name in (*_ORDER, *others) if name in known] + (["floor"] if "floor" in known else [])
    return [(name, _FLOOR if name == "floor" else _NAMES.get(name, name)) for name in ordered]


def final_search(comparison: Comparison, method: str) -> Quartiles | None:
    """Best search score of a method at the end of its budget."""
    stages = comparison.fixed_budget.get(method, ())
    return stages[-1][2] if comparison.search_comparable and stages else None


def ema_star_search(comparison: Comparison) -> Quartiles | None:
    """Search score of EMA* over the instances, in natural values."""
    found: dict[str, float] = {}
    for cell in comparison.cells:
        if cell.ema_star is not None and np.isfinite(cell.ema_star):
            found.setdefault(cell.instance, cell.sign * cell.ema_star)
    if not found or not comparison.search_comparable:
        return None
    lower, median, upper = (float(value) for value in np.percentile(sorted(found.values()), (25, 50, 75)))
    return Quartiles(median, lower, upper, len(found))


def final(comparison: Comparison, method: str, column: Column | None) -> Quartiles | None:
    """A method's final score in a column of the report split, or on the search split for None."""
    return final_search(comparison, method) if column is None else comparison.finals.get((method, column))


def record(comparison: Comparison, first: str, second: str, column: Column | None) -> tuple[int, int, int] | None:
    """Wins, losses and ties of one method against another; None where nothing was counted."""
    declared = (one for one in comparison.tests if (one.first, one.second, one.column) == (first, second, column))
    if (test := next(declared, None)) is not None:
        return test.wins, test.losses, test.ties
    if column not in comparison.wins:
        return None
    i, j = comparison.methods.index(first), comparison.methods.index(second)
    matrix = comparison.wins[column]
    wins, losses = int(matrix[i, j]), int(matrix[j, i])
    return wins, losses, max(pairs(comparison, first, second) - wins - losses, 0)


def pairs(comparison: Comparison, first: str, second: str) -> int:
    """Number of instances that two methods both ran on."""
    ran = [{cell.instance for cell in comparison.cells if cell.method == method} for method in (first, second)]
    return len(ran[0] & ran[1])


def shared_budget(comparison: Comparison) -> int:
    """The budget that scores and targets are as of: the smallest of the runs."""
    return min(comparison.budgets, default=0)


def target_names(comparison: Comparison) -> list[str]:
    """The targets, in the order of the comparison."""
    return list(dict.fromkeys(row.target for row in comparison.targets))


def target_row(comparison: Comparison, method: str, target: str) -> TargetRow | None:
    """What a method needed to a target."""
    return next((row for row in comparison.targets if (row.method, row.target) == (method, target)), None)


def reference_target(comparison: Comparison) -> str | None:
    """The target that is the reference's final score, None where there is none."""
    name = f"final of {comparison.reference}"
    return name if name in target_names(comparison) else None


def speed_up(comparison: Comparison, method: str) -> float | None:
    """The reference's budget by a method's expected running time to the reference's final score."""
    target = reference_target(comparison)
    row = target_row(comparison, method, target) if target else None
    if row is None or not row.ert:
        return None
    return shared_budget(comparison) / row.ert


def missing_runs(comparison: Comparison) -> list[tuple[str, str]]:
    """Method and instance of every run that a full matrix would have and this one lacks."""
    there = {(cell.method, cell.instance) for cell in comparison.cells}
    every = [(method, instance) for method in comparison.methods for instance in comparison.instances]
    return [pair for pair in every if pair not in there]


def baseline_count(comparison: Comparison) -> int:
    """Most baselines that a run was charged."""
    return max((cell.baselines for cell in comparison.cells), default=0)
