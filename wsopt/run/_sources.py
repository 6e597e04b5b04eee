"""Where a run's checkpoints come from: a folder the user names, or the family's training recipe, cached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsopt.checkpoints import CheckpointSet, Selection, Snapshot, open_checkpoints, scan
from wsopt.config import Config
from wsopt.errors import CheckpointError
from wsopt.families import ModelFamily, TrainedSet
from wsopt.progress import Progress
from wsopt.registry import Registry
from wsopt.run._baselines import check_feasible, first_baselines
from wsopt.run._former import former_runs
from wsopt.run._validation import check_validation
from wsopt.types import WeightsFile


@dataclass(frozen=True)
class Sources:
    """The opened window, the training-time EMAs by rate, and what training measured (None where none was needed)."""

    checkpoints: CheckpointSet
    emas: Mapping[str, WeightsFile]
    training: Mapping[str, Any] | None


def find_sources(config: Config, registry: Registry, progress: Progress) -> Sources:
    """Open the checkpoints, training them first where the config has a recipe and they are not there yet.

    Raises:
        CheckpointError: see `open_checkpoints`.
        Interrupted: where training was stopped on request.
    """
    settings = config.checkpoints
    if settings.path is not None:
        checkpoints = open_window(config, registry, settings.path)
        return Sources(checkpoints, _emas(config, registry, checkpoints), None)
    assert config.train is not None
    family: ModelFamily = registry.make("family", config.family)
    dataset = registry.make("dataset", config.data)
    trained = family.train(config.train, dataset, config.training_folder, progress)
    return Sources(open_window(config, registry, trained.checkpoints), _trained_emas(trained), trained.facts)


def trained_set(config: Config, registry: Registry) -> TrainedSet | None:
    """What the config's recipe has left on disk, or None where it has still to train."""
    assert config.train is not None
    family: ModelFamily = registry.make("family", config.family)
    return family.trained(config.train, config.training_folder)


def known_emas(config: Config, registry: Registry) -> dict[str, WeightsFile]:
    """The training-time EMAs by rate, as far as they are on disk; a recipe that has to train counts with its rates."""
    if config.checkpoints.path is not None:
        return _emas(config, registry, open_window(config, registry, config.checkpoints.path))
    trained = trained_set(config, registry)
    if trained is not None:
        return _trained_emas(trained)
    rates = getattr(config.train, "ema_rates", ())
    return {f"{rate:g}": WeightsFile(config.training_folder) for rate in rates}


def check_before_training(config: Config, registry: Registry) -> None:
    """Raise InputError for what would otherwise turn out once a recipe had trained and baselines were scored.

    A parameter that the optimizer cannot use, a budget that is too small, a former run that is not there.
    """
    check_validation(config)
    former_runs(config)
    registry.get("optimizer", config.optimizer.name).load().check(config.optimizer.params)
    if config.checkpoints.path is None and config.train is not None:
        family: ModelFamily = registry.make("family", config.family)
        steps = tuple(family.planned_steps(config.train))
        check_feasible(config, first_baselines(config, steps, known_emas(config, registry)))


def open_window(config: Config, registry: Registry, folder: Path) -> CheckpointSet:
    """The config's window of the checkpoints in `folder`."""
    return open_checkpoints(folder, registry.make_all("reader"), _selection(config))


def _selection(config: Config) -> Selection:
    return Selection(**config.checkpoints.model_dump(exclude={"path", "ema_path"}))


def _trained_emas(trained: TrainedSet) -> dict[str, WeightsFile]:
    return {rate: WeightsFile(path) for rate, path in trained.emas.items()}


def _emas(config: Config, registry: Registry, checkpoints: CheckpointSet) -> dict[str, WeightsFile]:
    """Training-time EMAs by rate: those beside the checkpoints at their last step, and those of `ema_path`."""
    found = [snapshot for snapshot in checkpoints.emas if snapshot.step == checkpoints.steps[-1]]
    folder = config.checkpoints.ema_path
    if folder is not None:
        if not folder.is_dir():
            raise CheckpointError(
                f"{folder} is not a folder. Set checkpoints.ema_path to the folder of ema-RATE.safetensors."
            )
        last = [one for one in scan([folder], registry.make_all("reader")).snapshots if one.stream.kind == "ema"]
        last = [one for one in last if one.step is None or one.step == checkpoints.steps[-1]]
        if not last:
            raise CheckpointError(
                f"{folder} holds no training-time EMA of step {checkpoints.steps[-1]}: expected files named like "
                f"ema-0.999.safetensors. Leave checkpoints.ema_path out where there are none."
            )
        found += last
    return {_ema_label(snapshot): WeightsFile(snapshot.path, snapshot.part) for snapshot in found}


def _ema_label(snapshot: Snapshot) -> str:
    stream = snapshot.stream
    if stream.rate is not None:
        return f"{stream.rate:.10g}"
    return "unknown" if stream.width is None else f"width-{stream.width:g}"
