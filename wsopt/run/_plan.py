"""The plan of a run (`--dry-run`): what it would read, hold, and take, from headers and one small timed batch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from wsopt.checkpoints import CheckpointSet, TensorSpec
from wsopt.config import Config
from wsopt.engines import Metric, build_metrics, check_devices, check_race, make_objective
from wsopt.families import ModelFamily
from wsopt.objectives import to_grey_levels
from wsopt.parameterizations import Parameterization
from wsopt.registry import Registry
from wsopt.run._baselines import check_feasible, first_baselines
from wsopt.run._folder import RunFolder
from wsopt.run._sources import check_before_training, known_emas, open_window, trained_set
from wsopt.seeding import SampleNoise
from wsopt.types import SpaceInfo
from wsopt.weightspace import SpacePlan, SpaceSettings, plan_dense, plan_lora


@dataclass(frozen=True)
class Plan:
    """What a run would do; every field is a JSON value.

    Args:
        folder: the run folder, and whether it exists already.
        checkpoints: where from, how many, steps, tensors, values, bytes on disk; the training recipe where one has
            still to run.
        passed_over: files and copies that are not used, a sentence each.
        policy: by what is done with them: number of tensors, number of values, names.
        parameterization: its name, and ``dimension``, D: None where it takes the checkpoints' inner products to tell.
        groups: names of the layer groups.
        memory_bytes: what is held, by what it is for; ``mapped`` in a file, the rest resident.
        held: ``dtype`` of the differences, ``devices``, and ``cache``, the folder of the mapped file.
        evaluations: budget, split in baselines (before extension of the grid) and search; `samples` of each, 0 where
            nothing is sampled.
        seconds: of one evaluation (measured on one batch), of baselines and search, of the report; training apart.
    """

    folder: str
    exists: bool
    checkpoints: Mapping[str, Any]
    passed_over: tuple[str, ...]
    policy: Mapping[str, Any]
    parameterization: Mapping[str, Any]
    groups: tuple[str, ...]
    memory_bytes: Mapping[str, int]
    held: Mapping[str, Any]
    evaluations: Mapping[str, int]
    seconds: Mapping[str, float]
    nfe: int

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def make_plan(config: Config, registry: Registry) -> Plan:
    """Compare all headers, project memory and time. Trains nothing, searches nothing, writes nothing.

    Raises:
        InputError: what the run itself would raise for bad input, as far as headers can tell.
    """
    check_devices(config)
    check_before_training(config, registry)
    torch.set_num_threads(config.threads)
    family: ModelFamily = registry.make("family", config.family)
    checkpoints, facts = _checkpoints(config, registry, family)
    network = _tensors(family)
    tensors = network if checkpoints is None else checkpoints.named_as(network).tensors
    steps = tuple(family.planned_steps(config.train)) if checkpoints is None else checkpoints.steps  # type: ignore[arg-type]
    parameterization: Parameterization = registry.make("parameterization", config.parameterization)
    space = _space(config, parameterization, checkpoints, tensors, network, len(steps))
    is_lora = checkpoints is not None and checkpoints.kind == "lora"
    info = SpaceInfo(steps, space.groups, representation="lora" if is_lora else "dense")
    planned = first_baselines(config, steps, known_emas(config, registry))
    check_feasible(config, planned)
    baselines = len(planned)
    # the baselines but for the singles, of which the best alone is reported; the winner, twice; what is recommended
    report = sum(baseline.kind != "single" for baseline in planned) + 4
    report += len(config.report.curve) + (config.validation.samples > 0)
    per_evaluation = _time_evaluation(config, registry, family)
    objective = make_objective(config.objective, registry)
    check_race(config.search.race, config.objective.name, objective)
    sampled = objective.takes_samples
    per_report = per_evaluation * (config.report.samples / config.search.samples if sampled else 1.0)
    return Plan(
        folder=str(config.run_folder),
        exists=RunFolder(config.run_folder).resolved.exists(),
        checkpoints={
            **facts,
            "count": len(steps),
            "steps": [steps[0], steps[-1]],
            "tensors": len(tensors),
            "values": sum(spec.numel for spec in tensors.values()),
            "bytes": len(steps) * sum(spec.nbytes for spec in tensors.values()),
        },
        passed_over=() if checkpoints is None else checkpoints.passed_over,
        policy=_policy_table(space, {**tensors, **network}),
        parameterization={
            "name": config.parameterization.name,
            "dimension": _dimension(parameterization, info),
        },
        groups=space.groups,
        memory_bytes=space.nbytes,
        held={
            "dtype": config.weightspace.dtype,
            "devices": list(config.weightspace.devices or (config.device,)),
            "cache": str(config.weightspace.cache or config.output / "cache"),
        },
        evaluations={
            "budget": config.budget,
            "baselines": baselines,
            "search": config.budget - baselines,
            "samples": config.search.samples if sampled else 0,
            "report": report,
            "report_samples": config.report.samples if sampled else 0,
        },
        seconds={
            "evaluation": per_evaluation,
            "baselines and search": per_evaluation * config.budget,
            "report": per_report * report,
        },
        nfe=family.nfe,
    )


def _checkpoints(
    config: Config, registry: Registry, family: ModelFamily
) -> tuple[CheckpointSet | None, dict[str, Any]]:
    if config.checkpoints.path is not None:
        return open_window(config, registry, config.checkpoints.path), {"from": str(config.checkpoints.path)}
    trained = trained_set(config, registry)
    if trained is not None:
        return open_window(config, registry, trained.checkpoints), {"from": str(trained.checkpoints)}
    assert config.train is not None
    recipe = {"recipe": config.train.model_dump(mode="json"), "to_train": True}
    return None, {"from": str(config.training_folder), **recipe}


def _dimension(parameterization: Parameterization, info: SpaceInfo) -> int | None:
    """D as far as headers tell: groups whose tensors turn out equal in all checkpoints make it less."""
    if parameterization.needs_gram:
        return None
    parameterization.bind(info)
    return parameterization.dimension


def _space(
    config: Config,
    parameterization: Parameterization,
    checkpoints: CheckpointSet | None,
    tensors: Mapping[str, TensorSpec],
    network: Mapping[str, TensorSpec],
    count: int,
) -> SpacePlan:
    settings = SpaceSettings(**config.weightspace.model_dump(), device=config.device)
    if checkpoints is not None and checkpoints.kind == "lora":
        return plan_lora(checkpoints.snapshots, settings, network, parameterization.grouping)
    return plan_dense(tensors, count, settings, parameterization.grouping)


def _policy_table(space: SpacePlan, tensors: Mapping[str, TensorSpec]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, policy in space.policies.items():
        row = table.setdefault(policy, {"tensors": 0, "values": 0, "names": []})
        row["tensors"] += 1
        row["values"] += tensors[name].numel
        row["names"].append(name)
    return table


def _tensors(family: ModelFamily) -> dict[str, TensorSpec]:
    state = family.build().state_dict()
    return {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}


def _time_weights(metric: Metric, model: nn.Module) -> float:
    """Seconds of an objective on weights; the first call may import what it needs."""
    begin = time.perf_counter()
    metric.objective.add_weights(metric.objective.new(), model.state_dict())
    return time.perf_counter() - begin


def _time_evaluation(config: Config, registry: Registry, family: ModelFamily) -> float:
    """Seconds of one evaluation, extrapolated from the faster of two batches; merging is not in it."""
    model = family.build().to(config.device)
    metrics = build_metrics(config, registry, keep=False)
    metric = metrics.search[0]
    if not metric.objective.takes_samples:
        return min(_time_weights(metric, model) for _ in range(2))
    noise = SampleNoise(config.seed, "search")
    size = min(config.search.batch_size, config.search.samples)
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        with torch.inference_mode():
            for batch in family.sample(model, range(size), noise, size):
                grey = to_grey_levels(batch.images, config.objective.quantize)
                for features, output in metric.inputs:
                    metrics.extractors[features].extract(grey, [output])
        seconds.append(time.perf_counter() - begin)
    return min(seconds) * config.search.samples / size
