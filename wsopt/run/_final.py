"""After the search: everything is scored again on the report split, and the run's files are written."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsopt.checkpoints import write_tensors
from wsopt.errors import WsoptError
from wsopt.files import write_bytes
from wsopt.run._session import Session, score_row
from wsopt.run._tally import Tally, Trial
from wsopt.run._validation import Point, Validation
from wsopt.types import Coefficients, FloatArray, Job, Target

_RENDER = 1000
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Finals:
    """The targets that the report speaks of.

    Args:
        best: the best combination seen on the search split.
        recommended: coefficients ``[G, K]`` that the optimizer recommends.
        validated: the best combination on the validation split; None where nothing was validated.
        ema_star: the best of all EMA rates, training-time EMAs included (the paper's EMA*).
        best_ema: the best EMA that is given by coefficients, to compare coefficients with.
        best_single: the best single checkpoint tried.
    """

    best: Trial
    recommended: FloatArray
    validated: Point | None
    ema_star: Trial | None
    best_ema: Trial | None
    best_single: Trial | None

    @property
    def exported(self) -> tuple[str, Target]:
        """What is written as merged.safetensors: its name in the report, and its coefficients."""
        return ("best", self.best.target) if self.validated is None else ("validated", self.validated.target)


@dataclass(frozen=True, eq=False)
class CurvePoint:
    """The best combination after so many evaluations of the search."""

    evaluation: int
    trial: Trial


@dataclass(frozen=True, eq=False)
class Reported:
    """What was scored on the report split, as in results.json.

    Args:
        rows: of baselines and winners.
        fresh: of `best` on fresh noise at the search's own sample count and reference; none where the search has no
            noise, on an objective of the weights alone.
        curve: the points of `report.curve` with their rows.
    """

    rows: Sequence[Row]
    fresh: Sequence[Row]
    curve: Sequence[Row]


def choose(session: Session, tally: Tally, recommended: FloatArray, validation: Validation) -> Finals:
    """Decide what is reported, on the search split, and what is exported, on the validation split if there is one.

    Raises:
        WsoptError: where every combination failed.
    """
    best = tally.best(tally.combinations)
    if best is None:
        raise WsoptError("every combination failed, there is nothing to report; the journal has each reason.")
    best_ema = tally.best(tally.of_kind("ema"))
    validation.conclude(recommended, best_ema)
    if validation.on and validation.best is None:
        session.progress.line("warning: every score on the validation split failed; best is what is exported")
    return Finals(
        best=best,
        recommended=recommended,
        validated=validation.best,
        ema_star=tally.best(tally.of_kind("ema", "train-ema")),
        best_ema=best_ema,
        best_single=tally.best(tally.of_kind("single", "last")),
    )


def curve_points(shares: Sequence[float], budget: int, tally: Tally) -> list[CurvePoint]:
    """The best combination after each share of the budget; a share before the first one that has a score is left out.

    Args:
        shares: of `budget`, each in (0, 1]. Where fewer evaluations were done, the last stands for what is missing.
        budget: of the run.
        tally: all evaluations.
    """
    done = len(tally.trials)
    found = []
    for evaluation in sorted({min(round(share * budget), done) for share in shares}):
        best = tally.best([trial for trial in tally.combinations if trial.evaluation <= evaluation])
        if best is not None:
            found.append(CurvePoint(evaluation, best))
    return found


def score_report(session: Session, tally: Tally, finals: Finals) -> Reported:
    """Score baselines, winners and the points of the curve on the report split, equal winners and points once."""
    samples = session.config.report.samples
    curve = curve_points(session.config.report.curve, session.config.budget, tally)
    winners: list[tuple[str, Target]] = [("best", finals.best.target)]
    winners.append(("recommended", Coefficients(finals.recommended)))
    winners += [("validated", finals.validated.target)] if finals.validated is not None else []
    others: list[tuple[str, Target]] = []
    if finals.best_single is not None:
        others.append(("best-single", finals.best_single.target))
    kinds = ("last", "uniform", "power", "train-ema", "ema", "run")
    others += [(trial.name, trial.target) for trial in tally.of_kind(*kinds)]
    points = [(f"curve-{point.evaluation}", point.trial.target) for point in curve]
    # Winners are compared with each other, points with everything; a baseline always has a row of its own.
    stands_for = _equal(winners, winners) | _equal(points, [*winners, *others, *points])
    asked = [(name, target, samples) for name, target in [*winners, *others] if name not in stands_for]
    if search_samples(session):
        asked.append(("fresh", finals.best.target, session.config.search.samples))
    asked += [(name, target, samples) for name, target in points if name not in stands_for]
    by_name = _score(session, asked)
    for name, other in stands_for.items():
        by_name[name] = [{**row, "name": name} for row in by_name.get(other, [])]
    if finals.ema_star is not None:
        by_name["ema*"] = [{**row, "name": "ema*"} for row in by_name.get(finals.ema_star.name, [])]
    fresh = by_name.pop("fresh", [])
    scores = [by_name.pop(name, []) for name, _ in points]
    entries = [
        {"evaluation": point.evaluation, "name": point.trial.name, "scores": rows}
        for point, rows in zip(curve, scores, strict=True)
    ]
    return Reported([row for rows in by_name.values() for row in rows], fresh, entries)


def search_samples(session: Session) -> int:
    """Samples of one score on the search split; 0 for an objective of the weights alone."""
    told = (event for event in session.journal.events if event["event"] in ("baseline", "told"))
    sampled = any(event.get("samples") for event in told)
    return session.config.search.samples if sampled else 0


def _equal(names: Sequence[tuple[str, Target]], among: Sequence[tuple[str, Target]]) -> dict[str, str]:
    """For each of `names` whose coefficients an earlier one of `among` has: which one that is."""
    found = {}
    for name, target in names:
        for other, candidate in among:
            if other == name:
                break
            if _same(target, candidate):
                found[name] = other
                break
    return found


def _same(one: Target, other: Target) -> bool:
    if isinstance(one, Coefficients) and isinstance(other, Coefficients):
        return bool(np.array_equal(one.values, other.values))
    return one == other


def _score(session: Session, targets: Sequence[tuple[str, Target, int]]) -> dict[str, list[Row]]:
    """Rows by name of targets on the report split, from the journal where they are there already."""
    rows: dict[str, list[Row]] = {}
    jobs = []
    _skip_other_report(session, [name for name, _, _ in targets])
    with session.progress.stage("report", len(targets)) as stage:
        for number, (name, target, samples) in enumerate(targets):
            event = session.journal.recall("report", name=name)
            if event is None:
                jobs.append(Job(number, target, "report", samples, number, remember=True))
            else:
                rows[name] = [{"name": name, "split": "report", **score} for score in event["scores"]]
        stage.resize(len(targets), len(targets) - len(jobs))
        for outcome in session.engine.evaluate(jobs):
            name = targets[outcome.id][0]
            if outcome.failure is not None and name in ("best", "validated"):
                raise WsoptError(
                    f"the winner could not be scored on the report split: {outcome.failure}. Nothing is lost; mend the "
                    f"cause and give the same command again."
                )
            scores = [score_row(score) for score in outcome.scores]
            session.journal.record(
                {"event": "report", "name": name, "scores": scores}
                | ({"failure": outcome.failure} if outcome.failure else {})
            )
            session.note("report", name, outcome)
            rows[name] = [{"name": name, "split": "report", **score} for score in scores]
            stage.update(outcome.id + 1, last=name)
            session.stop_if_asked()
    return rows


def _skip_other_report(session: Session, names: Sequence[str]) -> None:
    """Pass over a former report of other rows: of a search that had ended by itself and was then given more budget.

    Its `report.curve` is at other evaluations, and nothing of the search lies between the two reports.
    """
    recorded = session.journal.upcoming("report")
    while [event["name"] for event in recorded] != list(names)[: len(recorded)]:
        for _ in recorded:
            session.journal.recall("report")
        if session.journal.recall("finished") is None:
            return
        recorded = session.journal.upcoming("report")


def export(session: Session, finals: Finals, metadata: dict[str, str]) -> None:
    """Write merged.safetensors and samples.npz."""
    _, target = finals.exported
    merged = session.engine.export(target)
    for text in merged.notes:
        session.progress.line(f"warning: merged.safetensors: {text}")
    write_tensors(session.folder.merged, merged.tensors, {**merged.metadata, **metadata})
    if finals.ema_star is None or session.config.report.figure_pairs == 0 or not session.engine.samples:
        return
    count = min(_RENDER, session.config.report.samples)
    before = session.engine.render(finals.ema_star.target, "report", count)
    after = session.engine.render(target, "report", count)
    distance = np.linalg.norm(before.features.astype(np.float64) - after.features, axis=1)
    far = np.argsort(-distance, kind="stable")[: session.config.report.figure_pairs]
    arrays = {
        "baseline": before.images[far],
        "best": after.images[far],
        "distance": distance[far],
        "indices": far,
        "baseline_name": np.array(finals.ema_star.name),
    }
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    write_bytes(session.folder.samples, data.getvalue())
