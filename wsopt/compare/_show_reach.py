"""Figures of how soon targets are reached: the ECDF, and the expected running time to each target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wsopt.compare._base import Comparison, TargetRow
from wsopt.compare._show_facts import shared_budget, target_names, target_row
from wsopt.compare._show_style import (
    FAINT,
    GREY,
    INK,
    Look,
    bare,
    heading,
    label_ends,
    looks,
    new_figure,
    plain_ticks,
    png,
    verbatim,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SPREAD = 0.5
"""Width over which the marks of the methods at one target are spread, in distances between targets."""


def ecdf(comparison: Comparison) -> bytes | None:
    """Share of targets reached against evaluations, the area in each label; None where search scores do not compare."""
    if not comparison.ecdf:
        return None
    figure = new_figure(9.6, 5.0)
    axes = figure.subplots()
    bare(axes)
    look = looks(comparison)
    ends = []
    for name in reversed(comparison.methods):
        if name not in comparison.ecdf:
            continue
        own, one = comparison.ecdf[name], look[name]
        axes.step(own.evaluations, own.share, where="post", color=one.colour, lw=one.width, ls=one.dash, zorder=4)
        ends.append((f"{one.name}  {own.area:.3f}", float(own.share[-1]), one.colour))
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, max(int(own.evaluations[-1]) for own in comparison.ecdf.values()) + 0.5)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("evaluations", color=INK)
    axes.set_ylabel("targets reached", color=INK)
    heading(axes, "How many targets are reached", "all targets on all instances; number: area under the line")
    label_ends(axes, ends)
    return png(figure)


def running_times(comparison: Comparison) -> bytes | None:
    """Expected running time to each target; None where search scores do not compare."""
    names = target_names(comparison)
    if not names:
        return None
    look = looks(comparison)
    places = _places(names)
    budget = max(shared_budget(comparison), 1)
    known = [row.ert for row in comparison.targets if row.ert is not None and row.ert > 0]
    ceiling = 1.25 * max([budget, *known])
    figure = new_figure(9.6, 5.4)
    axes = figure.subplots()
    bare(axes)
    axes.set_yscale("log")
    axes.set_ylim(0.8 * min([*known, budget]), ceiling * 1.45)
    plain_ticks(axes)
    axes.axhspan(ceiling, ceiling * 1.45, color=FAINT, alpha=0.7, lw=0, zorder=0)
    axes.annotate(
        "never reached", (0, 1), xytext=(4, -4), xycoords="axes fraction", textcoords="offset points", va="top",
        fontsize=8.5, color=GREY,
    )  # fmt: skip
    shifts = np.linspace(-_SPREAD / 2, _SPREAD / 2, len(comparison.methods)) if len(comparison.methods) > 1 else [0.0]
    for method, shift in zip(comparison.methods, shifts, strict=True):
        rows = [target_row(comparison, method, name) for name in names]
        found = [(x + shift, row) for x, row in zip(places, rows, strict=True) if row and row.attempts]
        _marks(axes, found, look[method], ceiling * 1.2)
    axes.set_xticks(places, [verbatim(_wrapped(name)) for name in names])
    axes.set_xlabel("target: named ones, then log-spaced ones from easy to hard", color=INK)
    axes.set_ylabel("evaluations, failures charged (ERT)", color=INK)
    heading(
        axes, "Evaluations to a target",
        "filled: reached on every instance; ring: on some; open triangle: on none within the budget",
    )  # fmt: skip
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9, labelcolor="linecolor")
    return png(figure)


def _places(names: list[str]) -> list[float]:
    """Named targets first, then a gap, then the numbered ones."""
    named = sum(not name.isdecimal() for name in names)
    return [float(i) if i < named else i + 0.6 for i in range(len(names))]


def _wrapped(name: str) -> str:
    if len(name) <= 9:
        return name
    short = name if len(name) <= 26 else f"{name[:25]}…"
    return short.replace("final of ", "final of\n")


def _marks(axes: Axes, found: list[tuple[float, TargetRow]], look: Look, above: float) -> None:
    """Filled dots, rings and open triangles of one method; the numbered targets joined by a line."""
    line = [(x, row.ert) for x, row in found if row.target.isdecimal() and row.ert]
    axes.plot([], [], color=look.colour, lw=1, ls=look.dash, marker="o", ms=5.5, label=verbatim(look.name))
    xs, ys = [x for x, _ in line], [y for _, y in line]
    axes.plot(xs, ys, color=look.colour, lw=1, ls=look.dash, alpha=0.7, zorder=3)
    for x, row in found:
        if row.ert is None:
            axes.plot([x], [above], "^", mfc="none", mec=look.colour, ms=6, mew=1.3, clip_on=False, zorder=4)
        elif row.ert > 0:
            face = look.colour if row.successes == row.attempts else "white"
            axes.plot([x], [row.ert], "o", mfc=face, mec=look.colour, ms=5.5, mew=1.4, zorder=4)
