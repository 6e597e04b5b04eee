"""results.json: everything the report reads, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsopt.config import reference_name
from wsopt.objectives.jackknife import paired_stderr
from wsopt.run._final import Finals, Reported, search_samples
from wsopt.run._race import race_facts
from wsopt.run._session import Session, score_row
from wsopt.run._sources import Sources
from wsopt.run._tally import Tally, Trial
from wsopt.run._validation import Validation
from wsopt.types import Coefficients, SpaceInfo

FORMAT = 1
Row = dict[str, Any]


def results(
    session: Session,
    info: SpaceInfo,
    sources: Sources,
    tally: Tally,
    validation: Validation,
    finals: Finals,
    reported: Reported,
    optimizer_facts: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of results.json."""
    config = session.config
    entries = session.timings.read()
    race = race_facts(config, session.journal.events)
    return {
        "format": FORMAT,
        "name": config.name,
        "seed": config.seed,
        "budget": config.budget,
        "evaluations": len(tally.trials),
        "failed": sum(trial.value is None for trial in tally.trials) - (race["given_up"] if race else 0),
        "race": race,
        "optimizer": config.optimizer.name,
        "optimizer_facts": dict(optimizer_facts),
        "parameterization": config.parameterization.name,
        "steps": list(info.steps),
        "groups": list(info.groups),
        "nfe": session.engine.nfe,
        "objective": _objective(session),
        "ema_star": _name(finals.ema_star),
        "best": {
            "id": None if finals.best.baseline else int(finals.best.name.removeprefix("trial ")),
            "name": finals.best.name,
            "evaluation": finals.best.evaluation,
            "from": "search" if finals.best.baseline is None else finals.best.baseline.name,
        },
        "exported": finals.exported[0],
        "coefficients": _coefficients(finals, info.steps),
        "scores": _search_rows(session, tally, finals) + with_differences(reported.rows) + _floor_rows(session),
        "optimism": _optimism(tally.sign, finals.best, reported.fresh),
        "validation": _validation(session, validation),
        "curve": [{**point, "scores": [_plain(row) for row in point["scores"]]} for point in reported.curve],
        "timing": _timing(entries),
        "memory": {
            "training_peak_bytes": _fact(sources.training, "peak_memory_bytes"),
            "search_peak_bytes": max(
                (entry["peak_bytes"] for entry in entries if entry.get("event") == "session"), default=None
            ),
        },
        "seconds": {"training": _fact(sources.training, "seconds"), **_stage_seconds(entries)},
    }


def _objective(session: Session) -> Row:
    objective = session.config.objective
    data = session.config.data.name
    return {
        "name": objective.name,
        "version": session.objective_version,
        "direction": "minimize" if session.sign > 0 else "maximize",
        "features": objective.features,
        "reference": reference_name(data, objective.reference),
        "quantize": objective.quantize,
        "samples": search_samples(session),
        "label": session.label,
    }


def _name(trial: Trial | None) -> Row | None:
    return None if trial is None else {"name": trial.name}


def _coefficients(finals: Finals, steps: Sequence[int]) -> Row:
    def values(trial: Trial | None) -> list[list[float]] | None:
        return trial.target.values.tolist() if trial and isinstance(trial.target, Coefficients) else None

    single = finals.best_single
    step = steps[int(single.target.values[0].argmax())] if single and isinstance(single.target, Coefficients) else None
    return {
        "best": values(finals.best),
        "recommended": finals.recommended.tolist(),
        "validated": finals.validated and finals.validated.target.values.tolist(),
        "ema*": values(finals.ema_star),
        "best-ema": finals.best_ema and {"name": finals.best_ema.name, "values": values(finals.best_ema)},
        "best-single": single and {"name": single.name, "step": step},
    }


def _search_rows(session: Session, tally: Tally, finals: Finals) -> list[Row]:
    objective = _objective(session)

    def row(name: str, trial: Trial) -> Row:
        return {
            "name": name,
            "split": "search",
            "metric": session.config.objective.title,
            "features": objective["features"],
            "reference": objective["reference"],
            "direction": objective["direction"],
            "value": trial.value,
            "stderr": trial.stderr,
            "samples": objective["samples"],
        }

    rows = [row(trial.name, trial) for trial in tally.trials if trial.baseline is not None]
    named = {"best-single": finals.best_single, "ema*": finals.ema_star, "best": finals.best}
    return rows + [row(name, trial) for name, trial in named.items() if trial is not None]


def _floor_rows(session: Session) -> list[Row]:
    return [_plain({"name": "floor", "split": "data", **score_row(score)}) for score in session.engine.floor()]


def with_differences(rows: Sequence[Row]) -> list[Row]:
    """Report rows with their difference to EMA* by the same metric, and its standard error.

    All rows are scored on the same noise, so the standard error is that of the paired difference
    (`wsopt.objectives.jackknife`), which is usually far below those of the two scores.
    """
    stars = {_column(row): row for row in rows if row["name"] == "ema*"}
    found = []
    for row in rows:
        star = stars.get(_column(row))
        if star is None or row["value"] is None or star["value"] is None:
            found.append(_plain(row))
            continue
        stderr = paired_stderr(row.get("replicates"), star.get("replicates"))
        found.append({**_plain(row), "difference": row["value"] - star["value"], "difference_stderr": stderr})
    return found


def _column(row: Row) -> tuple[Any, ...]:
    return row["metric"], row["features"], row["reference"]


def _plain(row: Row) -> Row:
    """A row without what only differences are made of."""
    return {key: value for key, value in row.items() if key != "replicates"}


def _optimism(sign: float, best: Trial, fresh_rows: Sequence[Row]) -> Row | None:
    if not fresh_rows or best.value is None or fresh_rows[0]["value"] is None:
        return None
    fresh = fresh_rows[0]
    return {
        "search": best.value,
        "fresh": fresh["value"],
        "stderr": fresh["stderr"],
        "gap": sign * (fresh["value"] - best.value),
        "samples": fresh["samples"],
    }


def _validation(session: Session, validation: Validation) -> Row | None:
    if not validation.on:
        return None
    settings, best = session.config.validation, validation.best
    reference = settings.reference or session.config.objective.reference
    return {
        "samples": settings.samples,
        "reference": reference_name(session.config.data.name, reference),
        "evaluations": len(validation.points),
        "trace": [
            {"evaluation": point.evaluation, "name": point.name, "search": point.search, "validation": point.value}
            for point in validation.points
        ],
        "chosen": best and {"name": best.origin, "evaluation": best.evaluation, "shrinkage": best.share},
        "stopped": validation.stopped,
    }


def _timing(entries: Sequence[Row]) -> Row:
    """Mean seconds by stage of one evaluation on the search split, of those that were not remembered."""
    trials = [entry["seconds"] for entry in entries if entry.get("stage") in ("baselines", "search")]
    trials = [seconds for seconds in trials if seconds]
    # A resumed session asks and tells everything again: the last one's seconds are those of the whole search.
    optimizer = [entry["seconds"] for entry in entries if entry.get("event") == "optimizer"][-1:]
    remembered = {"remembered": sum(bool(entry.get("remembered")) for entry in entries)}
    if not trials:
        return {"seconds_per_evaluation": None, "split": {}, **remembered}
    split = {
        stage: sum(seconds.get(stage, 0.0) for seconds in trials) / len(trials)
        for stage in ("merge", "sample", "features", "distance")
    }
    split["optimizer"] = sum(optimizer) / len(trials)
    return {"seconds_per_evaluation": sum(split.values()), "split": split, **remembered}


def _stage_seconds(entries: Sequence[Row]) -> dict[str, float]:
    """Seconds of evaluations by stage, summed over all sessions, killed ones too."""
    total = {"baselines": 0.0, "search": 0.0, "validation": 0.0, "report": 0.0}
    for entry in entries:
        if entry.get("event") == "trial":
            total[entry["stage"]] += sum(entry["seconds"].values())
    return {stage: seconds for stage, seconds in total.items() if seconds or stage != "validation"}


def _fact(facts: Mapping[str, Any] | None, key: str) -> float | None:
    return None if facts is None else facts.get(key)
