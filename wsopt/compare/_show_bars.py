"""Figures with a row per method: wins over each other, the generalisation gap, what an evaluation costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wsopt.compare._base import Column, Comparison
from wsopt.compare._show_facts import pairs
from wsopt.compare._show_numbers import Digits, column_label, medians
from wsopt.compare._show_style import GREY, INK, bare, heading, looks, new_figure, png, verbatim
from wsopt.report import duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOSES, _EVEN, _WINS = "#E0926B", "#FFFFFF", "#6FA8D0"


def wins(comparison: Comparison) -> bytes | None:
    """How often each method beats each other one, on the search split and in the report's first column."""
    count = len(comparison.methods)
    columns = [column for column in (None, *comparison.columns[:1]) if column in comparison.wins]
    if count < 2 or not columns:
        return None
    side = max(0.36 * count, 1.6)
    figure = new_figure(2.9 + (side + 0.5) * len(columns), side + 1.3)
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    for position, (axes, column) in enumerate(zip(panels, columns, strict=True)):
        _matrix(comparison, axes, column, names=position == 0)
        title = "search split" if column is None else column_label(comparison, column, "\n")
        axes.set_title(verbatim(title), loc="left", fontsize=9.5, fontweight="bold", color=INK)
    return png(figure)


def _matrix(comparison: Comparison, axes: Axes, column: Column | None, *, names: bool) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    count = len(comparison.methods)
    matrix = comparison.wins[column]
    together = np.array([[pairs(comparison, a, b) for b in comparison.methods] for a in comparison.methods])
    balance = np.divide(matrix - matrix.T, together, out=np.zeros((count, count)), where=together > 0)
    colours = LinearSegmentedColormap.from_list("wins", (_LOSES, _EVEN, _WINS))
    axes.imshow(balance, cmap=colours, vmin=-1, vmax=1)
    for i in range(count):
        for j in range(count):
            text = "·" if i == j else str(matrix[i, j])
            axes.text(j, i, text, ha="center", va="center", fontsize=9, color=GREY if i == j else INK)
    axes.set_xticks(range(count), [str(i + 1) for i in range(count)])
    axes.set_xlabel("instances on which the row beats the column", color=GREY, fontsize=9, loc="left")
    axes.tick_params(length=0, labelsize=9, colors=INK)
    axes.spines[:].set_visible(False)
    look = looks(comparison)
    numbered = [f"{verbatim(look[method].name)}  {i + 1}" for i, method in enumerate(comparison.methods)]
    axes.set_yticks(range(count), numbered if names else [str(i + 1) for i in range(count)])


def gaps(comparison: Comparison) -> bytes | None:
    """Optimism of each method's winners with its quartiles; None where it was measured for none."""
    rows = [gap for gap in comparison.gaps if gap.optimism is not None]
    if not rows:
        return None
    look = looks(comparison)
    digits = Digits(medians(gap.optimism for gap in rows), 2)
    figure = new_figure(9.6, 1.4 + 0.3 * len(rows))
    axes = figure.subplots()
    bare(axes, "x")
    axes.axvline(0, color=GREY, lw=1)
    for i, gap in enumerate(rows):
        assert gap.optimism is not None
        colour = look[gap.method].colour
        ends = [gap.optimism.lower, gap.optimism.upper]
        axes.plot(ends, [i, i], color=colour, lw=5, alpha=0.35, solid_capstyle="round")
        axes.plot([gap.optimism.median], [i], "o", color=colour, ms=7)
        note = f"{digits(gap.optimism.median)}; {gap.worse_than_start} of {gap.count} worse than EMA*"
        axes.annotate(
            note, (1, i), xytext=(8, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            fontsize=9, color=INK, annotation_clip=False,
        )  # fmt: skip
    _rows(axes, [look[gap.method].name for gap in rows])
    axes.set_xlabel("optimism, as a loss: the winner on fresh noise minus its search score", color=INK)
    heading(axes, "Generalisation gap", "dot: median, bar: quartiles; right of 0: the search was too hopeful")
    return png(figure)


def costs(comparison: Comparison) -> bytes | None:
    """Seconds of an evaluation and of the optimizer per candidate; None where neither was measured."""
    rows = comparison.costs
    if not any(row.seconds or row.optimizer_seconds for row in rows):
        return None
    look = looks(comparison)
    figure = new_figure(10.6, 1.2 + 0.3 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True)
    kinds = (
        (left, 1.0, [row.seconds for row in rows], "seconds per evaluation, without the optimizer"),
        (right, 1e3, [row.optimizer_seconds for row in rows], "milliseconds of the optimizer per candidate"),
    )
    for axes, unit, seconds, title in kinds:
        bare(axes, "x")
        for i, (row, value) in enumerate(zip(rows, seconds, strict=True)):
            length = unit * (value or 0.0)
            axes.barh([i], [length], color=look[row.method].colour, height=0.62)
            text = "not measured" if value is None else duration(value) if value else "0 s"
            axes.annotate(text, (length, i), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_xlim(0, 1.22 * unit * max([value or 0.0 for value in seconds]) or 1.0)
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    _rows(left, [look[row.method].name for row in rows])
    right.spines["left"].set_visible(False)
    right.tick_params(axis="y", length=0)
    return png(figure)


def _rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), [verbatim(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
