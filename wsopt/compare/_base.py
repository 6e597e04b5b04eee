"""The records of a comparison: what is read of finished runs, and what is worked out from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsopt.report import ScoreRow
from wsopt.types import FloatArray

Column = tuple[str, str | None, str | None]
"""Metric, features and reference: scores that agree in these three may be compared."""


@dataclass(frozen=True, eq=False)
class CellRecord:
    """One finished run as a comparison sees it.

    Args:
        path: its folder.
        method: what is compared: all of the config but the instance, by its short name.
        instance: what methods are paired on: the checkpoints and the noise, by a short name (``train.seed=4``).
        losses: ``[N]`` float64, the minimised number of every evaluation on the search split, baselines first, in the
            order of the journal; NaN where it failed, or was given up by a race.
        combination: ``[N]`` bool, False for what is no combination of the checkpoints (a training-time EMA).
        baselines: how many of them are baselines.
        sign: +1 where the objective is minimised, -1 where maximised: loss = sign * value.
        ema_star: search loss of EMA*, None where no EMA was scored.
        budget: evaluations that the run was given.
        rows: scores on the report split, by results.json's names (``best``, ``recommended``, ``validated``, ``ema*``),
            and ``floor``, the real images' own.
        curve: report-split scores of the best combination after so many evaluations, ascending, the end of the run
            included; empty where the run had no `report.curve`.
        optimism: the winner on fresh noise minus its search score, as a loss (positive: the search was too hopeful).
        seconds: ``[N]`` wall-clock seconds of each evaluation, NaN where they were not measured (replayed, remembered).
        optimizer_seconds: of the optimizer's own work, summed over the candidates, each counted once.
        samples: generated samples per evaluation; 0 where the objective looks at the weights alone.
        nfe: network evaluations per sample.
        resolved: resolved.json.
        provenance: provenance.json.
        results: results.json.
    """

    path: Path
    method: str
    instance: str
    losses: FloatArray
    combination: NDArray[np.bool_]
    baselines: int
    sign: float
    ema_star: float | None
    budget: int
    rows: tuple[ScoreRow, ...]
    curve: tuple[tuple[int, tuple[ScoreRow, ...]], ...]
    optimism: float | None
    seconds: FloatArray
    optimizer_seconds: float
    samples: int
    nfe: int
    resolved: Mapping[str, Any]
    provenance: Mapping[str, Any]
    results: Mapping[str, Any]

    @property
    def given_up(self) -> int:
        """Number of candidates whose evaluation a race ended early: they have no loss, and did not fail."""
        return int((self.results.get("race") or {}).get("given_up", 0))

    def best_so_far(self) -> FloatArray:
        """``[N]`` lowest loss of the combinations up to each evaluation; NaN before the first."""
        losses = np.where(self.combination, self.losses, np.nan)
        found: FloatArray = np.fmin.accumulate(losses)
        return found


@dataclass(frozen=True)
class Quartiles:
    """Median and quartiles over instances, in natural values, and over how many."""

    median: float
    lower: float
    upper: float
    count: int


@dataclass(frozen=True, eq=False)
class Curve:
    """Best so far over the instances of a method: medians and quartiles, in natural values.

    Args:
        evaluations: ``[E]`` numbers of evaluations, baselines included, ascending.
        median: ``[E]``; NaN where less than half of the instances have a value.
        lower: ``[E]`` first quartile.
        upper: ``[E]`` third quartile.
    """

    evaluations: NDArray[np.int64]
    median: FloatArray
    lower: FloatArray
    upper: FloatArray


@dataclass(frozen=True)
class TargetRow:
    """How many evaluations a method took to a target, failures charged.

    Args:
        method: which one.
        target: name of the target: ``EMA*`` (to be undercut), ``final of lcsc``, or ``1`` .. ``10``, from easy to hard.
        evaluations: per instance of the comparison, None where the budget did not suffice, or where the method has no
            run or the instance no such target.
        attempts: instances on which the method has a run and the target exists.
        successes: how many of these reached it.
        ert: expected running time: all evaluations spent (a failure spends the budget) by the number of successes;
            None without a success.
        median: median over the attempts, a failure counting as more than the budget; None where that is what it is.
    """

    method: str
    target: str
    evaluations: tuple[int | None, ...]
    attempts: int
    successes: int
    ert: float | None
    median: float | None


@dataclass(frozen=True, eq=False)
class Ecdf:
    """Share of all (target, instance) pairs that a method has reached after so many evaluations.

    Args:
        evaluations: ``[E]`` ascending, from 1 to the budget.
        share: ``[E]`` in [0, 1].
        area: mean of `share` over the evaluations after the baselines, each counting alike: the one number of a method.
    """

    evaluations: NDArray[np.int64]
    share: FloatArray
    area: float


@dataclass(frozen=True)
class PairTest:
    """Two methods on the instances that both have.

    Args:
        first: a method.
        second: the one it is compared with.
        column: ``None`` for the final search score, else a column of the report split.
        wins: instances on which `first` is better.
        losses: instances on which it is worse.
        ties: the others.
        change: median over instances of (first - second) / |second|, in natural values; None where second has a 0.
        p: two-sided Wilcoxon signed-rank; None below six pairs, where no test could reach 5 %.
        p_holm: `p` after Holm's correction over all declared comparisons of one column.
        smallest_p: the least that `p` could be with so many pairs.
    """

    first: str
    second: str
    column: Column | None
    wins: int
    losses: int
    ties: int
    change: float | None
    p: float | None
    p_holm: float | None
    smallest_p: float

    @property
    def pairs(self) -> int:
        """Number of instances compared."""
        return self.wins + self.losses + self.ties


@dataclass(frozen=True)
class CostRow:
    """What an evaluation of a method costs, medians over instances.

    Args:
        method: which one.
        evaluations: of a run, baselines included.
        baselines: of them.
        seconds: of one evaluation, the optimizer's share left out; None where nothing was measured.
        optimizer_seconds: of the optimizer per candidate.
        images: generated over the whole search, for validation too; remembered baselines count as generated.
        network_evaluations: images times NFE.
    """

    method: str
    evaluations: float
    baselines: float
    seconds: float | None
    optimizer_seconds: float
    images: float
    network_evaluations: float


@dataclass(frozen=True)
class GapRow:
    """How much of what a search found is luck with its samples.

    Args:
        method: which one.
        optimism: quartiles over instances of `CellRecord.optimism`; None where it was not measured.
        worse_than_start: instances whose winner is worse on the report split, in the search's own column, than EMA*.
        count: instances on which both were scored there.
    """

    method: str
    optimism: Quartiles | None
    worse_than_start: int
    count: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that is shown.

    Args:
        name: of the comparison.
        label: what the search's score is called, ``FD(digits)``.
        minimize: whether a smaller score is better.
        methods: by falling area under the ECDF (where search scores do not compare: by report score); ties by name.
        instances: names, in order.
        reference: the method that others are compared with; None where there is one method only.
        budgets: the budgets of the runs, ascending. Where there are several, everything but the curves and costs is
            as of the smallest.
        forced: what differs between runs that should not, one sentence each; empty where nothing had to be forced.
        search_comparable: False where `forced` says that search scores were made differently: then `search`, `targets`,
            `ecdf` and the tests and wins of column None are empty.
        columns: of the report split, in the order of the config; the search's own first.
        fixed_budget: by method: rows of (share of the budget, evaluations, best so far on the search split) at 10, 25,
            50 and 100 %.
        finals: by method and column: the winner (the validated one where there is one, else the best of the search
            split) on the report split at the end. A run that went on after the smallest budget counts where its
            curve has a point there. What no run of a method was scored in is left out.
        baselines: by name (``ema*``, ``last``, ``uniform``, ``best-single``, ``floor``) and column, over instances (an
            instance's value is the median over its runs).
        search: best so far on the search split, by method.
        report: by method and column, the report split at the points that were scored there (`report.curve`); methods
            and columns without such points are left out.
        targets: evaluations to targets, methods times targets.
        ecdf: by method.
        wins: by column (None: the final search score): ``[M, M]`` int, how often the row's method beats the column's on
            the instances that both have; ties are nobody's.
        tests: the declared comparisons, for the final search score and then for each column.
        costs: by method, in the order of `methods`.
        gaps: by method, in the order of `methods`.
        cells: the runs, by method and instance in their orders.
        manifest: JSON values: ``packages`` (name -> versions met) and ``differing`` (names with several), ``instances``
            (name -> fingerprints and seeds), ``methods`` (name -> runs, instances, config without what makes an
            instance, keys that varied over its runs, optimizer's own facts), ``targets`` (in words), ``comparisons``,
            ``runs`` (folders), ``notes`` (sentences for the reader) and, where given, ``tuning``.
    """

    name: str
    label: str
    minimize: bool
    methods: tuple[str, ...]
    instances: tuple[str, ...]
    reference: str | None
    budgets: tuple[int, ...]
    forced: tuple[str, ...]
    search_comparable: bool
    columns: tuple[Column, ...]
    fixed_budget: Mapping[str, tuple[tuple[float, int, Quartiles], ...]]
    finals: Mapping[tuple[str, Column], Quartiles]
    baselines: Mapping[tuple[str, Column], Quartiles]
    search: Mapping[str, Curve]
    report: Mapping[tuple[str, Column], Curve]
    targets: tuple[TargetRow, ...]
    ecdf: Mapping[str, Ecdf]
    wins: Mapping[Column | None, NDArray[np.int64]]
    tests: tuple[PairTest, ...]
    costs: tuple[CostRow, ...]
    gaps: tuple[GapRow, ...]
    cells: tuple[CellRecord, ...]
    manifest: Mapping[str, Any]
