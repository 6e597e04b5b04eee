"""The engine that remembers scores on disk: runs on the same checkpoints score their common baselines once."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from wsopt.engines._base import Engine
from wsopt.engines._evaluator import EvaluatorSpec, Export, Rendered
from wsopt.engines._scoring_key import scoring_key
from wsopt.files import files_of
from wsopt.types import (
    Coefficients,
    Direction,
    Job,
    MetricScore,
    Outcome,
    Partial,
    Score,
    SpaceInfo,
    Split,
    Target,
    WeightsFile,
)


class RememberingEngine(Engine):
    """Answers jobs with `Job.remember` from ``<output>/scores/<key>.jsonl`` where they were scored before.

    The key of the file is `scoring_key`, that of a line is split, samples, stages of the race and content of the
    target. A remembered outcome has exactly the scores that were measured, partial ones too, and no seconds. Failures
    and scores that are not finite are not remembered. Outcomes come in the same order as without it, the engine inside
    keeping that of its jobs. Several processes may use one file; deleting the folder is safe.

    Args:
        engine: where jobs are evaluated that are not remembered.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def start(self, spec: EvaluatorSpec, gram: bool = False) -> SpaceInfo:
        """See `Engine.start`."""
        info = self._engine.start(spec, gram)
        key = scoring_key(spec, self._engine.fingerprint, info, self._engine.digests)
        self._scores = _ScoresFile(spec.config.output / "scores" / f"{key}.jsonl")
        self._contents: dict[WeightsFile, str] = {}
        return info

    def evaluate(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """See `Engine.evaluate`."""
        jobs = list(jobs)
        keys = {job.id: key for job in jobs if job.remember and (key := self._key(job)) is not None}
        self._scores.refresh()
        known = {job.id: found for job in jobs if (found := self._scores.get(keys.get(job.id))) is not None}
        waiting = [job for job in jobs if job.id not in known]
        ahead = _remembered_ahead(jobs, known)
        yield from ahead.get(None, ())
        for outcome in self._engine.evaluate(waiting) if waiting else ():
            if outcome.id in keys and outcome.failure is None and not outcome.given_up:
                self._scores.add(keys[outcome.id], outcome.scores, outcome.partials)
            yield outcome
            yield from ahead.get(outcome.id, ())

    def render(self, target: Target, split: Split, count: int) -> Rendered:
        """See `Engine.render`."""
        return self._engine.render(target, split, count)

    def export(self, target: Target) -> Export:
        """See `Engine.export`."""
        return self._engine.export(target)

    def floor(self) -> list[MetricScore]:
        """See `Engine.floor`."""
        return self._engine.floor()

    @property
    def warnings(self) -> tuple[str, ...]:
        """See `Engine.warnings`."""
        return self._engine.warnings

    @property
    def digests(self) -> Mapping[str, str]:
        """See `Engine.digests`."""
        return self._engine.digests

    @property
    def samples(self) -> bool:
        """See `Engine.samples`."""
        return self._engine.samples

    @property
    def fingerprint(self) -> str:
        """See `Engine.fingerprint`."""
        return self._engine.fingerprint

    @property
    def nfe(self) -> int:
        """See `Engine.nfe`."""
        return self._engine.nfe

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.close()

    def _key(self, job: Job) -> str | None:
        """What the job's line is found by; None for weights that cannot be read, which the engine inside will tell."""
        if isinstance(job.target, Coefficients):
            values = np.ascontiguousarray(job.target.values, dtype="<f8")
            content = f"{values.shape} {hashlib.sha256(values.tobytes()).hexdigest()}"
        else:
            try:
                if job.target not in self._contents:
                    self._contents[job.target] = _content(job.target)
            except OSError:
                return None
            content = self._contents[job.target]
        stages = "" if job.race is None else f" {list(job.race.stages)}"
        return hashlib.sha256(f"{job.split} {job.samples}{stages} {content}".encode()).hexdigest()


@dataclass(frozen=True)
class _Remembered:
    """What is kept of an outcome."""

    scores: tuple[MetricScore, ...]
    partials: tuple[Partial, ...] = ()


def _remembered_ahead(jobs: Sequence[Job], known: dict[int, _Remembered]) -> dict[int | None, list[Outcome]]:
    """Id of a job that is evaluated (None: of none) -> the remembered outcomes between it and the next such job."""
    ahead: dict[int | None, list[Outcome]] = {}
    last: int | None = None
    for job in jobs:
        if job.id in known:
            found = known[job.id]
            ahead.setdefault(last, []).append(Outcome(job.id, found.scores, partials=found.partials))
        else:
            last = job.id
    return ahead


def _content(weights: WeightsFile) -> str:
    """Digest over part, names and bytes of a weights file or folder."""
    path = weights.path
    digest = hashlib.sha256(f"{weights.part}\n{path.suffix}\n".encode())
    for file in files_of(path):
        digest.update(f"{file.relative_to(path).as_posix()}\n".encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


class _ScoresFile:
    """JSON lines of key and scores. What is not readable is passed over: it will be scored again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._known: dict[str, _Remembered] = {}

    def get(self, key: str | None) -> _Remembered | None:
        """What is known of `key`; None where that is nothing."""
        return None if key is None else self._known.get(key)

    def refresh(self) -> None:
        """Read what was added since the last time, by this process or another."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except OSError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                entry = json.loads(line)
                scores = tuple(_score(row) for row in entry["scores"])
                partials = tuple(_partial(row) for row in entry.get("partials", ()))
                self._known[str(entry["key"])] = _Remembered(scores, partials)
            except (ValueError, KeyError, TypeError, RecursionError):
                continue

    def add(self, key: str, scores: Sequence[MetricScore], partials: Sequence[Partial] = ()) -> None:
        """Append the scores of `key`, unless one of them is no finite number."""
        inner = [score.score for score in scores]
        if not all(math.isfinite(score.value) and math.isfinite(score.stderr or 0) for score in inner):
            return
        entry: dict[str, Any] = {"key": key, "scores": [_row(score) for score in scores]}
        if partials:
            entry["partials"] = [[one.samples, one.value, list(one.replicates)] for one in partials]
        line = json.dumps(entry, allow_nan=False)
        # The line break in front ends a line that a killed process left torn; one write keeps processes apart.
        data = f"\n{line}\n".encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)
        except OSError:  # a full disk stops the journal, with a message; a score that is not kept is made again
            return


def _row(score: MetricScore) -> list[Any]:
    inner = score.score
    return [
        score.metric,
        score.features,
        score.reference,
        score.direction,
        inner.value,
        inner.stderr,
        inner.samples,
        inner.debiased,
        list(inner.replicates),
        None if inner.interval is None else list(inner.interval),
    ]


def _score(row: Sequence[Any]) -> MetricScore:
    """The score of a row.

    Raises:
        ValueError, TypeError: where it is none.
    """
    metric, features, reference, direction, value, stderr, samples, debiased, replicates, interval = row
    texts = all(text is None or isinstance(text, str) for text in (features, reference)) and isinstance(metric, str)
    optional = all(number is None or type(number) is float for number in (stderr, debiased))
    given = (value, *replicates, *(interval or ()))
    numbers = optional and all(type(number) is float and math.isfinite(number) for number in given)
    if not (texts and numbers and type(samples) is int and direction in get_args(Direction)):
        raise ValueError(row)
    low_high = None if interval is None else (interval[0], interval[1])
    inner = Score(value, stderr, samples, debiased, tuple(replicates), low_high)
    return MetricScore(metric, features, reference, inner, direction)


def _partial(row: Sequence[Any]) -> Partial:
    """The partial score of a row.

    Raises:
        ValueError, TypeError: where it is none.
    """
    samples, value, replicates = row
    numbers = [value, *replicates]
    if type(samples) is not int or not all(type(number) is float and math.isfinite(number) for number in numbers):
        raise ValueError(row)
    return Partial(samples, value, tuple(replicates))
