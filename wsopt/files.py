"""Files: written whole or not at all, by one process at a time; and those that make up a checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write_bytes(path: Path, data: bytes) -> None:
    """Write to a temporary name in the same folder, sync, and rename to `path`; parents are created.

    A process killed at any moment leaves `path` as it was, or complete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write a JSON value atomically. NaN and infinity are refused, since they are no JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def files_of(path: Path) -> list[Path]:
    """The file `path`, or every file below the folder `path`, sorted."""
    return sorted(inside for inside in path.rglob("*") if inside.is_file()) if path.is_dir() else [path]


@contextmanager
def locked(folder: Path, refusal: Callable[[], Exception]) -> Iterator[None]:
    """Hold `folder` against other processes; the system releases it when this one ends, however it ends.

    Args:
        folder: an existing folder; a file ``.lock`` is left in it.
        refusal: makes the error to raise where another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this platform
        yield
        return
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise refusal() from error
        yield
