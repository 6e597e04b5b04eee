"""Colours, axes and files that all figures share."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wsopt.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's palette, told apart with every common colour blindness.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
GREY, FAINT, INK = "#767676", "#E4E4E4", "#222222"
_DPI = 150


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """An empty figure of `width` x `height` inches, outside pyplot's list of figures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    if layout is not None:
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    return figure


def plain(axes: Axes) -> None:
    """No box, a faint grid behind the data, text in one ink."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)


def heading(axes: Axes, title: str, subtitle: str = "") -> None:
    """A bold title on the left, grey lines below it."""
    lines = subtitle.count("\n") + 1 if subtitle else 0
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=10 + 14 * lines)
    axes.annotate(
        subtitle, (0, 1), xytext=(0, 10), xycoords="axes fraction", textcoords="offset points", fontsize=9, color=GREY
    )


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    data = io.BytesIO()
    # No software version in the file: the same record gives the same bytes.
    figure.savefig(data, format="png", dpi=_DPI, metadata={"Software": None})
    write_bytes(path, data.getvalue())
    return path
