"""The run folder: its files, atomic writing, and the lock that keeps a second process out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wsopt.errors import ResumeError


class RunFolder:
    """Paths of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.resolved = path / "resolved.json"
        self.provenance = path / "provenance.json"
        self.journal = path / "journal.jsonl"
        self.timings = path / "timings.jsonl"
        self.results = path / "results.json"
        self.merged = path / "merged.safetensors"
        self.samples = path / "samples.npz"
        self.card = path / "README.md"
        self.figures = path / "figures"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            ResumeError: where another process works in it.
        """
        try:
            import fcntl
        except ImportError:  # no such locks on this platform
            yield
            return
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ResumeError(
                    f"{self.path} is in use by another process. Wait for it, or stop it, before continuing this run."
                ) from error
            yield


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a temporary file, sync it and rename it to `path`; a killed process leaves `path` as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Read a JSON file of a run.

    Raises:
        ResumeError: where it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResumeError(f"{path} is damaged ({error}). Move the folder away to start the run again.") from error
