"""The final table of a run, for a terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from wsopt.report._chosen import validation_notes
from wsopt.report._labels import amount, duration, kind_of, metric_label, row_label
from wsopt.report._record import RunRecord, ScoreRow, standard_error

_ORDER = (
    "last", "best-single", "uniform", "power", "ema", "train-ema", "run", "ema*", "best", "recommended", "validated",
    "floor",
)  # fmt: skip
_HIDDEN = ("fresh",)
_Column = tuple[str, str | None, str | None]


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


def results_table(record: RunRecord, full: bool = False) -> RenderableType:
    """The final table for a terminal.

    Args:
        record: the run.
        full: every EMA rate instead of the best of each kind.

    Returns:
        A rich renderable: one row per baseline and winner, one column per metric, features and reference of the report
        split; the best value of a column is bold.
    """
    grid = _grid(record, full)
    table = Table(title=Text(str(record.results["name"]), style="bold"), title_justify="left", header_style="bold")
    table.add_column("weights", no_wrap=True)
    for header in grid.headers:
        table.add_column(Text(header), justify="right", no_wrap=True)
    for name, label, cells in grid.rows:
        if name in ("best", "floor"):
            table.add_section()
        table.add_row(Text(label), *(Text(cell.text, style="bold" if cell.winner else "") for cell in cells))
    return Group(table, *(Text(note) for note in grid.notes))


def results_markdown(record: RunRecord, full: bool = False) -> str:
    """The final table as Markdown, readable as plain text too; arguments as in `results_table`."""
    grid = _grid(record, full)
    cells = [["weights", *(header.replace("\n", " ") for header in grid.headers)]]
    for _, label, row in grid.rows:
        cells.append([label, *(f"**{cell.text}**" if cell.winner else cell.text for cell in row)])
    # The asterisk of EMA* would open emphasis.
    cells = [[text.replace("|", "\\|").replace("EMA*", "EMA\\*") for text in row] for row in cells]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [_markdown_row(cells[0], widths)]
    lines.append(
        "|" + "|".join([":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|"
    )
    lines += [_markdown_row(row, widths) for row in cells[1:]]
    notes = [f"- {note}".replace("EMA*", "EMA\\*") for note in grid.notes]
    return "\n".join([*lines, "", *notes]) + "\n"


def _markdown_row(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        text.ljust(width) if i == 0 else text.rjust(width)
        for i, (text, width) in enumerate(zip(row, widths, strict=True))
    )
    return "| " + " | ".join([first, *others]) + " |"


def _grid(record: RunRecord, full: bool) -> _Grid:
    reported = [row for row in record.scores if row.split in ("report", "data") and row.name not in _HIDDEN]
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
    rows = []
    for name in shown:
        cells = []
        for column in columns:
            row = values.get((name, column))
            text = "—" if row is None else _number(row, decimals[column])
            cells.append(_Cell(text, row is not None and row.value == winners[column] and row.split != "data"))
        if star is not None:
            own = values.get((name, columns[0]))
            cells.insert(1, _Cell(_change(own, star)))
        baseline = record.winner_baseline(name)
        step = (record.results["coefficients"].get("best-single") or {}).get("step")
        rows.append((name, row_label(name, record.optimizer, record.ema_star, step, baseline), tuple(cells)))
    arrows = {True: "↓", False: "↑", None: ""}
    headers = [_header(column, arrows[record.minimizes(column[0])]) for column in columns]
    if star is not None:
        headers.insert(1, "change\nto EMA*")
    return _Grid(tuple(headers), tuple(rows), tuple(_notes(record, names, shown)))


def _repeats(name: str, columns: Sequence[_Column], values: Mapping[tuple[str, _Column], ScoreRow]) -> bool:
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
    """Decimals of a column: three digits of its smallest value or one of its smallest error, whichever is more."""
    values = [abs(row.value) for row in rows if row.value and _is_plain(row.value)]
    errors = [row.stderr for row in rows if row.stderr and _is_plain(row.stderr)]
    need = [2 - math.floor(math.log10(min(values)))] if values else [2]
    need += [-math.floor(math.log10(min(errors)))] if errors else []
    return min(max(*need, 0), 5)


def _number(row: ScoreRow, decimals: int) -> str:
    error = "" if row.stderr is None else f" ± {_digits(row.stderr, decimals)}"
    return f"{_digits(row.value, decimals)}{error}"


def _is_plain(value: float) -> bool:
    """True where a number is written without an exponent."""
    return value == 0 or 1e-4 <= abs(value) < 1e6


def _digits(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if _is_plain(value) else f"{value:.3g}"


def _signed(value: float, form: str) -> str:
    """A difference with its sign; none where it is written as 0."""
    text = f"{value:+{form}}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def _change(row: ScoreRow | None, star: ScoreRow) -> str:
    if row is None or row.split == "data" or star.value == 0:
        return ""
    if row.value == star.value:
        return "0 %"
    return f"{_signed(100 * (row.value - star.value) / abs(star.value), '.1f')} %"


def _header(column: _Column, arrow: str) -> str:
    metric, features, reference = column
    return f"{metric_label(metric, features)} {arrow}".rstrip() + (f"\nto {reference}" if reference else "")


def _notes(record: RunRecord, names: Sequence[str], shown: Sequence[str]) -> Iterable[str]:
    results = record.results
    reported = [row for row in record.scores if row.split == "report" and row.name not in _HIDDEN]
    samples = sorted({row.samples for row in reported if row.samples > 0})
    facts = []
    if samples:
        facts.append(f"{' or '.join(f'{count:,}' for count in samples)} samples per row, on noise the search never saw")
    if any(row.stderr for row in reported):
        facts.append("± is one standard error")
    if facts:
        yield f"{'; '.join(facts)}."
    scored = {row.name for row in reported}
    failed = {name: reason for name, reason in record.trace.failures.items() if name not in scored}
    if failed:
        step = (results["coefficients"].get("best-single") or {}).get("step")
        labels = [row_label(name, record.optimizer, record.ema_star, step) for name in failed]
        reason = " ".join(next(iter(failed.values())).split()).rstrip(".")
        first = f"{'the first: ' if len(failed) > 1 else ''}{reason}"
        yield f"Could not be scored: {', '.join(labels)} ({first})."
    counts = [sum(kind_of(name) == kind for name in names) for kind in ("ema", "train-ema")]
    if len(shown) < len(names):
        kinds = [f"{n} {kind}" for n, kind in zip(counts, ("over the window", "from training"), strict=True) if n]
        yield (
            f"EMA rates tried: {' and '.join(kinds)}; of each kind the best by search score is shown "
            f"(wsopt report {record.path} --full has all)."
        )
    optimism = results.get("optimism")
    if optimism:
        stderr = standard_error(optimism.get("stderr"))
        error = f" ± {stderr:.2g}" if stderr else ""
        scores = f"{optimism['search']:.4g} in the search and {optimism['fresh']:.4g}{error} on fresh noise"
        both = f", both on {optimism['samples']:,} samples" if optimism.get("samples") else ""
        yield f"Optimism: the winner scored {scores}{both}; gap {_signed(optimism['gap'], '.3g')}."
    yield from validation_notes(record)
    timing = results.get("timing") or {}
    split = timing.get("split") or {}
    if split and timing.get("seconds_per_evaluation") is not None:
        parts = ", ".join(f"{stage} {1000 * seconds:.3g} ms" for stage, seconds in split.items())
        yield f"One evaluation took {duration(timing['seconds_per_evaluation'])}: {parts}."
    if timing.get("remembered"):
        yield f"{timing['remembered']:,} scores were taken from other runs on the same checkpoints, not measured again."
    yield _effort(record)


def _effort(record: RunRecord) -> str:
    """Evaluations, time and memory in one line."""
    results = record.results
    baselines = len(record.trace.baselines)
    parts = [f"{results['evaluations']:,} of {results['budget']:,} evaluations, {baselines} of them baselines"]
    if results.get("failed"):
        parts[0] += f", {results['failed']} failed"
    seconds = {key: value for key, value in (results.get("seconds") or {}).items() if value is not None}
    if seconds:
        parts.append("time: " + ", ".join(f"{key} {duration(value)}" for key, value in seconds.items()))
    memory = results.get("memory") or {}
    peaks = {key.removesuffix("_peak_bytes"): value for key, value in memory.items() if value is not None}
    if peaks:
        parts.append("peak memory: " + ", ".join(f"{key} {amount(value)}" for key, value in peaks.items()))
    return "; ".join(parts) + "."
