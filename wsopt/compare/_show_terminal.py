"""A comparison in a terminal of 100 columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from wsopt.compare._base import Column, Comparison
from wsopt.compare._show_details import declared_tests, pair_notes
from wsopt.compare._show_facts import ENOUGH_PAIRS
from wsopt.compare._show_grid import Grid
from wsopt.compare._show_notes import extent, manifest_notes, split_note, warnings
from wsopt.compare._show_tables import against, effort, scores

_G = TypeVar("_G", Grid, Grid | None)

WIDTH = 100
_NAMES = 30
"""Columns of the terminal that row names get before they are wrapped."""
_LEAST_NAMES = 16
_MOST_TESTS = 16


def terminal_view(comparison: Comparison) -> RenderableType:
    """Tables of final scores, of each method against the reference, of effort and costs, of tests, and notes.

    As many columns of the report split are shown as fit into 100 columns of a terminal; `write_comparison` writes
    them all.

    Args:
        comparison: what `analyse` made.

    Returns:
        A rich renderable.
    """
    parts: list[RenderableType] = [Text(f"{comparison.name}: {comparison.label}", style="bold")]
    parts += [Text(text, style="bold yellow") for text in warnings(comparison)]
    parts.append(Text(""))
    shown, hidden = _fitting(comparison, scores)
    parts.append(_table(shown))
    compared, left_out = _fitting(comparison, against)
    parts += [_table(compared)] if compared is not None else []
    parts.append(_table(effort(comparison)))
    parts += _tests(comparison)
    notes = [extent(comparison), split_note(comparison), *manifest_notes(comparison)]
    if max(hidden, left_out):
        notes.append("The written report has more columns of the report split than fit here.")
    parts += [Text(note, style="dim") for note in notes if note]
    return Group(*parts)


def _fitting(comparison: Comparison, build: Callable[[Comparison, Sequence[Column]], _G]) -> tuple[_G, int]:
    """The table with as many columns of the report split as there is room for, and how many were left out."""
    count = len(comparison.columns)
    for kept in range(count, 0, -1):
        grid = build(comparison, comparison.columns[:kept])
        if grid is None or _width(grid) <= WIDTH:
            return grid, count - kept
    return build(comparison, comparison.columns[:1]), max(count - 1, 0)


def _width(grid: Grid) -> int:
    names, *others = grid.widths()
    return max(min(names, _NAMES), _LEAST_NAMES) + sum(others) + 2 * len(grid.headers) + 2


def _table(grid: Grid) -> Table:
    table = Table(
        title=Text(grid.title, style="bold"), title_justify="left", header_style="bold", box=box.HORIZONTALS,
        padding=(0, 1, 0, 0), pad_edge=False, caption_justify="left",
        caption=Text(" ".join(grid.notes), style="dim") if grid.notes else None,
    )  # fmt: skip
    text_columns = [1] if grid.key == "tests" else []
    room = max(_NAMES, WIDTH - _rest(grid))
    table.add_column(Text(grid.headers[0]), max_width=room, overflow="fold", vertical="bottom")
    for position, header in enumerate(grid.headers[1:], 1):
        left = position in text_columns
        table.add_column(Text(header), justify="left" if left else "right", no_wrap=not left, vertical="bottom")
    for rows in (grid.rows, grid.below):
        for name, entries in rows:
            table.add_row(Text(name), *(Text(entry.text, style="bold" if entry.best else "") for entry in entries))
        if rows is grid.rows and grid.below:
            table.add_section()
    return table


def _rest(grid: Grid) -> int:
    """Width of all columns but the first, with their padding."""
    return sum(grid.widths()[1:]) + 2 * len(grid.headers)


def _tests(comparison: Comparison) -> list[RenderableType]:
    """Tests of the search score and the report split's first column, as many as fit, where they can say something."""
    notes = pair_notes(comparison)
    for columns in ([None, *comparison.columns[:1]], [None], list(comparison.columns[:1])):
        grid = declared_tests(comparison, columns)
        if grid is not None and "p" in grid.headers and len(grid.rows) <= _MOST_TESTS:
            return [_table(grid)]
    if any(test.pairs >= ENOUGH_PAIRS for test in comparison.tests):
        notes.insert(0, f"{len(comparison.tests)} declared comparisons: the written report has their tests.")
    return [Text(note, style="dim") for note in notes]
