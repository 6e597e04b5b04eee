"""The search score against the number of evaluations (paper, figure 15b)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wsopt.report._chosen import winner_text
from wsopt.report._labels import optimizer_label, row_label
from wsopt.report._record import RunRecord
from wsopt.report._style import BLUE, FAINT, GREEN, GREY, INK, ORANGE, VERMILLION, heading, new_figure, plain
from wsopt.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_REACH = 3.0
"""Height of the axis, in units of the distance from the best to the worse of the levels."""


def convergence_figure(record: RunRecord) -> Figure:
    """A faint dot per evaluation, the best so far as a line, last checkpoint and EMA* as levels, baselines shaded.

    Where there is a validation split, its scores are dots joined by a line, and what it chose in the end is a ring.
    """
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
    validated = _validated(record)
    if np.isfinite(values).any():
        low, high = _limits(values, best, [value for _, value, _ in levels], validated[1], record.minimize)
        axes.set_ylim(low, high)
        beyond = (values > high) | (values < low)
        edge = high if record.minimize else low
        axes.scatter(number, np.where(beyond, np.nan, values), s=9, color=GREY, alpha=0.45, linewidths=0, zorder=2)
        axes.plot(
            number[beyond], np.full(beyond.sum(), edge), "^" if record.minimize else "v",
            color=GREY, alpha=0.6, ms=4, clip_on=False, zorder=2,
        )  # fmt: skip
        axes.step(number, best, where="post", color=BLUE, lw=2.2, zorder=4)
    _draw_validation(axes, record, validated)
    _label_levels(axes, levels, best, _chosen(record))
    axes.set_xlim(0, max(record.results["budget"], len(values)) + 0.5)
    axes.axvspan(0, paid + 0.5, color=FAINT, alpha=0.7, lw=0, zorder=0)
    share = f"{paid} baselines, {paid / record.results['budget']:.0%} of the budget"
    axes.annotate(
        share, (paid + 0.5, 0), xytext=(5, 5), xycoords=("data", "axes fraction"), textcoords="offset points",
        fontsize=9, color=GREY,
    )  # fmt: skip
    axes.set_xlabel("evaluations", color=INK)
    arrow, better = ("↓", "lower") if record.minimize else ("↑", "higher")
    split = "" if len(validated[0]) else " on the search split"
    axes.set_ylabel(f"{record.label}{split} {arrow}", color=INK)
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


def _validated(record: RunRecord) -> tuple[FloatArray, FloatArray]:
    """``[V]`` evaluations and scores of what was validated while the search went on."""
    trace = (record.results.get("validation") or {}).get("trace", [])
    found = [(point["evaluation"], point["validation"]) for point in trace if point["search"] is not None]
    pairs = np.array([pair for pair in found if pair[1] is not None], dtype=np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _chosen(record: RunRecord) -> float | None:
    """The validation score of what was chosen; None where nothing was."""
    validation = record.results.get("validation") or {}
    if validation.get("chosen") is None:
        return None
    values = [float(point["validation"]) for point in validation["trace"] if point["validation"] is not None]
    return min(values) if record.minimize else max(values)


def _draw_validation(axes: Axes, record: RunRecord, validated: tuple[FloatArray, FloatArray]) -> None:
    if len(validated[0]):
        axes.plot(*validated, color=ORANGE, lw=1.2, marker="o", ms=4, zorder=5)
    value = _chosen(record)
    if value is not None:
        chosen = record.results["validation"]["chosen"]
        # What came of the search's end, a mix or the optimizer's own choice, has no evaluation of the search.
        late = chosen["shrinkage"] or chosen["name"] == "recommended"
        end = len(record.trace.baselines) + len(record.trace.candidates)
        at = end if late else chosen["evaluation"]
        axes.plot(at, value, "o", mfc="none", mec=ORANGE, mew=1.8, ms=9, zorder=6, clip_on=False)


def _limits(
    values: FloatArray, best: FloatArray, levels: list[float], validated: FloatArray, minimize: bool
) -> tuple[float, float]:
    """Axis limits that hold the levels, the best, what was validated and most of the dots; the rest is on the edge."""
    finite = values[np.isfinite(values)]
    good = float(np.nanmin(best) if minimize else np.nanmax(best))
    bad = float(np.percentile(finite, 90 if minimize else 10))
    if levels:
        # What the figure is about lies between the baselines and the best; a mutation can be worse by orders.
        worst = max(levels) if minimize else min(levels)
        reach = good + _REACH * (worst - good)
        bad = max(worst, min(bad, reach)) if minimize else min(worst, max(bad, reach))
    low, high = min(good, bad, *validated), max(good, bad, *validated)
    margin = 0.08 * (high - low) or 0.05 * abs(good) or 1.0
    return low - margin, high + margin


def _label_levels(axes: Axes, levels: list[tuple[str, float, str]], best: FloatArray, validated: float | None) -> None:
    """Names at the right end of the lines, pushed apart where lines are close; the winners' own among them."""
    found = [(f"best {best[-1]:.4g}", float(best[-1]), BLUE)] if len(best) and np.isfinite(best[-1]) else []
    if validated is not None:
        found.append((f"validated {validated:.4g}", validated, ORANGE))
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
    failed = int(np.isnan(values).sum()) - record.given_up
    beyond = int(((values > limits[1]) | (values < limits[0])).sum())
    parts = [f"{better} is better", f"one dot per evaluation of {len(values):,}"]
    if beyond:
        parts.append(f"{beyond} beyond the axis as triangles")
    if failed:
        parts.append(f"{failed} failed, not drawn")
    if record.given_up:
        parts.append(f"{record.given_up} given up early, not drawn")
    line = ", ".join(parts)
    if record.exported == "validated":
        line += f"\norange: on the validation split; ringed: {winner_text(record)}, which is exported"
    return line
