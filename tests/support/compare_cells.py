"""Synthetic finished runs for the tests of `wsopt.compare`: no files, no network, numbers that one can follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wsopt.compare._base import (
    CellRecord,
    Column,
    Comparison,
    CostRow,
    Curve,
    Ecdf,
    GapRow,
    PairTest,
    Quartiles,
    TargetRow,
)
from wsopt.report import ScoreRow

TRAIN: Column = ("fid", "digits", "digits/train")
TEST: Column = ("fid", "digits", "digits/test")
OTHER: Column = ("fid", "digits-mlp", "digits/test")
COLUMNS = (TRAIN, TEST, OTHER)
METHODS = (
    "lcsc", "one-plus-one, sqrt-whitened, step 0.03", "cmaes_vkd & 50% <b>", "random", "nevergrad, OnePlusOne", "auto",
)  # fmt: skip
BASELINES = 4


def row(name: str, column: Column, value: float, split: str = "report", samples: int = 5000) -> ScoreRow:
    return ScoreRow(name, split, *column, value=value, stderr=0.05, samples=samples)


def make_losses(method: int, instance: int, budget: int = 40, baselines: int = BASELINES) -> list[float]:
    """Baselines around 20, then a descent that is faster for later methods, with a failure at evaluation 7."""
    start = 20.0 + instance
    found = [start + 3, start + 2, start, start + 1]
    rate = 0.02 * (method + 1)
    found += [start * float(np.exp(-rate * i)) + 0.3 * (i % 3) for i in range(1, budget - baselines + 1)]
    if budget > 7:
        found[6] = float("nan")
    return found


def resolved_config(method: str, seed: int, budget: int, samples: int) -> dict[str, Any]:
    """What `wsopt.config.Config.resolved` gives for a small run."""
    return {
        "name": "toy", "seed": 0, "budget": budget, "output": "runs", "plugins": [], "threads": 1, "device": "cpu",
        "data": {"name": "digits"}, "family": {"name": "cd", "channels": 16}, "train": {"seed": seed, "steps": 2000},
        "checkpoints": {"path": None, "window": None, "interval": None, "kind": None},
        "weightspace": {"dtype": "float32", "width": 16},
        "parameterization": {"name": "difference"}, "optimizer": {"name": method.split(",")[0]},
        "objective": {"name": "fid", "features": "digits", "reference": "train", "quantize": "round", "preset": None},
        "baselines": {"singles": 2, "ema_rates": [0.9, 0.99]},
        "search": {"samples": samples, "batch_size": 250, "starts": ["ema-*"]},
        "validation": {"samples": 0}, "report": {"samples": 5000, "features": ["digits"], "references": ["train"]},
    }  # fmt: skip


def make_cell(
    method: str = "lcsc",
    instance: str = "train.seed=1",
    losses: Sequence[float] | None = None,
    *,
    baselines: int = BASELINES,
    sign: float = 1.0,
    ema_star: float | None = 20.0,
    budget: int | None = None,
    finals: Mapping[Column, float] | None = None,
    ema_finals: Mapping[Column, float] | None = None,
    curve: Sequence[int] = (),
    combination: Sequence[bool] | None = None,
    optimism: float | None = 0.2,
    seconds: float = 0.25,
    optimizer_seconds: float = 0.04,
    samples: int = 1000,
    nfe: int = 1,
    seed: int | None = None,
    resolved: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    results: Mapping[str, Any] | None = None,
) -> CellRecord:
    """A finished run.

    Args:
        finals: report-split value of ``best`` by column; half of the final loss where not given.
        ema_finals: the same of ``ema*``.
        curve: evaluations after which the best so far has a report score: half of its search loss plus 1.
        seed: the training's; read off `instance` where not given.
        resolved, provenance, results: entries that replace the usual ones (of the top level).
    """
    values = np.array(make_losses(0, 0) if losses is None else losses, dtype=np.float64)
    whole = np.ones(len(values), dtype=bool) if combination is None else np.array(combination, dtype=bool)
    budget = len(values) if budget is None else budget
    best = np.fmin.accumulate(np.where(whole, values, np.nan))
    number = int("".join(filter(str.isdigit, instance)) or 0) if seed is None else seed
    columns = list(finals or dict.fromkeys(COLUMNS, 0.0))
    final = finals or {column: sign * float(best[-1]) / 2 + i for i, column in enumerate(COLUMNS)}
    ema = ema_finals or dict.fromkeys(columns, 17.0)
    rows = [row("best", column, value) for column, value in final.items()]
    rows += [row("recommended", column, value) for column, value in final.items()]
    rows += [row(name, column, value) for name in ("ema*", "ema-0.99") for column, value in ema.items()]
    rows += [row(name, column, 19.0 + i) for i, name in enumerate(("last", "uniform")) for column in columns]
    rows += [row("best-single", column, 18.5) for column in columns]
    rows += [row("floor", column, 1.1, split="data", samples=0) for column in columns]
    points = tuple(
        (int(n), tuple(row("best", c, sign * float(best[n - 1]) / 2 + 1, samples=5000) for c in columns)) for n in curve
    )
    config = resolved_config(method, number, budget, samples) | dict(resolved or {})
    versions = {"wsopt": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"}
    origin = {
        "python": "3.11.7", "packages": versions, "threads": 1, "device": "cpu", "seed": config["seed"],
        "train_seed": number, "checkpoints": {"fingerprint": f"{number:064x}", "count": 100},
    }  # fmt: skip
    objective = {
        "name": "fid", "direction": "minimize" if sign > 0 else "maximize", "features": "digits", "version": 1,
        "reference": "digits/train", "quantize": "round", "samples": samples, "label": "FD(digits)",
    }  # fmt: skip
    summary = {
        "name": "toy", "seed": config["seed"], "budget": budget, "evaluations": len(values), "nfe": nfe,
        "optimizer": method.split(",")[0], "objective": objective, "optimizer_facts": {"name": method},
    }  # fmt: skip
    return CellRecord(
        path=Path("runs") / f"{method}-{instance}".replace(" ", "_").replace("/", "_"),
        method=method,
        instance=instance,
        losses=values,
        combination=whole,
        baselines=baselines,
        sign=sign,
        ema_star=ema_star,
        budget=budget,
        rows=tuple(rows),
        curve=points,
        optimism=optimism,
        seconds=np.full(len(values), seconds),
        optimizer_seconds=optimizer_seconds,
        samples=samples,
        nfe=nfe,
        resolved=config,
        provenance=origin | dict(provenance or {}),
        results=summary | dict(results or {}),
    )


def make_cells(methods: int = 3, instances: int = 3, budget: int = 40, sign: float = 1.0) -> list[CellRecord]:
    """A full matrix; later methods are better, EMA* is 20 plus the number of the instance."""
    return [
        make_cell(
            METHODS[m], f"train.seed={i + 1}", [sign * loss for loss in make_losses(m, i, budget)] if sign > 0 else
            [loss - 100.0 for loss in make_losses(m, i, budget)],
            sign=sign, ema_star=20.0 + i if sign > 0 else i - 80.0, curve=(budget // 4, budget // 2, budget),
            ema_finals={column: sign * (17.0 + i if sign > 0 else i - 83.0) for column in COLUMNS},
        )
        for m in range(methods)
        for i in range(instances)
    ]  # fmt: skip


def make_comparison(methods: int = 3, instances: int = 3, budget: int = 40, **changes: Any) -> Comparison:
    """All of a Comparison; `changes` replace fields of it."""
    cells = make_cells(methods, instances, budget)
    names = METHODS[:methods]
    grid = np.arange(1, budget + 1)
    stages = [(share, max(1, int(np.ceil(share * budget)))) for share in (0.1, 0.25, 0.5, 1.0)]

    def of(name: str) -> list[CellRecord]:
        return [cell for cell in cells if cell.method == name]

    def quartiles(values: Sequence[float]) -> Quartiles:
        low, middle, high = (float(q) for q in np.percentile(values, (25, 50, 75)))
        return Quartiles(middle, low, high, len(values))

    def curve(table: np.ndarray, evaluations: np.ndarray) -> Curve:
        low, middle, high = np.percentile(table, (25, 50, 75), axis=0)
        return Curve(evaluations.astype(np.int64), middle, low, high)

    targets = ["EMA*", f"final of {names[0]}", *(str(n) for n in range(1, 11))]
    rows = []
    for m, name in enumerate(names):
        for t, target in enumerate(targets):
            needed = 5 + 3 * t - 2 * m
            found: list[int | None] = [needed if needed <= budget else None] * instances
            if t == 11 and m == 0:
                found = [None] * instances
            elif t > 8:
                found[0] = None
            reached = sum(one is not None for one in found)
            spent = sum(budget if one is None else one for one in found)
            median = float(needed) if 2 * reached > instances else None
            ert = spent / reached if reached else None
            rows.append(TargetRow(name, target, tuple(found), instances, reached, ert, median))
    by_wins = np.array([[instances * (a > b) for b in range(methods)] for a in range(methods)], dtype=np.int64)
    enough = instances >= 6
    tests = tuple(
        PairTest(
            first, names[0], column, instances, 0, 0, -0.25, 2.0 ** (1 - instances) if enough else None,
            min(1.0, (methods - 1) * 2.0 ** (1 - instances)) if enough else None, 2.0 ** (1 - instances),
        )
        for first in names[1:]
        for column in (None, *COLUMNS)
    )  # fmt: skip
    made = Comparison(
        name="toy",
        label="FD(digits)",
        minimize=True,
        methods=tuple(reversed(names)),
        instances=tuple(f"train.seed={i + 1}" for i in range(instances)),
        reference=names[0] if methods > 1 else None,
        budgets=(budget,),
        forced=(),
        search_comparable=True,
        columns=COLUMNS,
        fixed_budget={
            name: tuple((s, n, quartiles([float(c.best_so_far()[n - 1]) for c in of(name)])) for s, n in stages)
            for name in names
        },
        finals={
            (name, c): quartiles([r.value for x in of(name) for r in x.rows if r.name == "best" and r.column == c])
            for name in names
            for c in COLUMNS
        },
        baselines={
            (kind, c): quartiles([value] * instances)
            for kind, value in {"last": 19.0, "uniform": 20.0, "best-single": 18.5, "ema*": 18.0, "floor": 1.1}.items()
            for c in COLUMNS
        },
        search={name: curve(np.stack([c.best_so_far() for c in of(name)]), grid) for name in names},
        report={
            (name, c): curve(
                np.array([[next(r.value for r in rows if r.column == c) for _, rows in x.curve] for x in of(name)]),
                np.array([n for n, _ in of(name)[0].curve]),
            )
            for name in names
            for c in COLUMNS
        },
        targets=tuple(rows),
        ecdf={
            name: Ecdf(grid, np.clip((grid - 4) / (40.0 - 5 * m), 0, 1), 0.5 + 0.05 * m) for m, name in enumerate(names)
        },
        wins={None: by_wins[::-1, ::-1], **{column: by_wins[::-1, ::-1] for column in COLUMNS}},
        tests=tests,
        costs=tuple(
            CostRow(n, budget, BASELINES, 0.25, 0.04 / (budget - BASELINES), budget * 1000.0, budget * 1000.0)
            for n in reversed(names)
        ),
        gaps=tuple(
            GapRow(n, quartiles([0.1 + 0.1 * i for i in range(instances)]), 1, instances) for n in reversed(names)
        ),
        cells=tuple(cells),
        manifest={"packages": {"wsopt": ["0.1.0"], "torch": ["2.13.0"]}, "methods": {name: {} for name in names}},
    )
    return replace(made, **changes)
