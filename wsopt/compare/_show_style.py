"""Colours, axes, labels and files that the figures of a comparison share."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wsopt.compare._base import Comparison, Curve
from wsopt.compare._show_numbers import short_names
from wsopt.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, FAINT, LEVEL = "#222222", "#767676", "#E4E4E4", "#009E73"
# Okabe & Ito's palette without its yellow and the green of EMA*, then Tol's muted one: told apart with every common
# colour blindness, the later ones by their dashes too.
_COLOURS = (
    "#0072B2", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#332288", "#882255", "#999933", "#117733", "#44AA99",
    "#AA4499",
)  # fmt: skip
_DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
_PLAIN_LINES = 6
_DPI = 160
_AXES = 0.75
"""Share of a figure's height that its axes get, about."""
_RANGE = 4.0
"""Ratio of the largest to the smallest value above which an axis is logarithmic."""

Dash = str | tuple[int, tuple[float, ...]]


@dataclass(frozen=True)
class Look:
    """How a method is drawn, in every figure alike."""

    name: str
    colour: str
    dash: Dash
    width: float


def looks(comparison: Comparison) -> dict[str, Look]:
    """A colour, dashes and a short name per method; the reference is black and thick."""
    names = short_names(comparison.methods)
    found, place = {}, 0
    for method in comparison.methods:
        if method == comparison.reference:
            found[method] = Look(names[method], INK, "-", 2.4)
            continue
        turn = place // _PLAIN_LINES + place // len(_COLOURS)
        found[method] = Look(names[method], _COLOURS[place % len(_COLOURS)], _DASHES[turn % len(_DASHES)], 1.9)
        place += 1
    return found


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches, outside pyplot's list of figures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    return figure


def bare(axes: Axes, grid: str = "y") -> None:
    """No box, a faint grid behind the data, text in one ink."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(visible=True, axis=grid, color=FAINT, linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)


def heading(axes: Axes, title: str, subtitle: str = "") -> None:
    """A bold title on the left, grey lines below it."""
    lines = subtitle.count("\n") + 1 if subtitle else 0
    axes.set_title(verbatim(title), loc="left", fontsize=12, fontweight="bold", color=INK, pad=8 + 13 * lines)
    axes.annotate(
        verbatim(subtitle), (0, 1), xytext=(0, 7), xycoords="axes fraction", textcoords="offset points", fontsize=9,
        color=GREY,
    )  # fmt: skip


def verbatim(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")


def scale(axes: Axes, values: Iterable[FloatArray | Sequence[float]]) -> None:
    """Limits that hold `values`; a logarithmic axis where all are positive and range over more than a factor of 4."""
    known = np.concatenate([np.ravel(np.asarray(value, dtype=np.float64)) for value in values] or [np.empty(0)])
    known = known[np.isfinite(known)]
    if not len(known):
        return
    low, high = float(known.min()), float(known.max())
    if low > 0 and high / low > _RANGE:
        margin = (high / low) ** 0.05
        axes.set_yscale("log")
        axes.set_ylim(low / margin, high * margin)
        plain_ticks(axes)
        return
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)


def plain_ticks(axes: Axes) -> None:
    """Ticks of a logarithmic axis as plain numbers, and enough of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    wide = high / low > 300
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw(axes: Axes, curve: Curve, look: Look, *, points: bool = False) -> None:
    """A method's median as a line, its quartiles as a band."""
    axes.fill_between(
        curve.evaluations, curve.lower, curve.upper, step=None if points else "post", color=look.colour, alpha=0.13,
        lw=0, zorder=2,
    )  # fmt: skip
    axes.plot(
        curve.evaluations, curve.median, color=look.colour, lw=look.width, ls=look.dash, zorder=4,
        drawstyle="default" if points else "steps-post", marker="o" if points else "", ms=5,
    )  # fmt: skip


def label_ends(axes: Axes, labels: Iterable[tuple[str, float, str]], size: float = 9.0) -> None:
    """Names beside the right ends of lines, pushed apart where the lines are close. Limits must be final.

    Args:
        axes: where the lines are.
        labels: text, height in data coordinates, colour; what has no finite height is left out.
        size: of the letters, points.
    """
    fraction = _fractions(axes)
    found = sorted(
        ((min(max(fraction(y), 0.0), 1.0), text, colour) for text, y, colour in labels if np.isfinite(y)),
        key=lambda entry: (entry[0], entry[1]),
    )
    # The layout that decides the exact height comes later, and needs the labels.
    height = _AXES * axes.figure.get_size_inches()[1]  # type: ignore[union-attr]
    places = _apart([entry[0] for entry in found], 1.3 * size / 72 / height)
    for (own, text, colour), place in zip(found, places, strict=True):
        axes.annotate(
            verbatim(text), (1.0, own), xytext=(1.025, place), xycoords="axes fraction", textcoords="axes fraction",
            va="center", fontsize=size, color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.7, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)},
        )  # fmt: skip


def _fractions(axes: Axes) -> Callable[[float], float]:
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        low, high = np.log(low), np.log(high)
        return lambda y: float((np.log(y) - low) / (high - low)) if y > 0 else 0.0
    return lambda y: float((y - low) / (high - low))


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Ascending places at least `gap` apart, near those wanted, from the top down where they would pass it."""
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + gap) if places else place)
    ceiling = 1.0
    for i in reversed(range(len(places))):
        places[i] = min(places[i], ceiling)
        ceiling = places[i] - gap
    return places


def png(figure: Figure) -> bytes:
    """The figure as PNG, 160 dots per inch; the same figure gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.set_dpi(_DPI)
    engine = figure.get_layout_engine()
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # labels in scripts that the font lacks: boxes
        if engine is not None:
            # Once, not again at every pass of saving: it takes most of the time.
            engine.execute(figure)
            figure.set_layout_engine("none")
        figure.savefig(data, format="png", dpi=_DPI, metadata={"Software": None})
    return data.getvalue()
