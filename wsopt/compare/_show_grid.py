"""The content of a table before it is drawn: for a terminal, Markdown, LaTeX and HTML alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Entry:
    """One cell of a table.

    Args:
        text: what is written.
        value: what it is sorted and judged by; None where there is no number.
        best: whether it is the best of its column.
    """

    text: str
    value: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Grid:
    """One table.

    Args:
        key: a name for anchors, LaTeX labels and tests.
        title: what it shows.
        headers: one per column, the first that of the row names; a newline where a header may break.
        rows: row name and its entries, one fewer than `headers`.
        below: rows under a rule: what the methods are compared with, but are no methods.
        notes: sentences below the table.
    """

    key: str
    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]
    below: tuple[tuple[str, tuple[Entry, ...]], ...] = ()
    notes: tuple[str, ...] = ()

    def widths(self) -> list[int]:
        """Characters that each column needs, the headers broken at their newlines."""
        found = [max(len(line) for line in header.split("\n")) for header in self.headers]
        for name, entries in (*self.rows, *self.below):
            found = [max(width, len(text)) for width, text in zip(found, [name, *_texts(entries)], strict=True)]
        return found


def _texts(entries: Sequence[Entry]) -> list[str]:
    return [entry.text for entry in entries]


def mark_best(
    grid: Grid, directions: Sequence[bool | None], *, below: bool = True, never: Sequence[str] = ("floor",)
) -> Grid:
    """Mark the best entry of each column, ties together; nothing where all are alike.

    Args:
        grid: the table.
        directions: per column, the row names left out: True where the smallest value is best, False where the largest,
            None where none is.
        below: whether rows below the rule can be best as well.
        never: row names below the rule that cannot, since they begin with one of these.
    """

    def competes(name: str) -> bool:
        return below and not name.startswith(tuple(never))

    rivals = [*grid.rows, *((name, entries) for name, entries in grid.below if competes(name))]
    best: list[float | None] = []
    for position, smaller in enumerate(directions):
        values = [entries[position].value for _, entries in rivals]
        known = [value for value in values if value is not None and math.isfinite(value)]
        best.append(None if smaller is None or len(set(known)) < 2 else min(known) if smaller else max(known))

    def marked(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        return tuple(
            replace(entry, best=value is not None and entry.value == value)
            for entry, value in zip(entries, best, strict=True)
        )

    return replace(
        grid,
        rows=tuple((name, marked(entries)) for name, entries in grid.rows),
        below=tuple((name, marked(entries) if competes(name) else entries) for name, entries in grid.below),
    )
