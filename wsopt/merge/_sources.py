"""Where the checkpoints of a merge come from: a folder, a config, or the run that found the coefficients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wsopt.checkpoints import (
    CheckpointSet,
    Inventory,
    Selection,
    scan,
    select,
)
from wsopt.config import Config
from wsopt.errors import InputError
from wsopt.registry import Registry


@dataclass(frozen=True)
class Source:
    """Checkpoints that are there, and which of them are meant.

    Args:
        folder: the folder, for messages.
        inventory: what lies there, training-time EMAs that a config keeps elsewhere included.
        selection: what is taken of it.
    """

    folder: Path
    inventory: Inventory
    selection: Selection

    def checkpoints(self) -> CheckpointSet:
        """The chosen checkpoints of one stream.

        Raises:
            CheckpointError: see `wsopt.checkpoints.open_checkpoints`.
        """
        return select(self.folder, self.inventory, self.selection)

    def averages(self) -> CheckpointSet:
        """The chosen raw weights, or where there are none the EMA stream with the most snapshots; EMAs beside.

        Raises:
            CheckpointError: see `wsopt.checkpoints.open_checkpoints`.
        """
        chosen = self.selection
        taken = [snapshot for snapshot in self.inventory.snapshots if chosen.takes(snapshot.path)]
        counts = Counter(snapshot.stream for snapshot in taken if snapshot.stream.kind != "target")
        free = chosen.kind is None and chosen.rate is None and chosen.width is None
        if not free or any(stream.kind != "ema" for stream in counts) or not counts:
            return self.checkpoints()
        most = max(counts, key=lambda stream: (counts[stream], stream.rate or 0.0, stream.width or 0.0))
        chosen = replace(chosen, kind="ema", rate=most.rate, width=most.width)
        return select(self.folder, self.inventory, chosen)


def open_folder(folder: Path, registry: Registry, chosen: Mapping[str, Any]) -> Source:
    """The checkpoints in `folder`.

    Args:
        folder: one file or subfolder per checkpoint.
        registry: whose readers are tried.
        chosen: fields of `Selection`.

    Raises:
        InputError: where it is no folder.
        CheckpointError: see `wsopt.checkpoints.scan`.
    """
    if not folder.is_dir():
        what = "is a single file" if folder.is_file() else "does not exist"
        raise InputError(f"{folder} {what}. Give the folder of the checkpoints, or a config in TOML.")
    return Source(folder, scan([folder], registry.make_all("reader")), Selection(**chosen))


def open_config(config: Config, registry: Registry, chosen: Mapping[str, Any]) -> Source:
    """The checkpoints of a config: its folder, or what its recipe has trained; its selection, overridden by `chosen`.

    Raises:
        InputError: where the recipe has still to train.
        CheckpointError: see `wsopt.checkpoints.scan`.
    """
    settings = config.checkpoints
    selection = Selection(**settings.model_dump(exclude={"path", "ema_path"}))
    if settings.path is not None:
        folder = settings.path
        elsewhere = [] if settings.ema_path is None else [settings.ema_path]
    else:
        from wsopt.run import trained_set  # brings the engines along, which checkpoints in a folder do not need

        trained = trained_set(config, registry)
        if trained is None:
            raise InputError(
                f"the checkpoints of the config {config.name!r} are still to be trained. Train them with wsopt run, "
                f"or give the folder of checkpoints that are there."
            )
        folder = trained.checkpoints
        elsewhere = sorted({path.parent if path.is_file() else path for path in trained.emas.values()})
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Set checkpoints.path to the folder that holds the checkpoints.")
    paths = [folder, *(path for path in elsewhere if path.resolve() != folder.resolve())]
    return Source(folder, scan(paths, registry.make_all("reader")), replace(selection, **chosen))
