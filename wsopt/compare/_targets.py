"""Fixed targets: how many evaluations a method takes to a given loss, and the ECDF over many of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wsopt.compare._base import CellRecord, Ecdf, TargetRow
from wsopt.compare._statistics import expected_running_time, median_evaluations
from wsopt.types import FloatArray

STEPS = 10
"""Targets between the start and the best found."""
EMA_STAR = "EMA*"


@dataclass(frozen=True)
class Target:
    """A loss that counts as reached.

    Args:
        name: as in `TargetRow.target`.
        losses: by instance; an instance that it does not exist for is left out.
        below: whether the loss must be undercut, not only reached.
    """

    name: str
    losses: Mapping[str, float]
    below: bool = False

    def reached(self, best: FloatArray, instance: str) -> int | None:
        """Evaluations until the best so far `best` ``[E]`` has reached it; None where it has not."""
        loss = self.losses[instance]
        hits = best < loss if self.below else best <= loss
        return int(hits.argmax()) + 1 if hits.any() else None


def best_until(cell: CellRecord, budget: int) -> FloatArray:
    """``[budget]`` best so far; a run that ended earlier by itself keeps its last value."""
    best = cell.best_so_far()[:budget]
    last = best[-1] if len(best) else np.nan
    return np.concatenate([best, np.full(budget - len(best), last)])


def targets(cells: Sequence[CellRecord], reference: str | None, budget: int) -> list[Target]:
    """EMA*, the reference's final loss, and ten from easy to hard; each a loss of its own on every instance.

    EMA* is to be undercut: where it is a combination, it is one of the baselines, and charged already. Of several
    methods' EMA* on an instance (their grids may differ) the best counts. The ten divide the way from the start, the
    median over methods of the best baseline combination, to the best loss that any method found within `budget`: in
    equal ratios where all of these are positive (distances), else in equal steps. Start itself is none of them, the
    best found is the tenth. An instance on which nothing improved has none.

    Args:
        cells: the runs.
        reference: its method; without one there is no such target.
        budget: evaluations that are looked at.
    """
    emas: dict[str, float] = {}
    for cell in cells:
        if cell.ema_star is not None:
            emas[cell.instance] = min(cell.ema_star, emas.get(cell.instance, cell.ema_star))
    found = [Target(EMA_STAR, emas, below=True)] if emas else []
    finals = {cell.instance: float(best_until(cell, budget)[-1]) for cell in cells if cell.method == reference}
    finals = {name: loss for name, loss in finals.items() if np.isfinite(loss)}
    if finals:
        found.append(Target(f"final of {reference}", finals))
    return found + _ladder(ladder_ends(cells, budget))


def ladder_ends(cells: Sequence[CellRecord], budget: int) -> dict[str, tuple[float, float]]:
    """Start and best loss that the ten targets divide, of each instance on which something improved."""
    ends: dict[str, tuple[float, float]] = {}
    for instance in dict.fromkeys(cell.instance for cell in cells):
        group = [cell for cell in cells if cell.instance == instance]
        curves = [best_until(cell, budget) for cell in group]
        starts = [curve[min(cell.baselines, budget) - 1] for cell, curve in zip(group, curves, strict=True)]
        starts = [loss for loss in starts if np.isfinite(loss)]
        finals = [curve[-1] for curve in curves if np.isfinite(curve[-1])]
        if starts and finals and min(finals) < np.median(starts):
            ends[instance] = float(np.median(starts)), float(min(finals))
    return ends


def in_ratios(ends: Mapping[str, tuple[float, float]]) -> bool:
    """Whether the targets divide their ways in equal ratios: where every start and best is positive."""
    return all(min(pair) > 0 for pair in ends.values())


def _ladder(ends: Mapping[str, tuple[float, float]]) -> list[Target]:
    between = np.geomspace if in_ratios(ends) else np.linspace
    rungs = {instance: between(start, best, STEPS + 1)[1:] for instance, (start, best) in ends.items()}
    for instance, (_, best) in ends.items():
        rungs[instance][-1] = best  # whatever the rounding, who found it has reached it
    return [Target(str(k + 1), {name: float(losses[k]) for name, losses in rungs.items()}) for k in range(STEPS)]


def target_rows(
    goals: Sequence[Target], method: str, cells: Mapping[str, CellRecord], instances: Sequence[str], budget: int
) -> list[TargetRow]:
    """A method and every target.

    Args:
        goals: what is to be reached.
        method: its name.
        cells: the method's runs by instance.
        instances: all of the comparison, in order.
        budget: what a failure is charged.
    """
    curves = {name: best_until(cell, budget) for name, cell in cells.items()}
    rows = []
    for goal in goals:
        tried = {name: goal.reached(curve, name) for name, curve in curves.items() if name in goal.losses}
        attempts = list(tried.values())
        row = TargetRow(
            method=method,
            target=goal.name,
            evaluations=tuple(tried.get(name) for name in instances),
            attempts=len(attempts),
            successes=sum(one is not None for one in attempts),
            ert=expected_running_time(attempts, budget),
            median=median_evaluations(attempts),
        )
        rows.append(row)
    return rows


def ecdf(rows: Sequence[TargetRow], budget: int, baselines: int) -> Ecdf:
    """Share of (target, instance) pairs reached by a method, over 1 to `budget` evaluations.

    Args:
        rows: the method's rows of the targets that count (the ten).
        budget: last evaluation.
        baselines: evaluations that are left out of the area, the same for all methods.
    """
    pairs = sum(row.attempts for row in rows)
    times = [one for row in rows for one in row.evaluations if one is not None]
    counts = np.bincount(np.array(times, dtype=np.int64), minlength=budget + 1)[: budget + 1]
    share = np.cumsum(counts)[1:] / max(pairs, 1)
    searched = share[baselines:] if baselines < budget else share[-1:]
    return Ecdf(np.arange(1, budget + 1), share, float(searched.mean()))
