"""What the stages of a run share: config, engine, journal, clock and the words to the user."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from wsopt.config import Config
from wsopt.engines import Engine
from wsopt.errors import Interrupted
from wsopt.progress import Progress
from wsopt.report import metric_label
from wsopt.run._folder import RunFolder
from wsopt.run._journal import Journal
from wsopt.types import MetricScore, Outcome, Partial


class Hooks(Protocol):
    """Where event hooks of plugins are called; they cannot change results."""

    def trial_finished(self, run: Mapping[str, Any], trial: Mapping[str, Any]) -> None:
        """Called after every evaluation that is new (not replayed)."""


@dataclass(frozen=True)
class Timings:
    """timings.jsonl: what differs between two equal runs (seconds, memory). Appended, never replayed.

    Lines wait until the journal gets an event, so that a resume that is refused changes no file.
    """

    path: Path
    journal: Journal
    _waiting: list[str] = field(default_factory=list)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append one line."""
        self._waiting.append(json.dumps(entry) + "\n")
        if self.journal.written:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(self._waiting)
            self._waiting.clear()

    def read(self) -> list[dict[str, Any]]:
        """All complete lines, of former sessions too."""
        if not self.path.exists():
            return []
        entries = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:  # torn by a kill; timings are not replayed, so one lost line is no harm
                continue
        return entries


@dataclass
class Session:
    """One process's work on one run."""

    config: Config
    folder: RunFolder
    engine: Engine
    journal: Journal
    timings: Timings
    progress: Progress
    hooks: Hooks
    sign: float
    """+1 where the objective is minimised, -1 where it is maximised: loss = sign * value."""
    objective_version: int
    """Version of the objective: scores of two versions do not compare."""

    @property
    def label(self) -> str:
        """What the search's score is called, ``FD(digits)``."""
        return metric_label(self.config.objective.title, self.config.objective.features)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What event hooks are told of the run."""
        return {
            "name": self.config.name,
            "folder": str(self.folder.path),
            "config": self.config.resolved(),
            "budget": self.config.budget,
            "label": self.label,
        }

    def stop_if_asked(self) -> None:
        """Raise Interrupted once the user asked for a stop; the trial at hand is recorded by then."""
        if self.progress.should_stop():
            raise Interrupted("stopped")

    def note(self, stage: str, trial: str, outcome: Outcome) -> None:
        """Write an outcome's seconds and, on the search split, tell the plugins.

        Args:
            stage: baselines, search, validation or report.
            trial: the baseline's name, or the candidate's id as text.
            outcome: what came of it.
        """
        entry: dict[str, Any] = {"event": "trial", "stage": stage, "trial": trial, "seconds": dict(outcome.seconds)}
        if outcome.failure is None and not outcome.seconds:
            entry["remembered"] = True  # answered from another run's scores
        self.timings.write(entry)
        if stage in ("validation", "report"):
            return
        first = outcome.scores[0].score if outcome.scores else None
        facts = {
            "trial": trial,
            "value": first and first.value,
            "loss": first and self.sign * first.value,
            "samples": first and first.samples,
            "failure": outcome.failure,
            "seconds": dict(outcome.seconds),
        }
        self.hooks.trial_finished(self.facts, facts)


def outcome_event(event: str, outcome: Outcome, **fields: object) -> dict[str, Any]:
    """The journal event of an outcome on the search or the validation split."""
    if outcome.failure is not None:
        return {"event": event, **fields, "failure": outcome.failure}
    if outcome.given_up:
        rows = _partial_rows(outcome.partials)
        return {"event": event, **fields, "given_up": outcome.partials[-1].samples, "partials": rows}
    score = outcome.scores[0].score
    found = {"event": event, **fields, "value": score.value, "stderr": score.stderr, "samples": score.samples}
    return found | ({"partials": _partial_rows(outcome.partials)} if outcome.partials else {})


def _partial_rows(partials: Sequence[Partial]) -> list[list[Any]]:
    """``[samples, value, [replicate, ...]]`` each."""
    return [[partial.samples, partial.value, list(partial.replicates)] for partial in partials]


def score_row(score: MetricScore) -> dict[str, Any]:
    """The journal's form of a metric score."""
    inner = score.score
    row: dict[str, Any] = {
        "metric": score.metric,
        "features": score.features,
        "reference": score.reference,
        "direction": score.direction,
        "value": inner.value if math.isfinite(inner.value) else None,
        "stderr": inner.stderr,
        "samples": inner.samples,
        "debiased": inner.debiased,
    }
    if inner.interval is not None:
        row["interval"] = list(inner.interval)
    return row | ({"replicates": list(inner.replicates)} if inner.replicates else {})
