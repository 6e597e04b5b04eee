"""Where a run's checkpoints come from: a folder the user names, or the family's training recipe, cached."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsopt.checkpoints import CheckpointReader, CheckpointSet, open_checkpoints
from wsopt.config import Config
from wsopt.errors import CheckpointError
from wsopt.families import ModelFamily, TrainedSet
from wsopt.progress import Progress
from wsopt.registry import Registry
from wsopt.run._baselines import check_feasible, first_baselines

_EMA_NAME = re.compile(r"ema-(0?\.\d+)\.safetensors")


@dataclass(frozen=True)
class Sources:
    """The opened window, the training-time EMAs by rate, and what training measured (None where none was needed)."""

    checkpoints: CheckpointSet
    emas: Mapping[str, Path]
    training: Mapping[str, Any] | None


def training_folder(config: Config) -> Path:
    """Where the config's training recipe keeps its files; the name carries a hash of all that decides the weights."""
    assert config.train is not None
    facts = {
        "data": config.data.resolved(),
        "family": config.family.resolved(),
        "train": config.train.model_dump(mode="json"),
        "threads": config.threads,
        "device": config.device,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
    return config.output / "trained" / f"{config.family.name}-{digest}"


def find_sources(config: Config, registry: Registry, progress: Progress) -> Sources:
    """Open the checkpoints, training them first where the config has a recipe and they are not there yet.

    Raises:
        CheckpointError: see `open_checkpoints`.
        Interrupted: where training was stopped on request.
    """
    settings = config.checkpoints
    training: Mapping[str, Any] | None = None
    if settings.path is not None:
        folder, emas = settings.path, _emas(settings.ema_path)
    else:
        assert config.train is not None
        family: ModelFamily = registry.get("family", config.family.name).load()(config.family.params)
        dataset = registry.get("dataset", config.data.name).load()(config.data.params)
        trained = family.train(config.train, dataset, training_folder(config), progress)
        folder, emas, training = trained.checkpoints, dict(trained.emas), trained.facts
    return Sources(open_window(config, registry, folder), emas, training)


def trained_set(config: Config, registry: Registry) -> TrainedSet | None:
    """What the config's recipe has left on disk, or None where it has still to train."""
    assert config.train is not None
    family: ModelFamily = registry.get("family", config.family.name).load()(config.family.params)
    return family.trained(config.train, training_folder(config))


def known_emas(config: Config, registry: Registry) -> dict[str, Path]:
    """The training-time EMAs by rate, as far as they are on disk; a recipe that has to train counts with its rates."""
    if config.checkpoints.path is not None:
        return _emas(config.checkpoints.ema_path)
    trained = trained_set(config, registry)
    if trained is not None:
        return dict(trained.emas)
    rates = getattr(config.train, "ema_rates", ())
    return {f"{rate:g}": training_folder(config) for rate in rates}


def check_before_training(config: Config, registry: Registry) -> None:
    """Raise InputError where the budget would turn out too small once a recipe had trained for minutes."""
    if config.checkpoints.path is None and config.train is not None:
        family: ModelFamily = registry.get("family", config.family.name).load()(config.family.params)
        steps = tuple(family.planned_steps(config.train))
        check_feasible(config, first_baselines(config, steps, known_emas(config, registry)))


def open_window(config: Config, registry: Registry, folder: Path) -> CheckpointSet:
    """The config's window of the checkpoints in `folder`."""
    readers: list[CheckpointReader] = [component.load()() for component in registry.all("reader")]
    return open_checkpoints(folder, readers, config.checkpoints.window, config.checkpoints.interval)


def _emas(folder: Path | None) -> dict[str, Path]:
    if folder is None:
        return {}
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a folder. Set checkpoints.ema_path to the folder of ema-RATE.safetensors."
        )
    found = {match.group(1): path for path in sorted(folder.iterdir()) if (match := _EMA_NAME.fullmatch(path.name))}
    if not found:
        raise CheckpointError(
            f"{folder} holds no training-time EMA: expected files named like ema-0.999.safetensors. "
            f"Leave checkpoints.ema_path out where there are none."
        )
    return found
