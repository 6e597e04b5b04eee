"""The evaluator: one weight space, one model, the metrics; jobs in, outcomes out. Every engine's worker holds one."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsopt.checkpoints import CheckpointSet
from wsopt.config import Config
from wsopt.engines._metrics import Metric, build_metrics
from wsopt.engines._race import Racer, check_race
from wsopt.errors import InputError, WsoptError
from wsopt.families import ModelFamily
from wsopt.objectives import to_grey_levels
from wsopt.objectives.jackknife import stderr_of
from wsopt.registry import Registry
from wsopt.seeding import SampleNoise
from wsopt.tensors import as_bytes
from wsopt.types import Batch, Coefficients, Job, MetricScore, Outcome, Score, Split, Target
from wsopt.weightspace import Grouping, SpaceSettings, WeightSpace, open_space

_SPLITS: tuple[Split, ...] = ("search", "validation", "report")


@dataclass(frozen=True, eq=False)
class EvaluatorSpec:
    """All that a worker needs to build its evaluator; picklable.

    Args:
        config: the resolved config.
        registry: where its names are looked up.
        checkpoints: the window, opened.
        grouping: gives the layer group of each tensor (`Parameterization.grouping`); None lets all share coefficients.
    """

    config: Config
    registry: Registry
    checkpoints: CheckpointSet
    grouping: Grouping | None = None


@dataclass(frozen=True, eq=False)
class Rendered:
    """Samples to look at: `images` ``[N, C, H, W]`` uint8, `features` ``[N, d]`` float32."""

    images: NDArray[np.uint8]
    features: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Export:
    """Weights to be saved.

    Args:
        tensors: by name, on the CPU.
        metadata: text entries that belong into the file's header.
        notes: what the user is to be told of them, one sentence each.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    notes: tuple[str, ...] = ()


class _Stopwatch:
    """Seconds by stage of one job."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._begin = self._last = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds from the start to the end of the last stage."""
        return self._last - self._begin

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


class _TimeoutError(Exception):
    """A candidate that took longer than `search.timeout`."""


class Evaluator:
    """Evaluates jobs one after another on one device.

    Raises:
        WsoptError: from the constructor, where checkpoints, network, objective or references do not fit together.
    """

    def __init__(self, spec: EvaluatorSpec) -> None:
        config = spec.config
        self._config = config
        self._device = torch.device(config.device)
        self.family: ModelFamily = spec.registry.make("family", config.family)
        self.model = self.family.build().to(self._device)
        state = self.model.state_dict()
        checkpoints = spec.checkpoints.named_as(state)
        if checkpoints.kind != "lora":
            # The anchor is loaded once in full, so that a wrong architecture is told before the first evaluation.
            self.family.load(self.model, checkpoints.load(0))
        held = config.weightspace.model_dump() | {"cache": config.weightspace.cache or config.output / "cache"}
        settings = SpaceSettings(**held, device=config.device)
        self.space: WeightSpace = open_space(checkpoints, settings, spec.grouping, state)
        self._fingerprint = self.space.fingerprint
        if checkpoints.kind == "lora":
            self._fingerprint = _with_base(self._fingerprint, state)
        self.metrics = build_metrics(config, spec.registry)
        check_race(config.search.race, config.objective.name, self.metrics.search[0].objective)
        self._recalculates = config.weightspace.batchnorm == "recalculate"
        if self._recalculates:
            # A family that cannot says so here, not at the first candidate.
            self.family.recalculate(self.model, self.metrics.dataset)
        self._noise = {split: SampleNoise(config.seed, split) for split in _SPLITS}

    def evaluate(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Outcomes in the order of `jobs`; neighbours whose slots fall into one block are merged in one pass."""
        width = self.space.width
        at = 0
        while at < len(jobs):
            end = at + 1
            while end < len(jobs) and jobs[end].slot // width == jobs[at].slot // width:
                end += 1
            block = jobs[at:end]
            watch = _Stopwatch()
            try:
                self._merge(block)
            except Exception as error:  # out of memory, most likely: this block's failure, not the run's
                yield from (Outcome(job.id, (), {}, f"{type(error).__name__}: {error}") for job in block)
            else:
                watch.lap("merge")
                yield from (self._evaluate(job, watch.seconds["merge"] / len(block)) for job in block)
            at = end

    def render(self, target: Target, split: Split, count: int) -> Rendered:
        """The first `count` samples of a split, with their features in the search's feature space (or pixels)."""
        self._write(Job(0, target, split, count))
        images, features = [], []
        for batch in self._samples(split, range(count)):
            grey = to_grey_levels(batch.images, self._config.objective.quantize)
            name = self.metrics.search[0].features
            vectors = grey.flatten(1) if name is None else self.metrics.extractors[name](grey)
            images.append(to_grey_levels(batch.images, "round").to(torch.uint8).cpu().numpy())
            features.append(vectors.float().cpu().numpy())
        return Rendered(np.concatenate(images), np.concatenate(features))

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest over the content of all checkpoints and, for LoRA, of the base model."""
        return self._fingerprint

    def export(self, target: Target) -> Export:
        """The weights of a target in the checkpoints' own names and dtypes, copied, on the CPU."""
        metadata: dict[str, str] = {}
        notes: tuple[str, ...] = ()
        if isinstance(target, Coefficients):
            self.space.prepare(target.values[None])
            tensors, metadata, notes = self.space.tensors(0), self.space.metadata(0), self.space.notes(0)
            if self._recalculates:
                self._load(Job(0, target, "report", 1))
                tensors |= {name: value for name, value in self.model.state_dict().items() if name in tensors}
        else:
            tensors = self.space.file_tensors(target)
        copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        return Export(copies, metadata, notes)

    def floor(self) -> list[MetricScore]:
        """The distance of real images from real images: each reference split against the other of train and test."""
        scores = []
        for metric in self.metrics.report:
            if metric.split is None:
                continue
            other = self.metrics.dataset.images("train" if metric.split == "test" else "test")
            images = to_grey_levels(torch.from_numpy(other), self._config.objective.quantize)
            batch = self._extracted(metric, Batch(images, range(len(other))))
            objective = metric.objective
            try:
                scores.append(
                    self._labelled(metric, _scored(metric, objective.add(objective.new(), batch), stderr=True))
                )
            except Exception:  # a plugin that cannot score real images has no floor; the run is not lost for that
                continue
        return scores

    @property
    def samples(self) -> bool:
        """Whether anything is sampled at all: objectives on weights do without."""
        return any(metric.objective.takes_samples for metric in self.metrics.report)

    def _merge(self, block: Sequence[Job]) -> None:
        rows, values = [], []
        for job in block:
            if isinstance(job.target, Coefficients):
                rows.append(job.slot % self.space.width)
                values.append(job.target.values)
        if rows:
            self.space.prepare(np.stack(values), tuple(rows))

    def _write(self, job: Job) -> None:
        """Merge one job alone, in its own row, and load it."""
        self._merge([job])
        self._load(job)

    def _load(self, job: Job) -> None:
        if isinstance(job.target, Coefficients):
            self.space.write(job.slot % self.space.width, self.model)
            if self._recalculates:
                self.family.recalculate(self.model, self.metrics.dataset)
        else:
            self.space.write_file(job.target, self.model)

    def _evaluate(self, job: Job, merge_seconds: float) -> Outcome:
        watch = _Stopwatch()
        racer = Racer(self.metrics.of(job.split)[0].objective, job)
        try:
            self._load(job)
            watch.lap("merge")
            scores = self._score(job, racer, watch)
        except WsoptError:
            raise
        except _TimeoutError as error:
            return Outcome(job.id, (), watch.seconds, str(error))
        except (Exception, SystemExit) as error:  # whatever a plugin does at one candidate is that candidate's failure
            return Outcome(job.id, (), watch.seconds, f"{type(error).__name__}: {error}")
        watch.seconds["merge"] += merge_seconds
        partials = tuple(racer.partials)
        if racer.given_up:
            return Outcome(job.id, (), watch.seconds, partials=partials, given_up=True)
        first = scores[0].score.value
        if not np.isfinite(first):
            return Outcome(job.id, (), watch.seconds, f"the score is {first}, which is not finite")
        return Outcome(job.id, tuple(scores), watch.seconds, partials=partials)

    def _score(self, job: Job, racer: Racer, watch: _Stopwatch) -> list[MetricScore]:
        """The scores of all metrics; none where the race was given up."""
        metrics = self.metrics.of(job.split)
        accs = [metric.objective.new() for metric in metrics]
        for i, metric in enumerate(metrics):
            if metric.objective.takes_weights:
                accs[i] = metric.objective.add_weights(accs[i], self.model.state_dict())
        sampled = [i for i, metric in enumerate(metrics) if metric.objective.takes_samples]
        ranges = racer.ranges() if sampled else ()
        batches = (batch for indices in ranges for batch in self._samples(job.split, indices))
        for done, batch in enumerate(batches, start=1):
            watch.lap("sample")
            # Quantisation would turn an infinity into a white pixel and hide it.
            if not bool(batch.images.isfinite().all()):
                raise FloatingPointError("the model generated samples that are not finite")
            grey = replace(batch, images=to_grey_levels(batch.images, self._config.objective.quantize))
            extracted = self._extract([metrics[i] for i in sampled], grey.images)
            watch.lap("features")
            for i in sampled:
                accs[i] = metrics[i].objective.add(accs[i], _with_features(metrics[i], grey, extracted))
            racer.look(accs[0], batch.indices[-1] + 1)
            watch.lap("distance")
            self._check_time(job, watch, done)
        if racer.given_up:
            return []
        stderr = job.split == "report"
        scores = [
            self._labelled(metric, _scored(metric, acc, stderr)) for metric, acc in zip(metrics, accs, strict=True)
        ]
        watch.lap("distance")
        return scores

    def _check_time(self, job: Job, watch: _Stopwatch, done: int) -> None:
        limit = self._config.search.timeout
        if limit is not None and job.split != "report" and watch.elapsed > limit:
            total = math.ceil(job.samples / self._config.search.batch_size)
            raise _TimeoutError(f"took longer than search.timeout = {limit:g} s ({done} of {total} batches done)")

    def _samples(self, split: Split, indices: range) -> Iterator[Batch]:
        with torch.inference_mode():
            yield from self.family.sample(self.model, indices, self._noise[split], self._config.search.batch_size)

    def _extract(self, metrics: Sequence[Metric], images: Tensor) -> dict[tuple[str, str], Tensor]:
        """Everything that the metrics take from the images, each extractor asked once.

        What the first metric takes must be finite; from the others' features a metric of the report alone gets NaN.
        """
        wanted: dict[str, list[str]] = {}
        for features, output in dict.fromkeys(one for metric in metrics for one in metric.inputs):
            wanted.setdefault(features, []).append(output)
        found: dict[tuple[str, str], Tensor] = {}
        for features, outputs in wanted.items():
            for output, vectors in self.metrics.extractors[features].extract(images, outputs).items():
                if (features, output) in metrics[0].inputs and not bool(vectors.isfinite().all()):
                    raise FloatingPointError(f"the {output} {features!r} of the samples are not finite")
                found[features, output] = vectors
        return found

    def _extracted(self, metric: Metric, batch: Batch) -> Batch:
        return _with_features(metric, batch, self._extract([metric], batch.images))

    def _labelled(self, metric: Metric, score: Score) -> MetricScore:
        """The score as plain numbers, whatever a plugin made it of (a tensor, a NaN standard error)."""
        stderr = None if score.stderr is None else float(score.stderr)
        valid = stderr is not None and np.isfinite(stderr) and stderr >= 0
        debiased = None if score.debiased is None else float(score.debiased)
        replicates = tuple(float(value) for value in score.replicates)
        plain = Score(
            float(score.value),
            stderr if valid else None,
            int(score.samples),
            debiased if debiased is not None and np.isfinite(debiased) else None,
            replicates if np.isfinite(replicates).all() else (),
            None if score.interval is None else (float(score.interval[0]), float(score.interval[1])),
        )
        return MetricScore(metric.name, metric.features, metric.reference, plain, metric.objective.direction)


def _scored(metric: Metric, acc: Any, stderr: bool) -> Score:  # noqa: ANN401 - whatever the objective accumulates in
    """The score, with the statistics that follow from the replicates where the objective leaves them to us."""
    score = metric.objective.score(acc, stderr)
    if not stderr or score.replicates or not np.isfinite(float(score.value)):
        return score
    replicates = metric.objective.replicates(acc)
    if replicates is None:
        return score
    error = stderr_of(replicates) if score.stderr is None else score.stderr
    return replace(score, stderr=error, replicates=tuple(float(value) for value in replicates))


def _with_features(metric: Metric, batch: Batch, extracted: Mapping[tuple[str, str], Tensor]) -> Batch:
    """The batch as a metric's objective takes it."""
    own = None if metric.features is None else extracted.get((metric.features, metric.objective.output))
    return replace(batch, features=own, extracted=extracted)


def _with_base(fingerprint: str, base: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(fingerprint.encode())
    for name in sorted(base):
        digest.update(name.encode())
        digest.update(as_bytes(base[name]))
    return digest.hexdigest()


def check_devices(config: Config) -> None:
    """Raise InputError where torch has not one of the devices that a config names."""
    check_device(config.device)
    for name in config.weightspace.devices:
        check_device(name, "weightspace.devices")


def check_device(name: str, key: str = "device") -> None:
    """Raise InputError where torch has no device `name`, which the config's `key` asks for."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f'{key}: "{name}" is not available: {reason}. Use "cpu".') from error
