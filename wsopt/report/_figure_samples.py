"""Samples of EMA* and of the searched weights from the same noise (paper, appendix H)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsopt.report._labels import optimizer_label, row_label
from wsopt.report._record import PairedSamples, RunRecord
from wsopt.report._style import BLUE, GREEN, GREY, INK, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches.
_COLUMNS, _SIDE, _GAP, _BAND_GAP = 12, 0.84, 0.05, 0.34
_LEFT, _RIGHT, _TOP, _BOTTOM = 1.05, 0.15, 0.85, 0.15
_LEAST_WIDTH = 5.5


def samples_figure(record: RunRecord, pairs: PairedSamples) -> Figure:
    """Columns of pairs, the baseline's sample above the best's, in the order of the file; long rows are wrapped.

    Args:
        record: the run, for names.
        pairs: the samples, at least one pair.
    """
    count = len(pairs.best)
    bands = -(-count // _COLUMNS)
    columns = -(-count // bands)
    width = max(_LEFT + columns * (_SIDE + _GAP) + _RIGHT, _LEAST_WIDTH)
    height = _TOP + bands * (2 * _SIDE + _GAP + _BAND_GAP) - _BAND_GAP + _BOTTOM
    figure = new_figure(width, height, layout=None)
    for number in range(count):
        band, column = divmod(number, columns)
        left, top = _LEFT + column * (_SIDE + _GAP), _TOP + band * (2 * _SIDE + _GAP + _BAND_GAP)
        for row, images in enumerate((pairs.baseline, pairs.best)):
            bottom = height - top - row * (_SIDE + _GAP) - _SIDE
            axes = figure.add_axes((left / width, bottom / height, _SIDE / width, _SIDE / height))
            axes.set_axis_off()
            axes.imshow(_pixels(images[number]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            if row == 0:
                axes.set_title(f"{pairs.distance[number]:#.3g}", fontsize=8, color=GREY, pad=3)
    _captions(figure, record, pairs, bands)
    return figure


def _captions(figure: Figure, record: RunRecord, pairs: PairedSamples, bands: int) -> None:
    """Title, and the names of the two rows of every band."""
    width, height = figure.get_size_inches()
    names = (row_label("ema*", ema_star=pairs.baseline_name).split(" (")[0], optimizer_label(record.optimizer))
    for band in range(bands):
        for row, (name, colour) in enumerate(zip(names, (GREEN, BLUE), strict=True)):
            middle = _TOP + band * (2 * _SIDE + _GAP + _BAND_GAP) + row * (_SIDE + _GAP) + _SIDE / 2
            figure.text(
                (_LEFT - 0.12) / width, 1 - middle / height, name.replace(" ", "\n"), ha="right", va="center",
                fontsize=10, fontweight="bold", color=colour,
            )  # fmt: skip
    features = record.results["objective"].get("features")
    which = f" in {features} features" if features else ""
    lines = (
        (0.24, f"Same noise, two models: the {len(pairs.best)} pairs that differ most", 12, "bold", INK),
        (0.48, f"the number is the distance of a pair{which}", 9, "normal", GREY),
    )
    for down, text, size, weight, colour in lines:
        figure.text(0.15 / width, 1 - down / height, text, va="center", fontsize=size, fontweight=weight, color=colour)


def _pixels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A grey ``[H, W]`` or coloured ``[H, W, 3]`` image of a ``[C, H, W]`` one."""
    return image[0] if image.shape[0] < 3 else np.moveaxis(image[:3], 0, -1)
