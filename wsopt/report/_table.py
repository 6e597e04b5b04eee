"""The final table of a run, for a terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from wsopt.report._labels import kind_of, row_label
from wsopt.report._notes import HIDDEN, Column, column_header, notes, signed
from wsopt.report._record import RunRecord, ScoreRow

_ORDER = (
    "last", "best-single", "uniform", "power", "ema", "train-ema", "run", "ema*", "best", "recommended", "validated",
    "floor",
)  # fmt: skip
_UNBOUNDED = 100_000
_LABEL = 34
"""Width of the names of rows in a table of several pieces; longer ones are folded."""


@dataclass(frozen=True)
class _Cell:
    text: str
    winner: bool = False


@dataclass(frozen=True)
class _Grid:
    """The table's content, before it is drawn: header lines per column, rows of cells, the lines below."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[_Cell, ...]], ...]
    notes: tuple[str, ...]
    changes: bool
    """Whether the second column says how far the first one is from EMA*."""


def results_table(record: RunRecord, full: bool = False) -> RenderableType:
    """The final table for a terminal.

    Args:
        record: the run.
        full: every EMA rate instead of the best of each kind.

    Returns:
        A rich renderable: one row per baseline and winner, one column per metric, features and reference of the report
        split; the best value of a column is bold. Columns that do not fit beside the others stand in a table of their
        own below them.
    """
    return _Fitted(str(record.results["name"]), _grid(record, full))


@dataclass(frozen=True)
class _Fitted:
    """The table in as many pieces as the width of the console asks for, each with the names of the rows."""

    title: str
    grid: _Grid

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        begin, end = 0, len(self.grid.headers)
        whole = self._fits(console, options, begin, end)
        while True:
            # A change belongs to the column on its left.
            least = begin + (2 if begin == 0 and self.grid.changes else 1)
            last = end
            while not whole and last > least and not self._fits(console, options, begin, last, _LABEL):
                last -= 1
            yield self._piece(begin, last, None if whole else _LABEL)
            if last >= end:
                break
            begin = last
        for note in self.grid.notes:
            yield Text(note)

    def _fits(self, console: Console, options: ConsoleOptions, begin: int, end: int, label: int | None = None) -> bool:
        unbounded = options.update(max_width=_UNBOUNDED)
        return Measurement.get(console, unbounded, self._piece(begin, end, label)).maximum <= options.max_width

    def _piece(self, begin: int, end: int, label_width: int | None) -> Table:
        title = Text(self.title, style="bold") if begin == 0 else None
        table = Table(title=title, title_justify="left", header_style="bold")
        table.add_column("weights", no_wrap=label_width is None, max_width=label_width)
        for header in self.grid.headers[begin:end]:
            table.add_column(Text(header), justify="right", no_wrap=True)
        for name, label, cells in self.grid.rows:
            if name in ("best", "floor"):
                table.add_section()
            texts = (Text(cell.text, style="bold" if cell.winner else "") for cell in cells[begin:end])
            table.add_row(Text(label), *texts)
        return table


def results_markdown(record: RunRecord, full: bool = False) -> str:
    """The final table as Markdown, readable as plain text too; arguments as in `results_table`."""
    grid = _grid(record, full)
    cells = [["weights", *(header.replace("\n", " ") for header in grid.headers)]]
    for _, label, row in grid.rows:
        cells.append([label, *(f"**{cell.text}**" if cell.winner else cell.text for cell in row)])
    # The asterisk of EMA* would open emphasis.
    cells = [[text.replace("|", "\\|").replace("<", "\\<").replace("EMA*", "EMA\\*") for text in row] for row in cells]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [_markdown_row(cells[0], widths)]
    lines.append(
        "|" + "|".join([":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    )
    lines += [_markdown_row(row, widths) for row in cells[1:]]
    below = [f"- {note}".replace("EMA*", "EMA\\*") for note in grid.notes]
    return "\n".join([*lines, "", *below]) + "\n"


def _markdown_row(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        text.ljust(width) if i == 0 else text.rjust(width)
        for i, (text, width) in enumerate(zip(row, widths, strict=True))
    )
    return "| " + " | ".join([first, *others]) + " |"


def _grid(record: RunRecord, full: bool) -> _Grid:
    reported = [row for row in record.scores if row.split in ("report", "data") and row.name not in HIDDEN]
    columns = list(dict.fromkeys(row.column for row in reported if row.split == "report"))
    values = {(row.name, row.column): row for row in reported}
    names = sorted(dict.fromkeys(row.name for row in reported), key=_order)
    names = [name for name in names if not _repeats(name, columns, values)]
    shown = names if full else _collapsed(record, names)
    winners = {
        column: _winner(record.minimizes(column[0]), [values[n, column] for n in names if (n, column) in values])
        for column in columns
    }
    decimals = {
        column: _decimals([row for key, row in values.items() if key[1] == column and row.split == "report"])
        for column in columns
    }
    star = values.get(("ema*", columns[0])) if columns else None
    # A share of EMA*'s score says nothing where scores lie on both sides of zero.
    relative = star is not None and all(
        row.value * star.value > 0
        for (_, column), row in values.items()
        if column == columns[0] and row.split == "report"
    )
    rows = []
    for name in shown:
        cells = []
        for column in columns:
            row = values.get((name, column))
            text = "—" if row is None else _number(row, max(decimals[column], _floor_decimals(row)))
            cells.append(_Cell(text, row is not None and row.value == winners[column] and row.split != "data"))
        if star is not None:
            first = values.get((name, columns[0]))
            cells.insert(1, _Cell(_change(first, star, None if relative else decimals[columns[0]])))
        baseline = record.winner_baseline(name)
        step = (record.results["coefficients"].get("best-single") or {}).get("step")
        rows.append((name, row_label(name, record.optimizer, record.ema_star, step, baseline), tuple(cells)))
    arrows = {True: "↓", False: "↑", None: ""}
    headers = [column_header(column, arrows[record.minimizes(column[0])]) for column in columns]
    if star is not None:
        headers.insert(1, "change\nto EMA*")
    return _Grid(tuple(headers), tuple(rows), tuple(notes(record, names, shown)), star is not None)


def _repeats(name: str, columns: Sequence[Column], values: Mapping[tuple[str, Column], ScoreRow]) -> bool:
    """True for what the optimizer recommends, or validation chose, where the best has the same scores."""
    if name not in ("recommended", "validated"):
        return False
    own, best = ([row and row.value for c in columns for row in [values.get((n, c))]] for n in (name, "best"))
    return own == best


def _order(name: str) -> tuple[int, float, str]:
    kind = kind_of(name)
    # Names that a later version or a plugin adds come before EMA*.
    place = _ORDER.index(kind) if kind in _ORDER else _ORDER.index("ema*") - 0.5
    try:
        rate = float(name[len(kind) + 1 :])
    except ValueError:
        rate = 0.0
    return int(2 * place), rate, name


def _collapsed(record: RunRecord, names: Sequence[str]) -> list[str]:
    """Only the best rate of each kind of EMA; which one that is, is the search split's decision."""
    search = record.search_values
    sign = 1 if record.minimize else -1
    dropped: set[str] = set()
    for kind in ("ema", "train-ema"):
        rates = [name for name in names if kind_of(name) == kind]
        if rates:
            dropped |= set(rates) - {min(rates, key=lambda name: sign * search.get(name, sign * math.inf))}
    return [name for name in names if name not in dropped]


def _winner(minimize: bool | None, rows: Iterable[ScoreRow]) -> float | None:
    values = [row.value for row in rows if row.split != "data" and math.isfinite(row.value)]
    if not values or minimize is None:
        return None
    return min(values) if minimize else max(values)


def _decimals(rows: Sequence[ScoreRow]) -> int:
    """Decimals of a column: three digits of its smallest value, but one or two of its smallest error."""
    values = [abs(row.value) for row in rows if row.value and _is_plain(row.value)]
    errors = [row.stderr for row in rows if row.stderr and _is_plain(row.stderr)]
    need = 2 - math.floor(math.log10(min(values))) if values else 2
    if errors:
        digit = -math.floor(math.log10(min(errors)))
        need = min(max(need, digit), digit + 1)
    return min(max(need, 0), 5)


def _floor_decimals(row: ScoreRow) -> int:
    """Decimals that leave real images two digits, in a column of models that are far from them; 0 for other rows."""
    if row.split != "data" or not row.value or not _is_plain(row.value):
        return 0
    return min(max(1 - math.floor(math.log10(abs(row.value))), 0), 5)


def _number(row: ScoreRow, decimals: int) -> str:
    error = "" if row.stderr is None else f" ± {_digits(row.stderr, decimals)}"
    return f"{_digits(row.value, decimals)}{error}"


def _is_plain(value: float) -> bool:
    """True where a number is written without an exponent."""
    return value == 0 or 1e-4 <= abs(value) < 1e6


def _digits(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}" if _is_plain(value) else f"{value:.3g}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def _change(row: ScoreRow | None, star: ScoreRow, decimals: int | None) -> str:
    """How far a score is from EMA*'s: in percent of it, or with these decimals in its own unit."""
    if row is None or row.split == "data":
        return ""
    if row.value == star.value:
        return "0 %" if decimals is None else "0"
    if decimals is not None:
        error = "" if row.difference_stderr is None else f" ± {_digits(row.difference_stderr, decimals)}"
        return signed(row.value - star.value, f".{decimals}f") + error
    share = 100 / abs(star.value)
    error = "" if row.difference_stderr is None else f" ± {share * row.difference_stderr:.1f}"
    return f"{signed(share * (row.value - star.value), '.1f')}{error} %"
