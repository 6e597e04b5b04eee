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
from wsopt.run._search import Tally, Trial
from wsopt.run._session import Session, score_row
from wsopt.types import Coefficients, FloatArray, Job, Target

_RENDER = 1000


@dataclass(frozen=True, eq=False)
class Finals:
    """The targets that the report speaks of.

    Args:
        best: the best combination seen on the search split.
        recommended: coefficients ``[G, K]`` that the optimizer recommends.
        ema_star: the best of all EMA rates, training-time EMAs included (the paper's EMA*).
        best_ema: the best EMA that is given by coefficients, to compare coefficients with.
        best_single: the best single checkpoint tried.
    """

    best: Trial
    recommended: FloatArray
    ema_star: Trial | None
    best_ema: Trial | None
    best_single: Trial | None


def choose(tally: Tally, recommended: FloatArray) -> Finals:
    """Decide, on the search split alone, what is reported.

    Raises:
        WsoptError: where every combination failed.
    """
    best = tally.best(tally.combinations)
    if best is None:
        raise WsoptError("every combination failed, there is nothing to report; the journal has each reason.")
    return Finals(
        best=best,
        recommended=recommended,
        ema_star=tally.best(tally.of_kind("ema", "train-ema")),
        best_ema=tally.best(tally.of_kind("ema")),
        best_single=tally.best(tally.of_kind("single", "last")),
    )


def score_report(session: Session, tally: Tally, finals: Finals) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Score baselines and winners on the report split.

    Returns:
        Rows as in results.json, and the rows of the winner on fresh noise at the search's own sample count.
    """
    targets: list[tuple[str, Target]] = [("best", finals.best.target)]
    assert isinstance(finals.best.target, Coefficients)
    same = np.array_equal(finals.recommended, finals.best.target.values)
    if not same:
        targets.append(("recommended", Coefficients(finals.recommended)))
    if finals.best_single is not None:
        targets.append(("best-single", finals.best_single.target))
    targets += [(trial.name, trial.target) for trial in tally.of_kind("last", "uniform", "power", "train-ema", "ema")]
    jobs = [(name, target, session.config.report.samples) for name, target in targets]
    scored = _score(session, [*jobs, ("fresh", finals.best.target, session.config.search.samples)])
    rows = [row for row in scored if row["name"] != "fresh"]
    fresh = [row for row in scored if row["name"] == "fresh"]
    if same:
        rows += [{**row, "name": "recommended"} for row in rows if row["name"] == "best"]
    if finals.ema_star is not None:
        rows += [{**row, "name": "ema*"} for row in rows if row["name"] == finals.ema_star.name]
    return rows, fresh


def _score(session: Session, targets: Sequence[tuple[str, Target, int]]) -> list[dict[str, Any]]:
    """Rows of targets on the report split, from the journal where they are there already."""
    rows: list[dict[str, Any]] = []
    jobs = []
    with session.progress.stage("report", len(targets)) as stage:
        for number, (name, target, samples) in enumerate(targets):
            event = session.journal.recall("report", name=name)
            if event is None:
                jobs.append(Job(number, target, "report", samples, number))
            else:
                rows += [{"name": name, "split": "report", **score} for score in event["scores"]]
        stage.resize(len(targets), len(targets) - len(jobs))
        for outcome in session.engine.evaluate(jobs):
            name = targets[outcome.id][0]
            if outcome.failure is not None and name == "best":
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
            rows += [{"name": name, "split": "report", **score} for score in scores]
            stage.update(outcome.id + 1, last=name)
            session.stop_if_asked()
    return rows


def export(session: Session, finals: Finals, metadata: dict[str, str]) -> None:
    """Write merged.safetensors and samples.npz."""
    merged = session.engine.export(finals.best.target)
    for text in merged.notes:
        session.progress.line(f"warning: merged.safetensors: {text}")
    write_tensors(session.folder.merged, merged.tensors, {**merged.metadata, **metadata})
    if finals.ema_star is None or session.config.report.figure_pairs == 0:
        return
    count = min(_RENDER, session.config.report.samples)
    before = session.engine.render(finals.ema_star.target, "report", count)
    after = session.engine.render(finals.best.target, "report", count)
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
