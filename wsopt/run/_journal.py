"""The journal: one JSON line per event, synced, replayed in order.

It holds deterministic fields only. The run is written as one script that records every event; while the journal has
events left, recording checks against them instead of writing. So resuming is the script run again, with the expensive
steps answered from the journal.
"""

from __future__ import annotations

import json
import os
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, BinaryIO

from wsopt.errors import ResumeError

Event = dict[str, Any]


class Journal:
    """An append-only event log with a replay cursor.

    Args:
        path: the file; created by the first `record`, which also cuts off a torn last line (a process killed while
            writing). Until then nothing on disk changes.

    Raises:
        ResumeError: for a bad line that is not the last, naming file and line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events, self._valid_bytes = _read(path)
        self._cursor = 0
        self._file: BinaryIO | None = None

    @property
    def written(self) -> bool:
        """True once this process has added an event."""
        return self._file is not None

    def peek(self) -> Event | None:
        """The next recorded event, or None."""
        return self.events[self._cursor] if self._cursor < len(self.events) else None

    def upcoming(self, kind: str) -> list[Event]:
        """The recorded events from the next one on, as long as they are of `kind`."""
        return list(takewhile(lambda event: event["event"] == kind, islice(self.events, self._cursor, None)))

    def recall(self, kind: str, **fields: object) -> Event | None:
        """Take the next recorded event if it is of `kind`, else None.

        Raises:
            ResumeError: where it is of that kind and has other `fields`.
        """
        event = self.peek()
        if event is None or event["event"] != kind:
            return None
        if any(event.get(key) != value for key, value in fields.items()):
            raise self.mismatch({"event": kind, **fields})
        self._cursor += 1
        return event

    def record(self, event: Event) -> None:
        """Append `event`, flushed and synced; while replaying, check that it is the recorded one.

        Raises:
            ResumeError: where the recorded event differs, naming the line.
        """
        recorded = self.peek()
        if recorded is None:
            self._append(json.dumps(event, allow_nan=False, separators=(",", ":")).encode() + b"\n")
            self.events.append(event)
        # Compared as JSON text: tuples and lists, and all floats, come back as what was written.
        elif json.dumps(recorded) != json.dumps(event):
            raise self.mismatch(event)
        self._cursor += 1

    def mismatch(self, found: Event) -> ResumeError:
        """The error for a replay that diverges at the cursor."""
        keys = {key for key in found if found[key] != (self.peek() or {}).get(key)}
        return ResumeError(
            f"{self.path}:{self._cursor + 1}: the run cannot be replayed, {', '.join(sorted(keys)) or 'the event'} of "
            f"this {found['event']!r} event differs from what was recorded. A package version, the number of threads "
            f"or the data changed (provenance.json has the former ones). Restore them, or move the folder away to "
            f"start again."
        )

    def close(self) -> None:
        """Close the file, if anything was written."""
        if self._file is not None:
            self._file.close()

    def _append(self, line: bytes) -> None:
        if self._file is None:
            self._file = self.path.open("ab")
            self._file.truncate(self._valid_bytes)
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())


def _read(path: Path) -> tuple[list[Event], int]:
    if not path.exists():
        return [], 0
    events: list[Event] = []
    valid = 0
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        last = number >= len(lines) - 1
        complete = number < len(lines)
        if not line and not complete:
            break
        try:
            event = json.loads(line)
            _validate(event)
        except ValueError as error:
            if last:
                break
            raise ResumeError(
                f"{path}:{number}: this line is no event of a journal ({error}). The file was changed or the disk "
                f"failed; restore it, or move the folder away to start the run again."
            ) from error
        if not complete:
            break
        events.append(event)
        valid += len(line) + 1
    return events, valid


_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "run": {"format": int, "config": str, "checkpoints": str},
    "baseline": {"name": str, "kind": str},
    "asked": {"ids": list, "x": list},
    "told": {"id": int},
    "validated": {"name": str, "evaluation": int},
    "report": {"name": str, "scores": list},
    "finished": {"evaluations": int},
}
_NUMBER = (int, float)
_GIVEN_UP: dict[str, type | tuple[type, ...]] = {"loss": _NUMBER, "given_up": int, "partials": list}
"""Of a candidate whose evaluation a race ended early: it has no value."""


def _validate(event: object) -> None:
    """Raise ValueError where a parsed line is no event of a journal."""
    kind = event.get("event") if isinstance(event, dict) else None
    if not isinstance(event, dict) or kind not in _FIELDS:
        raise ValueError("not an event")
    wrong = [key for key, expected in _FIELDS[kind].items() if not isinstance(event.get(key), expected)]
    if kind == "told" and "given_up" in event:
        wrong += [key for key, expected in _GIVEN_UP.items() if not isinstance(event.get(key), expected)]
    elif kind in ("baseline", "told", "validated") and not isinstance(event.get("failure"), str):
        wrong += [key for key in ("value", "samples") if not isinstance(event.get(key), _NUMBER)]
    if kind == "asked" and not wrong and not all(isinstance(i, int) for i in event["ids"]):
        wrong.append("ids")
    if wrong:
        raise ValueError(f"{kind!r} without a valid {wrong[0]}")
