"""Finished run folders, read into the records of a comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsopt.compare._base import CellRecord
from wsopt.compare._names import instance_names, method_names
from wsopt.errors import InputError
from wsopt.report import RunRecord, ScoreRow
from wsopt.types import FloatArray


def read_runs(folders: Mapping[Path, tuple[str, str]] | Sequence[Path]) -> list[CellRecord]:
    """Read finished runs.

    Args:
        folders: run folders; a mapping names (method, instance) of each, from a sequence both are derived from what
            differs between the runs' configs (`wsopt.compare._names`).

    Returns:
        One record per folder, in the order given.

    Raises:
        InputError: for folders that are no finished runs of this format, all of them at once, each with folder and
            file; for two runs of one method on one instance, naming both; where no folder is given.
    """
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise InputError("there are no runs to compare. Give the folders of finished runs, runs/NAME-HASH.")
    twice = sorted({str(path) for path in paths if [one.resolve() for one in paths].count(path.resolve()) > 1})
    if twice:
        raise InputError(f"{twice[0]} is given twice. Give every run folder once.")
    runs, problems = [], []
    for path in paths:
        try:
            runs.append(_load(path))
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    resolved = [run.resolved for run in runs]
    if isinstance(folders, Mapping):
        named = [folders[folder] for folder in folders]
    else:
        fingerprints = [fingerprint(run.record.provenance) for run in runs]
        named = list(zip(method_names(resolved), instance_names(resolved, fingerprints), strict=True))
    _refuse_doubles(paths, named)
    return [_cell(run, *names) for run, names in zip(runs, named, strict=True)]


def fingerprint(provenance: Mapping[str, Any]) -> str:
    """Digest of the content of a run's checkpoints."""
    return str((provenance.get("checkpoints") or {}).get("fingerprint"))


@dataclass(frozen=True, eq=False)
class _Run:
    """A run folder as read, without its names.

    Args:
        record: what the report of the run reads.
        resolved: resolved.json.
        baselines: the journal's baseline events.
        timings: the entries of timings.jsonl.
    """

    record: RunRecord
    resolved: Mapping[str, Any]
    baselines: tuple[Mapping[str, Any], ...]
    timings: tuple[Mapping[str, Any], ...]


def _load(path: Path) -> _Run:
    record = RunRecord.load(path)
    resolved = _resolved(path / "resolved.json")
    if not isinstance(record.provenance.get("checkpoints"), Mapping):
        raise InputError(f"{path / 'provenance.json'} does not name the checkpoints. Restore the file.")
    packages = record.provenance.get("packages") or {}
    wrong = {
        "provenance.json: packages": None if isinstance(packages, Mapping) else packages,
        "results.json: nfe": _unless_whole(record.results.get("nfe")),
        "resolved.json: seed": _unless_whole(resolved.get("seed")),
    }
    for key, value in wrong.items():
        if value is not None:
            raise InputError(f"{path}/{key} is {str(value)[:40]!r}, which no run writes. Restore the file.")
    baselines = tuple(_events(path / "journal.jsonl", "baseline"))
    return _Run(record, resolved, baselines, tuple(_entries(path / "timings.jsonl")))


def _unless_whole(value: object) -> object:
    """`value`, unless it is a whole number or missing."""
    return None if isinstance(value, int) else value


def _resolved(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} has no {path.name}: the folder is incomplete. Restore the file.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}). Restore the file.") from error
    sections = ("optimizer", "objective", "search", "report", "checkpoints")
    wrong = [key for key in sections if not isinstance(found, Mapping) or not isinstance(found.get(key), Mapping)]
    if wrong:
        raise InputError(f"{path} has no section {wrong[0]}, so it is no resolved config. Restore the file.")
    if not isinstance(found.get("plugins") or [], list) or not all(
        isinstance(one, Mapping) and {"path", "sha256"} <= one.keys() for one in found.get("plugins") or []
    ):
        raise InputError(f"{path}: plugins is no list of files with their digests. Restore the file.")
    return dict(found)


def _events(path: Path, kind: str) -> Iterator[Mapping[str, Any]]:
    """The journal's events of one kind. Lines that `RunRecord` took are valid; long ones of other kinds stay unread."""
    mark = f'"event":"{kind}"'
    for line in path.read_text(encoding="utf-8").split("\n"):
        if mark in line[:64].replace(" ", ""):
            try:
                yield json.loads(line)
            except ValueError:  # a torn last line
                return


def _entries(path: Path) -> Iterator[Mapping[str, Any]]:
    """The entries of timings.jsonl; none where it is missing, torn lines left out: they decide nothing."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, Mapping):
            yield entry


def _refuse_doubles(paths: Sequence[Path], named: Sequence[tuple[str, str]]) -> None:
    first: dict[tuple[str, str], Path] = {}
    for path, names in zip(paths, named, strict=True):
        other = first.setdefault(names, path)
        if other is not path:
            raise InputError(
                f"{other} and {path} are both runs of {names[0]!r} on {names[1]!r}: their configs differ in nothing "
                f"that tells methods or instances apart. Leave one of them out."
            )


def _cell(run: _Run, method: str, instance: str) -> CellRecord:
    record, results = run.record, run.record.results
    sign = 1.0 if record.minimize else -1.0
    trials = [*record.trace.baselines, *record.trace.candidates]
    values = [np.nan if trial.value is None else sign * trial.value for trial in trials]
    kinds = [event.get("kind", "coefficients") == "coefficients" for event in run.baselines]
    kinds += [True] * (len(trials) - len(kinds))
    optimism = results.get("optimism")
    nfe = results.get("nfe")
    return CellRecord(
        path=record.path,
        method=method,
        instance=instance,
        losses=np.array(values, dtype=np.float64),
        combination=np.array(kinds[: len(trials)], dtype=bool),
        baselines=len(record.trace.baselines),
        sign=sign,
        ema_star=_ema_star(record, sign),
        budget=int(results["budget"]),
        rows=tuple(row for row in record.scores if row.split == "report" or row.name == "floor"),
        curve=_curve(record),
        optimism=None if optimism is None else float(optimism["gap"]),
        seconds=_seconds(record, run.timings),
        optimizer_seconds=_optimizer_seconds(run.timings),
        samples=_samples(run),
        nfe=1 if nfe is None else int(nfe),
        resolved=run.resolved,
        provenance=record.provenance,
        results=results,
    )


def _ema_star(record: RunRecord, sign: float) -> float | None:
    value = None if record.ema_star is None else record.search_values.get(record.ema_star)
    return None if value is None else sign * value


def _samples(run: _Run) -> int:
    """Generated samples per evaluation, as the objective counted them: none for one that looks at weights alone."""
    counted = [int(event["samples"]) for event in run.baselines if isinstance(event.get("samples"), int)]
    return max(counted, default=int(run.resolved["search"].get("samples", 0)))


def _curve(record: RunRecord) -> tuple[tuple[int, tuple[ScoreRow, ...]], ...]:
    """``curve`` of results.json, and the winner's own scores as its end."""
    path = record.path / "results.json"
    points: dict[int, tuple[ScoreRow, ...]] = {}
    try:
        for point in record.results.get("curve") or ():
            rows = tuple(_row(entry) for entry in point["scores"] if entry.get("value") is not None)
            points[int(point["evaluation"])] = rows
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: curve: an entry is not a point of a curve ({error!r}). Restore the file.") from error
    if points:
        final = tuple(row for row in record.scores if row.split == "report" and row.name == "best")
        points.setdefault(int(record.results["evaluations"]), final)
    return tuple(sorted(points.items()))


def _row(entry: Mapping[str, Any]) -> ScoreRow:
    stderr = entry.get("stderr")
    return ScoreRow(
        name=str(entry.get("name", "curve")),
        split=str(entry.get("split", "report")),
        metric=str(entry["metric"]),
        features=entry.get("features"),
        reference=entry.get("reference"),
        value=float(entry["value"]),
        stderr=None if stderr is None else float(stderr),
        samples=int(entry.get("samples") or 0),
        minimize={"minimize": True, "maximize": False}.get(entry.get("direction") or ""),
    )


def _seconds(record: RunRecord, timings: Sequence[Mapping[str, Any]]) -> FloatArray:
    """``[N]`` seconds of each evaluation; NaN where there is no entry, or one of no stages (a remembered outcome)."""
    measured: dict[tuple[bool, str], float] = {}
    for entry in timings:
        seconds = entry.get("seconds")
        if entry.get("event") != "trial" or not isinstance(seconds, Mapping) or not seconds:
            continue
        if not all(isinstance(one, int | float) for one in seconds.values()):
            continue
        name = str(entry.get("trial"))
        stage = entry.get("stage", "search" if name.isdecimal() else "baselines")
        if stage in ("baselines", "search"):
            measured[stage == "baselines", name] = float(sum(seconds.values()))
    keys = [(True, trial.name) for trial in record.trace.baselines]
    keys += [(False, trial.name) for trial in record.trace.candidates]
    return np.array([measured.get(key, np.nan) for key in keys], dtype=np.float64)


def _optimizer_seconds(timings: Sequence[Mapping[str, Any]]) -> float:
    """Of the last session that searched: a resumed one asks and tells all former candidates again."""
    entries = [entry.get("seconds") for entry in timings if entry.get("event") == "optimizer"]
    numbers = [one for one in entries if isinstance(one, int | float)]
    return float(numbers[-1]) if numbers else 0.0
