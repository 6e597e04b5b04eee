"""A comparison as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wsopt.compare._base import Comparison
from wsopt.compare._show_data import plain
from wsopt.compare._show_details import declared_tests, gaps, pair_notes, stages, targets
from wsopt.compare._show_grid import Entry, Grid
from wsopt.compare._show_notes import extent, manifest_notes, split_note, warnings
from wsopt.compare._show_page import CSS, JS
from wsopt.compare._show_tables import against, effort, scores

CAPTIONS = {
    "convergence": "Each line moves whenever a search finds something better: of two methods, the line that is further "
    "down (up where higher is better) at some number of evaluations is the better buy at that price.",
    "report": "The same winners on noise that no search saw: a line that gets better on the search split but not here "
    "has learnt its samples.",
    "report_columns": "The other columns of the report split, drawn alike: a method is better only if it is so in "
    "other features and against other references too.",
    "ecdf": "A line that is further up or left reaches more targets sooner; the area under it is one number for the "
    "whole budget.",
    "targets": "How many evaluations a target costs on average, each failure charged its whole budget: lower is "
    "better.",
    "wins": "Read along a row: on how many instances that method beats the numbered one of the column; blue is mostly "
    "won, orange mostly lost.",
    "gaps": "How much worse the winner is on fresh noise than its search said: a long way to the right is luck that "
    "was mistaken for progress.",
    "costs": "What one evaluation takes, and what the optimizer itself adds to it.",
}
"""By the figure's file name: one sentence on how to read it."""


@dataclass(frozen=True)
class _Section:
    key: str
    title: str
    parts: Sequence[str]


def page(comparison: Comparison, figures: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        comparison: what is shown.
        figures: PNG files by name, those of `CAPTIONS`; absent ones are left out.
    """
    sections = [section for section in _sections(comparison, figures) if any(section.parts)]
    facts = "".join(map(_paragraph, [extent(comparison), *manifest_notes(comparison)]))
    title = html.escape(f"{comparison.name}: {comparison.label}")
    contents = "".join(f'<li><a href="#{section.key}">{section.title}</a></li>' for section in sections)
    body = "\n".join(
        "\n".join([f'<section id="{one.key}">\n<h2>{one.title}</h2>', *filter(None, one.parts), "</section>"])
        for one in sections
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{CSS}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{facts}\n"
        f"{_warning(comparison)}\n<nav><ul>{contents}</ul></nav>\n{body}\n</main>\n<script>{JS}</script>\n</body>\n</html>\n"
    )


def _sections(comparison: Comparison, figures: Mapping[str, bytes]) -> list[_Section]:
    def figure(name: str) -> str:
        return _figure(name, figures[name]) if name in figures else ""

    notes = [_paragraph(note, "note") for note in pair_notes(comparison)]
    curve = "" if "report" in figures else _paragraph(
        "The best so far was not scored on the report split during the search (report.curve in the configs)."
    )  # fmt: skip
    split = _paragraph(split_note(comparison) or "", "note")
    return [
        _Section("scores", "Final scores", [_table(scores(comparison)), split]),
        _Section("against", "Against the reference", [_table(against(comparison)), *notes]),
        _Section("search", "On the search split", [figure("convergence"), _table(stages(comparison))]),
        _Section("report", "On the report split", [figure("report"), figure("report_columns"), curve]),
        _Section("targets", "Evaluations to targets", [figure("targets"), _table(targets(comparison)), figure("ecdf")]),
        _Section("pairs", "Paired comparisons", [figure("wins"), _table(declared_tests(comparison))]),
        _Section("gaps", "Generalisation gap", [figure("gaps"), _table(gaps(comparison))]),
        _Section("costs", "Costs", [figure("costs"), _table(effort(comparison))]),
        _Section("manifest", "What was compared", [_manifest(comparison)]),
    ]


def _paragraph(text: str, kind: str = "") -> str:
    return f"<p{f' class={json.dumps(kind)}' if kind else ''}>{html.escape(text)}</p>" if text else ""


def _warning(comparison: Comparison) -> str:
    found = warnings(comparison)
    return f'<div class="warning" role="note">{"".join(map(_paragraph, found))}</div>' if found else ""


def _figure(name: str, data: bytes) -> str:
    caption = html.escape(CAPTIONS[name])
    source = base64.b64encode(data).decode("ascii")
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{source}"><figcaption>{caption}</figcaption></figure>'
    )


def _table(grid: Grid | None) -> str:
    if grid is None:
        return ""
    text = [1] if grid.key == "tests" else []
    heads = "".join(
        f"<th{_class('text' if i in text else '')}>{html.escape(header).replace(chr(10), '<br>')}</th>"
        for i, header in enumerate(grid.headers)
    )
    bodies = "".join(
        f"<tbody>{''.join(_row(name, entries, text) for name, entries in rows)}</tbody>"
        for rows in (grid.rows, grid.below)
        if rows
    )
    notes = "".join(_paragraph(note, "note") for note in grid.notes)
    return (
        f'<h3>{html.escape(grid.title)}</h3>\n<div class="scroll"><table id="table-{grid.key}">'
        f"<thead><tr>{heads}</tr></thead>{bodies}</table></div>\n{notes}"
    )


def _row(name: str, entries: Sequence[Entry], text: Sequence[int]) -> str:
    cells = []
    for i, entry in enumerate(entries, 1):
        known = entry.value is not None and math.isfinite(entry.value)
        value = f' data-value="{entry.value!r}"' if known else ""
        kinds = " ".join((["best"] if entry.best else []) + (["text"] if i in text else []))
        cells.append(f"<td{_class(kinds)}{value}>{html.escape(entry.text)}</td>")
    return f"<tr><td>{html.escape(name)}</td>{''.join(cells)}</tr>\n"


def _class(kinds: str) -> str:
    return f' class="{kinds}"' if kinds else ""


def _manifest(comparison: Comparison) -> str:
    """Versions, seeds, fingerprints and every configuration tried, one folded part per entry; and the run folders."""
    runs = "\n".join(f"{cell.method} | {cell.instance} | {cell.path.as_posix()}" for cell in comparison.cells)
    parts = [_folded("runs", runs)]
    for key, value in comparison.manifest.items():
        text = json.dumps(plain(value), indent=2, ensure_ascii=False, sort_keys=True, allow_nan=False)
        parts.append(_folded(str(key).replace("_", " "), text))
    title = "The manifest: every run and every configuration tried"
    return f"<details><summary>{title}</summary>{''.join(parts)}</details>"


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>"
