"""Everything that a comparison leaves on disk."""

from __future__ import annotations

import json
from pathlib import Path

from wsopt.compare._base import Comparison
from wsopt.compare._show_bars import costs, gaps, wins
from wsopt.compare._show_curves import convergence, report_columns, report_curve
from wsopt.compare._show_data import cells_csv, comparison_json, runs_csv
from wsopt.compare._show_html import page
from wsopt.compare._show_markdown import latex, markdown
from wsopt.compare._show_reach import ecdf, running_times
from wsopt.files import write_bytes, write_text

FIGURES = "figures"


def draw_figures(comparison: Comparison) -> dict[str, bytes]:
    """The figures as PNG, by name; what a comparison has no data for is left out."""
    found = {
        "convergence": convergence(comparison),
        "report": report_curve(comparison),
        "report_columns": report_columns(comparison),
        "ecdf": ecdf(comparison),
        "targets": running_times(comparison),
        "wins": wins(comparison),
        "gaps": gaps(comparison),
        "costs": costs(comparison),
    }
    return {name: data for name, data in found.items() if data is not None}


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write a comparison into a folder, each file under a temporary name and renamed.

    ``runs.csv`` (one row per evaluation, read by IOHinspector), ``cells.csv`` (one row per run), ``table.md``,
    ``table.tex`` (needs booktabs), ``comparison.json`` (all but what there is one of per evaluation), ``figures/*.png``
    (160 dots per inch) and ``report.html`` (one page with everything, that needs no other file). The same comparison
    gives the same bytes. Figures of an earlier comparison in the folder that this one has no data for are removed.

    Args:
        comparison: what `analyse` made.
        folder: where to; made where it does not exist.

    Returns:
        The files written, the page last.
    """
    figures = draw_figures(comparison)
    content = json.dumps(comparison_json(comparison), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    texts = {
        "runs.csv": runs_csv(comparison),
        "cells.csv": cells_csv(comparison),
        "table.md": markdown(comparison),
        "table.tex": latex(comparison),
        "comparison.json": content,
        "report.html": page(comparison, figures),
    }
    written = []
    for name, data in figures.items():
        written.append(folder / FIGURES / f"{name}.png")
        write_bytes(written[-1], data)
    for old in (folder / FIGURES).glob("*.png"):
        if old.stem in _KNOWN and old.stem not in figures:
            old.unlink()
    for name, text in texts.items():
        written.append(folder / name)
        write_text(written[-1], text)
    return written


_KNOWN = frozenset({"convergence", "report", "report_columns", "ecdf", "targets", "wins", "gaps", "costs"})
