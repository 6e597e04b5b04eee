"""A finished run, read from its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsopt.errors import InputError
from wsopt.report._check import check_results
from wsopt.report._labels import metric_label
from wsopt.types import FloatArray

_FORMAT = 1
_REQUIRED = ("name", "seed", "budget", "evaluations", "steps", "objective", "best", "coefficients", "scores")


@dataclass(frozen=True)
class ScoreRow:
    """One score of results.json: what was scored, on which split, by which metric in which features.

    `difference` is that to EMA* in the same column, `difference_stderr` its standard error on the shared noise;
    `debiased` the value extrapolated to infinitely many samples, `interval` both ends of a 95 % interval. None where
    the run did not tell.
    """

    name: str
    split: str
    metric: str
    features: str | None
    reference: str | None
    value: float
    stderr: float | None
    samples: int
    minimize: bool | None = None
    debiased: float | None = None
    difference: float | None = None
    difference_stderr: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def column(self) -> tuple[str, str | None, str | None]:
        """Metric, features and reference: scores that agree in these three may be compared."""
        return self.metric, self.features, self.reference


@dataclass(frozen=True)
class Trial:
    """One evaluation of the search split, in journal order.

    Args:
        name: the baseline's name, or the candidate's id as text.
        value: its score; None where it failed, or was given up by a race.
    """

    name: str
    value: float | None


@dataclass(frozen=True)
class Trace:
    """What the journal says of the search: first the baselines, then the candidates, each in order of evaluation.

    Args:
        baselines: the baselines' evaluations.
        candidates: the candidates' evaluations.
        failures: why a row of the report could not be scored, by its name.
    """

    baselines: tuple[Trial, ...]
    candidates: tuple[Trial, ...]
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PairedSamples:
    """Samples of two models from the same noise, largest feature distance first.

    Args:
        baseline: ``[M, C, H, W]`` uint8.
        best: ``[M, C, H, W]`` uint8.
        distance: ``[M]`` distance in feature space.
        indices: ``[M]`` sample indices within the report split.
        baseline_name: what `baseline` was sampled from.
    """

    baseline: NDArray[np.uint8]
    best: NDArray[np.uint8]
    distance: FloatArray
    indices: NDArray[np.int64]
    baseline_name: str


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A finished run.

    Args:
        path: its folder.
        results: results.json, as written.
        provenance: provenance.json, as written.
        scores: the scores of results.json.
        trace: the evaluations of the search, from journal.jsonl.
    """

    path: Path
    results: Mapping[str, Any]
    provenance: Mapping[str, Any]
    scores: tuple[ScoreRow, ...]
    trace: Trace

    @classmethod
    def load(cls, folder: Path | str) -> RunRecord:
        """Read a run folder.

        Raises:
            InputError: for a folder that is no run, a run that is not finished, or a file that is missing or torn.
        """
        path = Path(folder)
        if not path.is_dir():
            raise InputError(f"{path} is not a folder. Give the folder of a run, runs/NAME-HASH.")
        if not (path / "journal.jsonl").is_file():
            raise InputError(f"{path} has no journal.jsonl, so it is not a run folder. Give runs/NAME-HASH.")
        if not (path / "results.json").is_file():
            raise InputError(
                f"{path} has no results.json: the run is not finished; continue it with the command that started it "
                f"(wsopt run CONFIG)."
            )
        results = _read_json(path / "results.json")
        if results.get("format") != _FORMAT:
            raise InputError(
                f"{path / 'results.json'}: format is {results.get('format')!r}, this wsopt reads {_FORMAT}. "
                f"Read it with the version of wsopt that wrote it (provenance.json names it)."
            )
        missing = [key for key in _REQUIRED if key not in results]
        if missing:
            raise InputError(f"{path / 'results.json'} has no {', '.join(missing)}. Run the report of the run again.")
        check_results(path / "results.json", results)
        return cls(
            path=path,
            results=results,
            provenance=_read_json(path / "provenance.json"),
            scores=_scores(path / "results.json", results["scores"]),
            trace=_read_journal(path / "journal.jsonl"),
        )

    @property
    def optimizer(self) -> str | None:
        """Registered name of the optimizer, None where the results do not say."""
        name = self.results.get("optimizer")
        return name if isinstance(name, str) else None

    @property
    def steps(self) -> tuple[int, ...]:
        """Training steps of the K checkpoints."""
        return tuple(self.results["steps"])

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the layer groups; counted where the results do not name them."""
        names = self.results.get("groups")
        best = self.results["coefficients"]["best"]
        return tuple(names) if names else tuple(f"group {number + 1}" for number in range(len(best)))

    @property
    def minimize(self) -> bool:
        """True where a smaller score is better."""
        return bool(self.results["objective"].get("direction", "minimize") == "minimize")

    def minimizes(self, metric: str) -> bool | None:
        """Whether a smaller value of a metric is better; None for a metric whose direction is not known here."""
        told = [row.minimize for row in self.scores if row.metric == metric and row.minimize is not None]
        if told:
            return told[0]
        if metric == self.results["objective"]["name"]:
            return self.minimize
        return True if metric in ("fid", "kid", "fcd") else None

    @property
    def label(self) -> str:
        """What the search's score is called."""
        objective = self.results["objective"]
        return str(objective.get("label") or metric_label(objective["name"], objective.get("features")))

    @property
    def ema_star(self) -> str | None:
        """Which baseline is EMA*, None where no EMA was scored."""
        found = self.results.get("ema_star")
        return str(found["name"]) if found else None

    @property
    def given_up(self) -> int:
        """Number of candidates whose evaluation a race ended early; they have no score, and did not fail."""
        return int((self.results.get("race") or {}).get("given_up", 0))

    @property
    def search_values(self) -> dict[str, float]:
        """Search scores of the baselines that did not fail, by name."""
        return {trial.name: trial.value for trial in self.trace.baselines if trial.value is not None}

    @property
    def exported(self) -> str:
        """Whose weights merged.safetensors holds: ``best``, or ``validated`` where a validation split chose."""
        return str(self.results.get("exported") or "best")

    def winner_baseline(self, winner: str) -> str | None:
        """The baseline that ``best`` or ``validated`` is, where the search found nothing better; else None."""
        if winner == "validated" and self.exported == "validated":
            chosen = self.results["validation"]["chosen"]
            found = None if chosen["shrinkage"] else str(chosen["name"])
            return found if found in {trial.name for trial in self.trace.baselines} else None
        origin = self.results["best"].get("from") if winner == "best" else None
        return None if origin in (None, "search") else str(origin)

    @property
    def exported_baseline(self) -> str | None:
        """The baseline that was exported, where the search found nothing better; None for what was searched."""
        return self.winner_baseline(self.exported)

    def coefficients(self, name: str) -> FloatArray | None:
        """``[G, K]`` of ``best``, ``recommended``, ``validated``, ``ema*`` or ``best-ema``; None where none is."""
        found = self.results["coefficients"].get(name)
        if isinstance(found, Mapping):
            found = found.get("values")
        return None if found is None else np.atleast_2d(np.asarray(found, dtype=np.float64))

    def samples(self) -> PairedSamples | None:
        """The pairs of samples of samples.npz; None where the run wrote none.

        Raises:
            InputError: for a file that is torn or lacks an array.
        """
        path = self.path / "samples.npz"
        if not path.is_file():
            return None
        try:
            # Opened here: numpy leaves its own handle open where the archive is torn.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return PairedSamples(
                    baseline=arrays["baseline"],
                    best=arrays["best"],
                    distance=arrays["distance"],
                    indices=arrays["indices"],
                    baseline_name=str(arrays["baseline_name"]),
                )
        except Exception as error:  # zipfile, numpy and the missing key each raise their own
            raise InputError(
                f"{path} cannot be read ({error}). Delete it; the report is made without samples."
            ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} has no {path.name}: the folder is incomplete. Restore the file.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read ({error}). Restore the file, or run the run's report again."
        ) from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds a {type(found).__name__}, not an object. Restore the file.")
    return found


def _scores(path: Path, rows: list[dict[str, Any]]) -> tuple[ScoreRow, ...]:
    try:
        return tuple(
            ScoreRow(
                name=_text(row["name"]),
                split=_text(row["split"]),
                metric=_text(row["metric"]),
                features=None if row.get("features") is None else _text(row["features"]),
                reference=None if row.get("reference") is None else _text(row["reference"]),
                value=float(row["value"]),
                stderr=standard_error(row.get("stderr")),
                samples=int(row.get("samples") or 0),
                minimize={"minimize": True, "maximize": False}.get(row.get("direction") or ""),
                debiased=_number(row.get("debiased")),
                difference=_number(row.get("difference")),
                difference_stderr=standard_error(row.get("difference_stderr")),
                interval=_pair(row.get("interval")),
            )
            for row in rows
            if row.get("value") is not None
        )
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: scores: an entry is not a score ({error!r}). Restore the file.") from error


def standard_error(value: float | None) -> float | None:
    """A standard error that says something: above 0 and finite; None for any other."""
    return float(value) if value is not None and math.isfinite(value) and value > 0 else None


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _pair(value: Sequence[float] | None) -> tuple[float, float] | None:
    return None if value is None else (float(value[0]), float(value[1]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} instead of text")
    return value


def _value(event: Mapping[str, Any]) -> float | None:
    value = event.get("value")
    if value is None:
        return None
    if isinstance(value, str | bool):
        raise TypeError(f"{value!r} instead of a number")
    return float(value)


def _read_journal(path: Path) -> Trace:
    """The evaluations of a journal; a torn last line is left out, a bad line before it is an error that names it."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}). Restore the file.") from error
    baselines: list[Trial] = []
    candidates: list[Trial] = []
    failures: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        # The points of asked events are nearly all of a journal, and no report shows them.
        if not line or line.startswith('{"event":"asked",'):
            continue
        try:
            event = json.loads(line)
            kind = event["event"]
            if kind == "baseline":
                baselines.append(Trial(str(event["name"]), _value(event)))
            elif kind == "told":
                candidates.append(Trial(str(event["id"]), _value(event)))
            elif kind == "report" and event.get("failure"):
                failures[str(event["name"])] = str(event["failure"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            if number == len(lines):
                break
            raise InputError(f"{path}:{number}: not an event of a journal ({error!r}). Restore the file.") from error
    return Trace(tuple(baselines), tuple(candidates), failures)
