"""What a run folder says of its run, from its journal and results alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

_TAIL: Final = 4096
_COUNTED: Final = (b'{"event":"baseline"', b'{"event":"told"')


def is_finished(folder: Path, budget: int) -> bool:
    """Whether a run folder holds the results of exactly this budget, and its journal ends with them.

    A search that ended by itself before its budget was spent is over, whatever larger budget is asked for.
    """
    try:
        with (folder / "journal.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            last = file.read().splitlines(keepends=True)[-1]
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        whole = last.endswith(b"\n") and json.loads(last)["event"] == "finished"
        over = results["budget"] < budget and results["evaluations"] < results["budget"]
        return bool(whole and (results["budget"] == budget or over))
    except (OSError, ValueError, LookupError, TypeError):
        return False


class Watched:
    """A run folder while another process works in it: how far it is, read bit by bit.

    Args:
        folder: the run folder, which need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "journal.jsonl"
        self._at = 0
        self._rest = b""
        self._sign: float | None = None
        self._values: list[float] = []
        self.evaluations = 0
        """Baselines and candidates scored so far."""

    @property
    def begun(self) -> bool:
        """Whether its checkpoints are there and its evaluations may be."""
        return self._path.exists()

    @property
    def best(self) -> float | None:
        """The best search score so far, in natural values; None before the first candidate."""
        if self._sign is None or not self._values:
            return None
        return (min if self._sign > 0 else max)(self._values)

    def look(self) -> None:
        """Read what was written since the last look."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._at:  # a torn last line was cut off
                    self._at, self._rest, self.evaluations = 0, b"", 0
                    self._values.clear()
                file.seek(self._at)
                new = file.read()
        except OSError:
            return
        self._at += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            if line.startswith(_COUNTED):
                self._count(line)
        if self._sign is not None and self._values:
            self._values = [value for value in (self.best,) if value is not None]

    def _count(self, line: bytes) -> None:
        self.evaluations += 1
        try:
            event = json.loads(line)
        except ValueError:  # the run itself refuses such a line
            return
        value, loss = event.get("value"), event.get("loss")
        if not isinstance(value, int | float):
            return
        if isinstance(loss, int | float):
            self._sign = 1.0 if loss == value else -1.0
        # What is no combination of checkpoints is not what the search searches.
        if event.get("kind") != "weights":
            self._values.append(value)
