"""Figures of scores against evaluations: the search split, and the report split at the points scored there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from wsopt.compare._base import Column, Comparison, Curve
from wsopt.compare._show_facts import baseline_count, ema_star_search
from wsopt.compare._show_numbers import Digits, arrow, column_label, minimizes, search_column
from wsopt.compare._show_style import (
    FAINT,
    GREY,
    INK,
    LEVEL,
    bare,
    draw,
    heading,
    label_ends,
    looks,
    new_figure,
    png,
    scale,
    verbatim,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDE = 45
"""Characters of a title from which on it would reach into the next panel."""
_Level = tuple[str, float, str]


def convergence(comparison: Comparison) -> bytes | None:
    """Best so far on the search split; None where search scores do not compare."""
    curves = {name: curve for name, curve in comparison.search.items() if np.isfinite(curve.median).any()}
    if not comparison.search_comparable or not curves:
        return None
    figure = new_figure(9.6, 5.4)
    axes = figure.subplots()
    bare(axes)
    look = looks(comparison)
    paid = baseline_count(comparison)
    levels = _search_levels(comparison)
    # Single checkpoints among the baselines can be worse by orders; what is of interest begins where the search does.
    tails = [part for curve in curves.values() for part in _after(curve, paid)]
    scale(axes, [*tails, [value for _, value, _ in levels]])
    for name in reversed(comparison.methods):
        if name in curves:
            draw(axes, curves[name], look[name])
    axes.set_xlim(0, max(int(curve.evaluations[-1]) for curve in curves.values()) + 0.5)
    digits = Digits([*(_last(curve) for curve in curves.values()), *(value for _, value, _ in levels)])
    ends = [(f"{look[n].name}  {digits(_last(c))}", _last(c), look[n].colour) for n, c in curves.items()]
    for name, value, colour in levels:
        axes.axhline(value, color=colour, lw=1.3, ls=(0, (5, 3)), zorder=3)
        ends.append((f"{name}  {digits(value)}", value, colour))
    _shade(axes, paid)
    axes.set_xlabel("evaluations", color=INK)
    axes.set_ylabel(f"{verbatim(comparison.label)} on the search split{arrow(comparison.minimize)}", color=INK)
    heading(axes, "Best so far on the search split", _lines(comparison))
    label_ends(axes, ends)
    return png(figure)


def report_curve(comparison: Comparison) -> bytes | None:
    """The first column of the report split at the points scored there; None where none was."""
    if not comparison.columns or not _curves(comparison, comparison.columns[0]):
        return None
    column = comparison.columns[0]
    figure = new_figure(9.6, 5.0)
    axes = figure.subplots()
    ends = _panel(comparison, axes, column)
    axes.set_xlabel("evaluations", color=INK)
    axes.set_ylabel(f"{verbatim(column_label(comparison, column))}", color=INK)
    heading(axes, "The best so far, scored on the report split", f"{_lines(comparison)}; dots: where it was scored")
    label_ends(axes, ends)
    return png(figure)


def report_columns(comparison: Comparison) -> bytes | None:
    """The other columns of the report split as small multiples; None where there are none."""
    columns = [column for column in comparison.columns[1:] if _curves(comparison, column)]
    if not columns:
        return None
    look = looks(comparison)
    across = min(len(columns), 2)
    down = math.ceil(len(columns) / across)
    figure = new_figure(9.6 if across > 1 else 6.4, 3.1 * down + 0.22 * math.ceil((len(look) + 2) / 3) + 0.4)
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat[len(columns) :]:
        axes.set_visible(False)
    for column, axes in zip(columns, grid.flat, strict=False):
        _panel(comparison, axes, column)
        label = column_label(comparison, column)
        if len(label) > _WIDE:
            label = column_label(comparison, column, "\n")
        axes.set_title(verbatim(label), loc="left", fontsize=10, fontweight="bold", color=INK)
        axes.set_xlabel("evaluations", color=INK, fontsize=9)
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=one.colour, ls=one.dash, lw=one.width, marker="o", ms=4) for one in look.values()]
    names = [verbatim(one.name) for one in look.values()]
    for name, label, colour in _REPORT_LEVELS:
        if any((name, column) in comparison.baselines for column in columns):
            handles.append(Line2D([], [], color=colour, lw=1.3, ls=(0, (5, 3))))
            names.append(label)
    figure.legend(handles, names, loc="outside lower left", ncols=3, frameon=False, fontsize=9, labelcolor=INK)
    return png(figure)


def _panel(comparison: Comparison, axes: Axes, column: Column) -> list[_Level]:
    """One column of the report split; returns the labels of the right ends."""
    bare(axes)
    look = looks(comparison)
    curves = _curves(comparison, column)
    levels = _report_levels(comparison, column)
    parts = [part for curve in curves.values() for part in (curve.median, curve.lower, curve.upper)]
    scale(axes, [*parts, [value for _, value, _ in levels]])
    for name in reversed(comparison.methods):
        if name in curves:
            draw(axes, curves[name], look[name], points=True)
    axes.set_xlim(0, max(int(curve.evaluations[-1]) for curve in curves.values()) * 1.02 + 0.5)
    digits = Digits([*(_last(curve) for curve in curves.values()), *(value for _, value, _ in levels)])
    ends = [(f"{look[name].name}  {digits(_last(c))}", _last(c), look[name].colour) for name, c in curves.items()]
    for name, value, colour in levels:
        axes.axhline(value, color=colour, lw=1.3, ls=(0, (5, 3)), zorder=3)
        ends.append((f"{name}  {digits(value)}", value, colour))
    return ends


def _curves(comparison: Comparison, column: Column) -> dict[str, Curve]:
    found = {name: comparison.report.get((name, column)) for name in comparison.methods}
    return {name: curve for name, curve in found.items() if curve is not None and np.isfinite(curve.median).any()}


def _search_levels(comparison: Comparison) -> list[_Level]:
    star = ema_star_search(comparison)
    found = [("EMA*", star.median, LEVEL)] if star is not None else []
    own = comparison.columns[0] if comparison.columns else None
    floor = comparison.baselines.get(("floor", own)) if own is not None and own == search_column(comparison) else None
    return found + ([("floor", floor.median, GREY)] if floor is not None and np.isfinite(floor.median) else [])


def _report_levels(comparison: Comparison, column: Column) -> list[_Level]:
    found = [(label, comparison.baselines.get((name, column)), colour) for name, label, colour in _REPORT_LEVELS]
    return [(label, own.median, colour) for label, own, colour in found if own is not None and np.isfinite(own.median)]


_REPORT_LEVELS = (("ema*", "EMA*", LEVEL), ("floor", "floor", GREY))


def _after(curve: Curve, paid: int) -> list[np.ndarray]:
    """Median and quartiles from the last baseline on; all of them where the curve ends before it."""
    kept = curve.evaluations >= min(paid, int(curve.evaluations[-1]))
    return [curve.median[kept], curve.lower[kept], curve.upper[kept]]


def _last(curve: Curve) -> float:
    known = curve.median[np.isfinite(curve.median)]
    return float(known[-1]) if len(known) else float("nan")


def _shade(axes: Axes, paid: int) -> None:
    axes.axvspan(0, paid + 0.5, color=FAINT, alpha=0.7, lw=0, zorder=0)
    axes.annotate(
        f"{paid} baselines", (paid + 0.5, 0), xytext=(4, 5), xycoords=("data", "axes fraction"),
        textcoords="offset points", fontsize=8.5, color=GREY,
    )  # fmt: skip


def _lines(comparison: Comparison) -> str:
    count = len(comparison.instances)
    better = {True: "lower is better", False: "higher is better", None: ""}[minimizes(comparison, None)]
    drawn = "one instance" if count == 1 else f"line: median of {count} instances, band: quartiles"
    return f"{drawn}; {better}"
