"""The searched coefficients against the best EMA's, by training step (paper, figure 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wsopt.report._chosen import winner_text
from wsopt.report._labels import kind_of, optimizer_label, row_label
from wsopt.report._record import RunRecord
from wsopt.report._style import BLUE, GREY, INK, ORANGE, VERMILLION, heading, new_figure, plain
from wsopt.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = 6


def coefficients_figure(record: RunRecord) -> Figure:
    """Stems of the exported coefficients, a line for the best EMA; a map of colours where layer groups are many."""
    best = record.coefficients(record.exported)
    assert best is not None
    if len(best) > _PANELS:
        return _map(record, best)
    ema = record.coefficients("best-ema")
    if ema is None:
        ema = record.coefficients("ema*")
    figure = new_figure(8.6, 3.6 if len(best) == 1 else 1.2 + 1.9 * len(best))
    panels = figure.subplots(len(best), 1, sharex=True, squeeze=False)[:, 0]
    for number, axes in enumerate(panels):
        plain(axes)
        _stems(axes, record, best[number])
        if ema is not None:
            axes.plot(
                record.steps, ema[min(number, len(ema) - 1)], color=ORANGE, lw=2, label=_ema_label(record), zorder=3
            )
        axes.axhline(0, color=INK, lw=0.8, zorder=1)
        axes.set_ylabel("coefficient" if len(best) == 1 else record.groups[number], color=INK)
    panels[-1].set_xlabel("training step of the checkpoint", color=INK)
    panels[-1].xaxis.set_major_formatter("{x:,.0f}")
    heading(panels[0], _title(record), _caption(record, best, ema))
    panels[0].legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=3,
        frameon=False,
        fontsize=9,
        borderaxespad=0.2,
        handlelength=1.6,
    )
    return figure


def _baseline(record: RunRecord) -> str | None:
    """The baseline that was exported, where the search found nothing better."""
    name = record.exported_baseline
    return None if name is None else row_label(name).replace("*", "")


def _title(record: RunRecord) -> str:
    baseline = _baseline(record)
    if baseline is not None:
        return f"Coefficients of the {record.exported} combination, a baseline: {baseline}"
    return f"Coefficients of {optimizer_label(record.optimizer)}'s {record.exported} combination"


def _stems(axes: Axes, record: RunRecord, values: FloatArray) -> None:
    steps = np.asarray(record.steps)
    name = _baseline(record) or optimizer_label(record.optimizer)
    size = float(np.clip(600 / len(steps), 6, 30))
    for sign, colour, label in (
        (values >= 0, BLUE, f"{name}, positive"),
        (values < 0, VERMILLION, f"{name}, negative"),
    ):
        if sign.any():
            axes.vlines(steps[sign], 0, values[sign], color=colour, lw=1.4, alpha=0.85, zorder=2)
            axes.scatter(steps[sign], values[sign], s=size, color=colour, label=label, zorder=4, linewidths=0)


def _ema_label(record: RunRecord) -> str:
    found = record.results["coefficients"].get("best-ema") or {}
    name = found.get("name") or record.ema_star or ""
    rate = name.rpartition("-")[2] if kind_of(name) in ("ema", "train-ema") else ""
    return f"EMA {rate}".strip()


def _caption(record: RunRecord, best: FloatArray, ema: FloatArray | None) -> str:
    def facts(values: FloatArray) -> str:
        sums = np.unique(np.round(values.sum(axis=1), 3))
        total = f"{sums[0]:.3f}" if len(sums) == 1 else f"{sums[0]:.3f} to {sums[-1]:.3f}"
        return f"sum {total}, largest |coefficient| {np.abs(values).max():.3f}".replace("-", "−")

    whose = f"{record.exported}, {winner_text(record)}" if record.exported == "validated" else record.exported
    return f"{whose}: {facts(best)}" + ("" if ema is None else f"\nEMA: {facts(ema)}")


def _map(record: RunRecord, best: FloatArray) -> Figure:
    figure = new_figure(8.6, float(np.clip(2.0 + 0.16 * len(best), 3.6, 12)))
    axes = figure.subplots()
    bound = float(np.abs(best).max()) or 1.0
    image = axes.imshow(best, aspect="auto", cmap="RdBu", vmin=-bound, vmax=bound, interpolation="nearest")
    ticks = np.unique(np.linspace(0, len(record.steps) - 1, 7).round().astype(int))
    axes.set_xticks(ticks, [f"{record.steps[tick]:,}" for tick in ticks])
    rows = np.unique(np.linspace(0, len(best) - 1, 12).round().astype(int))
    axes.set_yticks(rows, [record.groups[row] for row in rows])
    axes.set_xlabel("training step of the checkpoint", color=INK)
    axes.set_ylabel("layer group", color=INK)
    axes.tick_params(colors=INK, labelsize=9)
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    bar.set_label("coefficient", color=INK)
    bar.outline.set_edgecolor(GREY)
    heading(axes, _title(record), _caption(record, best, None))
    return figure
