"""manifest.json of a comparison: its cells, and every configuration that was ever tried in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wsopt
from wsopt.compare._cells import Cell, Cells
from wsopt.errors import InputError
from wsopt.files import write_json

_FORMAT = 1


class Manifest:
    """The manifest of a comparison's folder, written anew at every change.

    ``cells`` are those of the last command: method, instance, run folder, hash of the config, budget, the command
    that runs the cell alone, and its state (``waiting``, ``running``, ``done``, ``failed``, ``stopped``), with the
    message of a failure. ``tried`` has an entry for every configuration that a command ever ran or found finished
    here, with the number of such commands; it only grows.

    Args:
        folder: of the comparison.
        cells: all of the command.
        file: of the comparison.
        command: that was given.

    Raises:
        InputError: where the folder has a manifest.json that is none.
    """

    def __init__(self, folder: Path, cells: Cells, file: Path, command: str) -> None:
        self.path = folder / "manifest.json"
        self._head = {
            "format": _FORMAT,
            "wsopt": wsopt.__version__,
            "name": cells.name,
            "file": str(file),
            "command": command,
            "reference": cells.reference,
            "comparisons": None if cells.comparisons is None else [list(pair) for pair in cells.comparisons],
            "forced": list(cells.forced),
        }
        self._cells = {
            cell.folder: {**_facts(cell), "command": cell.command, "state": "waiting"} for cell in cells.cells
        }
        self._tried = {_key(entry): entry for entry in _read(self.path)}
        self._counted: set[Path] = set()

    def set(self, cell: Cell, state: str, message: str | None = None) -> None:
        """Note what became of a cell, and write the file."""
        entry = self._cells[cell.folder]
        entry["state"] = state
        entry.pop("message", None)
        if message:
            entry["message"] = message
        if state != "waiting" and cell.folder not in self._counted:
            self._counted.add(cell.folder)
            facts = {**_facts(cell), "overrides": dict(cell.overrides)}
            times = self._tried.get(_key(facts), {}).get("times", 0)
            self._tried[_key(facts)] = {**facts, "times": times + 1}
        self.write()

    def write(self) -> None:
        """Write the file."""
        write_json(self.path, {**self._head, "cells": list(self._cells.values()), "tried": list(self._tried.values())})


def _facts(cell: Cell) -> dict[str, Any]:
    return {
        "method": cell.method,
        "instance": cell.instance,
        "run": str(cell.folder),
        "config": cell.config.run_hash(),
        "budget": cell.config.budget,
    }


def _key(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["method"], entry["instance"], entry["config"], entry["budget"]


def _read(path: Path) -> Sequence[dict[str, Any]]:
    """The configurations that were tried before."""
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        entries: list[dict[str, Any]] = found["tried"]
        for entry in entries:
            _key(entry)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path} is no manifest of a comparison ({error!r}). It keeps every configuration that was tried: restore "
            f"it, or give another folder with --output."
        ) from error
    return entries
