"""The run folder: its files, and the lock that keeps a second process out."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from wsopt.errors import ResumeError
from wsopt.files import locked


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

    def locked(self) -> AbstractContextManager[None]:
        """Hold the folder for this process.

        Raises:
            ResumeError: on entering, where another process works in it.
        """
        text = f"{self.path} is in use by another process. Wait for it, or stop it, before continuing this run."
        return locked(self.path, lambda: ResumeError(text))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a run.

    Raises:
        ResumeError: where it is damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"it holds a {type(value).__name__}, not an object")
        return value
    except ValueError as error:
        raise ResumeError(f"{path} is damaged ({error}). Move the folder away to start the run again.") from error
