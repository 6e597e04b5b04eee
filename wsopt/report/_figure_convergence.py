"""The search score against the number of evaluations (paper, figure 15b)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wsopt.report._labels import optimizer_label, row_label
from wsopt.report._record import RunRecord
from wsopt.report._style import BLUE, FAINT, GREEN, GREY, INK, VERMILLION, heading, new_figure, plain
from wsopt.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_REACH = 3.0
"""Height of the axis, in units of the distance from the best to the worse of the levels."""


def convergence_figure(record: RunRecord) -> Figure:
    """A faint dot per evaluation, the best so far as a line, last checkpoint and EMA* as levels, baselines shaded."""
    trials = [*record.trace.baselines, *record.trace.candidates]
    values = np.array([np.nan if trial.value is None else trial.value for trial in trials], dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    best = _best_so_far(values, record.minimize)
    number = np.arange(1, len(values) + 1)
    paid = len(record.trace.baselines)
    figure = new_figure(8.6, 4.4)
    axes = figure.subplots()
    plain(axes)
    levels = _levels(record)
    if np.isfinite(values).any():
        low, high = _limits(values, best, [value for _, value, _ in levels], record.minimize)
        axes.set_ylim(low, high)
        beyond = (values > high) | (values < low)
        edge = high if record.minimize else low
        axes.scatter(number, np.where(beyond, np.nan, values), s=9, color=GREY, alpha=0.45, linewidths=0, zorder=2)
        axes.plot(
            number[beyond], np.full(beyond.sum(), edge), "^" if record.minimize else "v",
            color=GREY, alpha=0.6, ms=4, clip_on=False, zorder=2,
        )  # fmt: skip
        axes.step(number, best, where="post", color=BLUE, lw=2.2, zorder=4)
    _label_levels(axes, levels, best)
    axes.set_xlim(0, max(record.results["budget"], len(values)) + 0.5)
    axes.axvspan(0, paid + 0.5, color=FAINT, alpha=0.7, lw=0, zorder=0)
    share = f"{paid} baselines, {paid / record.results['budget']:.0%} of the budget"
    axes.annotate(
        share, (paid + 0.5, 0), xytext=(5, 5), xycoords=("data", "axes fraction"), textcoords="offset points",
        fontsize=9, color=GREY,
    )  # fmt: skip
    axes.set_xlabel("evaluations", color=INK)
    arrow, better = ("↓", "lower") if record.minimize else ("↑", "higher")
    axes.set_ylabel(f"{record.label} on the search split {arrow}", color=INK)
    heading(
        axes, f"Convergence of {optimizer_label(record.optimizer)}", _caption(record, values, axes.get_ylim(), better)
    )
    return figure


def _best_so_far(values: FloatArray, minimize: bool) -> FloatArray:
    """Running best, NaN before the first success."""
    # fmin and fmax pass over NaN.
    found: FloatArray = np.fmin.accumulate(values) if minimize else np.fmax.accumulate(values)
    return found


def _levels(record: RunRecord) -> list[tuple[str, float, str]]:
    """Label, search score and colour of the baselines drawn as lines."""
    known = record.search_values
    wanted = [("last", "last", VERMILLION), ("ema*", record.ema_star, GREEN)]
    return [
        (row_label(name, ema_star=record.ema_star), known[key], colour)
        for name, key, colour in wanted
        if key is not None and np.isfinite(known.get(key, np.nan))
    ]


def _limits(values: FloatArray, best: FloatArray, levels: list[float], minimize: bool) -> tuple[float, float]:
    """Axis limits that hold the levels, the best and most of the dots; far failures are drawn on the edge."""
    finite = values[np.isfinite(values)]
    good = float(np.nanmin(best) if minimize else np.nanmax(best))
    bad = float(np.percentile(finite, 90 if minimize else 10))
    if levels:
        # What the figure is about lies between the baselines and the best; a mutation can be worse by orders.
        worst = max(levels) if minimize else min(levels)
        reach = good + _REACH * (worst - good)
        bad = max(worst, min(bad, reach)) if minimize else min(worst, max(bad, reach))
    margin = 0.08 * abs(bad - good) or 0.05 * abs(good) or 1.0
    low, high = min(good, bad), max(good, bad)
    return low - margin, high + margin


def _label_levels(axes: Axes, levels: list[tuple[str, float, str]], best: FloatArray) -> None:
    """Names at the right end of the lines, pushed apart where lines are close; the best's own among them."""
    found = [(f"best {best[-1]:.4g}", float(best[-1]), BLUE)] if len(best) and np.isfinite(best[-1]) else []
    for label, value, colour in levels:
        axes.axhline(value, color=colour, lw=1.4, ls=(0, (5, 3)), zorder=3)
        found.append((f"{label} {value:.4g}", value, colour))
    low, high = axes.get_ylim()
    gap = 0.055 * (high - low)
    position = -np.inf
    for label, value, colour in sorted(found, key=lambda entry: entry[1]):
        position = max(value, position + gap)
        axes.annotate(
            label, (1, position), xytext=(6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", fontsize=9, color=colour, annotation_clip=False,
        )  # fmt: skip


def _caption(record: RunRecord, values: FloatArray, limits: tuple[float, float], better: str) -> str:
    failed = int(np.isnan(values).sum())
    beyond = int(((values > limits[1]) | (values < limits[0])).sum())
    parts = [f"{better} is better", f"one dot per evaluation of {len(values):,}"]
    if beyond:
        parts.append(f"{beyond} beyond the axis as triangles")
    if failed:
        parts.append(f"{failed} failed, not drawn")
    return ", ".join(parts)
