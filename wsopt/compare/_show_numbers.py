"""How numbers and names are written in tables, figures and pages; never a NaN or an infinity."""

from __future__ import annotations

import math
from collections.abc import Iterable

from wsopt.compare._base import Column, Comparison, Quartiles
from wsopt.report import metric_label

NONE = "—"
"""What stands where there is no number."""
_MOST_DECIMALS = 5
_WIDE = 1e4
"""Ratio of the largest to the smallest value of a column above which each value gets its own decimals."""
_LONGEST = 32


class Digits:
    """Writes the numbers of one column alike: a few digits of the smallest, at most five decimals.

    Args:
        values: what the column holds; None and what is not finite is passed over. Where they range over more than four
            orders of magnitude each is written with four digits of its own.
        digits: of the smallest value.
    """

    def __init__(self, values: Iterable[float | None], digits: int = 3) -> None:
        sizes = [abs(value) for value in values if value is not None and math.isfinite(value) and value != 0]
        smallest, largest = (min(sizes), max(sizes)) if sizes else (1.0, 1.0)
        plain = smallest >= 1e-4 and largest < 1e6 and largest / smallest <= _WIDE
        self._decimals = min(max(digits - 1 - math.floor(math.log10(smallest)), 0), _MOST_DECIMALS) if plain else None

    def __call__(self, value: float | None) -> str:
        """The number, `NONE` where there is none."""
        if value is None or not math.isfinite(value):
            return NONE
        text = f"{value:.4g}" if self._decimals is None else f"{value:.{self._decimals}f}"
        return minus(text[1:] if text.startswith("-") and float(text) == 0 else text)

    def spread(self, found: Quartiles | None) -> str:
        """``4.81 [4.60, 5.02]``; the median alone where it is of one value."""
        if found is None or not math.isfinite(found.median):
            return NONE
        if found.count < 2:
            return self(found.median)
        return f"{self(found.median)} [{self(found.lower)}, {self(found.upper)}]"


def medians(found: Iterable[Quartiles | None]) -> list[float | None]:
    """The median of each."""
    return [None if one is None else one.median for one in found]


def minus(text: str) -> str:
    """With the minus sign of a number, but not that of an exponent."""
    return "−" + text[1:] if text.startswith("-") else text


def share(new: Quartiles | None, old: Quartiles | None) -> float | None:
    """How much the median of `new` is above that of `old`, by the latter's size; None where that has no sense."""
    if new is None or old is None or old.median == 0:
        return None
    change = (new.median - old.median) / abs(old.median)
    return change if math.isfinite(change) else None


def signed_percent(change: float | None) -> str:
    """``−63 %``: a share as per cent with its sign; one decimal below 10 %."""
    if change is None or not math.isfinite(change):
        return NONE
    text = f"{100 * change:+.1f}" if abs(change) < 0.0995 else f"{100 * change:+,.0f}"
    return "0 %" if float(text.replace(",", "")) == 0 else f"{minus(text)} %"


def whole(value: float | None) -> str:
    """A count: ``1,204``; halves, as medians have them, rounded up."""
    return NONE if value is None or not math.isfinite(value) else f"{math.ceil(value):,}"


def evaluations(median: float | None, budget: int) -> str:
    """Evaluations to a target; ``>400`` where the median instance did not reach it."""
    return f">{budget:,}" if median is None else whole(median)


def probability(value: float | None) -> str:
    """A p-value with two digits, ``<0.0001`` below that."""
    if value is None or not math.isfinite(value):
        return NONE
    return "<0.0001" if value < 1e-4 else f"{value:.2g}"


def arrow(minimize: bool | None) -> str:
    """Which way is better."""
    return {True: " ↓", False: " ↑", None: ""}[minimize]


def column_label(comparison: Comparison, column: Column | None, separator: str = " ") -> str:
    """``FD(digits) to digits/test ↓`` of a column of the report split; the search's label for None."""
    if column is None:
        return f"search {comparison.label}{arrow(comparison.minimize)}"
    metric, features, reference = column
    name = metric_label(metric, features) + arrow(minimizes(comparison, column))
    return f"{name}{separator}to {reference}" if reference else name


def minimizes(comparison: Comparison, column: Column | None) -> bool | None:
    """Whether smaller is better in a column; None where it is not known of a metric."""
    if column is None or column[0] == search_column(comparison)[0]:
        return comparison.minimize
    rows = (row for cell in comparison.cells for row in cell.rows if row.column == column)
    told = next((row.minimize for row in rows if row.minimize is not None), None)
    return True if told is None and column[0] in ("fid", "kid", "fcd") else told


def search_column(comparison: Comparison) -> tuple[str | None, str | None, str | None]:
    """Metric, features and reference of the search's own score."""
    if not comparison.cells:
        return comparison.columns[0] if comparison.columns else (None, None, None)
    objective = comparison.cells[0].results.get("objective", {})
    return objective.get("name"), objective.get("features"), objective.get("reference")


def short_names(methods: Iterable[str], longest: int = _LONGEST) -> dict[str, str]:
    """Names for figures: long ones lose their middle, unless two would become the same."""
    names = list(methods)
    front = longest * 3 // 5
    back = longest - front - 1
    short = [n if len(n) <= longest else f"{n[:front].rstrip()}…{n[-back:].lstrip()}" for n in names]
    return {name: cut if short.count(cut) == 1 else name for name, cut in zip(names, short, strict=True)}
