"""What lies in files and folders: sets of weights, files that could not be read, and everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wsopt.checkpoints._base import CheckpointReader, Snapshot
from wsopt.errors import CheckpointError


@dataclass(frozen=True)
class Problem:
    """A file that should be a checkpoint and gave none.

    Args:
        path: the file.
        kind: ``torn`` (of a known format, incomplete or damaged) or ``foreign`` (of no known format).
        text: the whole message, with the file's name and what to do.
    """

    path: Path
    kind: Literal["torn", "foreign"]
    text: str


@dataclass(frozen=True)
class Inventory:
    """What was found.

    Args:
        snapshots: every set of weights, in the order of the paths.
        problems: files that gave none although they look like checkpoints.
        others: files that hold no weights (optimizer states, logs), with what they are.
    """

    snapshots: tuple[Snapshot, ...]
    problems: tuple[Problem, ...]
    others: tuple[tuple[Path, str], ...]


def scan(paths: Sequence[Path], readers: Sequence[CheckpointReader]) -> Inventory:
    """Look into `paths`: files, folders that are one checkpoint, and folders of either.

    Hidden entries are passed over; so are subfolders that no reader recognises.

    Raises:
        CheckpointError: where one of `paths` itself is not there or cannot be read.
    """
    snapshots: list[Snapshot] = []
    problems: list[Problem] = []
    others: list[tuple[Path, str]] = []
    for path in _entries(paths, readers):
        try:
            reader = reader_for(path, readers)
            if reader is None:
                if not path.is_dir():
                    problems.append(Problem(path, "foreign", _foreign(path, readers)))
                continue
            found = reader.scan(path)
        except CheckpointError as error:
            problems.append(Problem(path, "torn", str(error)))
            continue
        snapshots += found
        if not found:
            others.append((path, f"{reader.name} without weights"))
    return Inventory(tuple(snapshots), tuple(problems), tuple(others))


def reader_for(path: Path, readers: Sequence[CheckpointReader]) -> CheckpointReader | None:
    """The first reader that recognises `path`, or None.

    Raises:
        CheckpointError: where `path` cannot be read, or is neither a file nor a folder.
    """
    if not path.is_file() and not path.is_dir():
        what = "a symbolic link that leads nowhere" if path.is_symlink() else "neither a file nor a folder"
        raise CheckpointError(f"{path} is {what}. Mend it or move it out of the folder.")
    try:
        return next((reader for reader in readers if reader.recognises(path)), None)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error


def _entries(paths: Sequence[Path], readers: Sequence[CheckpointReader]) -> list[Path]:
    entries: list[Path] = []
    for path in paths:
        if not path.exists() and not path.is_symlink():
            raise CheckpointError(f"{path} does not exist. Give the file or folder of the checkpoints.")
        if path.is_dir() and reader_for(path, readers) is None:
            entries += [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
        else:
            entries.append(path)
    return entries


def _foreign(path: Path, readers: Sequence[CheckpointReader]) -> str:
    formats = ", ".join(sorted({reader.name for reader in readers}))
    return (
        f"{path} is no checkpoint of a known format ({formats}). Move it out of the folder, install the plugin that "
        f'reads it, or set checkpoints.unreadable = "skip".'
    )
