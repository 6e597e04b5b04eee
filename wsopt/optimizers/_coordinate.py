"""Line searches along the axes of the coordinate system, one after the other, with Powell's conjugate directions."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from wsopt.config.params import CoordinateParams
from wsopt.optimizers._sequential import Points, SequentialSearch
from wsopt.types import FloatArray

_EXPANSIONS = 8
"""Most doublings of a successful step: a factor of 256 in one line search."""
_CHANGE = 4.0
"""Largest factor by which a line's step shrinks from one sweep to the next."""
_NEAR = 0.05
"""A parabola's vertex nearer to the best point than this share of the step is not worth an evaluation."""

_Point = tuple[float, float | None]
_Found = Generator[FloatArray, float | None, tuple[FloatArray, float]]


@dataclass(eq=False)
class _Line:
    """A direction: an axis of the space (its number), or any vector. `step` is the first one of the next search."""

    direction: int | FloatArray
    step: float


class CoordinateSearch(SequentialSearch[CoordinateParams]):
    """Powell's method ("An efficient method for finding the minimum of a function of several variables", 1964).

    A sweep searches along every line in turn. Then the sweep's whole displacement replaces the line that gained most,
    where Powell's test says that this pays (the function falls on beyond the displacement, and the gain was not due to
    one line alone); so the lines become conjugate directions. The first lines are the axes in their order, in pca
    coordinates the longest principal axis first.

    A line search takes about three evaluations: a step forward, one back where that did not gain, doubled while it
    gains, and the vertex of the parabola through the best three points. Nothing is drawn at random.
    """

    name = "coordinate"
    _bar: float | None = None
    _sweeps = 0
    _replaced = 0

    def facts(self) -> dict[str, Any]:
        """See `Optimizer.facts`: sweeps begun, and how many lines Powell's test has replaced."""
        return {"sweeps": self._sweeps, "replaced": self._replaced}

    def bar(self) -> float | None:
        """See `Optimizer.bar`: of the two kinds of points after which no parabola is drawn.

        A vertex has to be below the best point of its line. The point beyond a sweep has to be below where the sweep
        began, or Powell's test fails.
        """
        return self._bar

    def _points(self) -> Points:
        lines = [_Line(axis, self._params.step) for axis in range(self._space.dimension)]
        x, loss = self._best.x, self._best.loss
        while True:
            self._sweeps += 1
            begin, begin_loss = x, loss
            gains: list[float] = []
            for line in lines:
                before = loss
                x, loss = yield from self._along(line, x, loss)
                gains.append(before - loss)
            if max(gains) <= 0:
                continue
            shift = x - begin
            beyond = yield from self._against(begin_loss, x + shift)
            if beyond is None:
                continue
            if _powell_test(begin_loss, loss, beyond, max(gains)):
                line = _Line(shift, 0.5)
                del lines[gains.index(max(gains))]
                lines.append(line)
                self._replaced += 1
                x, loss = yield from self._along(line, x, loss)
            elif beyond < loss:
                x, loss = x + shift, beyond

    def _along(self, line: _Line, x: FloatArray, loss: float) -> _Found:
        """Search one line from `x`; the best point on it and its loss."""
        step = line.step
        here: _Point = (0.0, loss)
        ahead: _Point = (step, (yield self._at(line, x, step)))
        behind = here
        if not _below(ahead, here):
            behind = (-step, (yield self._at(line, x, -step)))
            if _below(behind, here):
                ahead, behind = behind, here
        if _below(ahead, here):
            behind, centre = here, ahead
            for _ in range(_EXPANSIONS):
                ahead = (2 * centre[0], (yield self._at(line, x, 2 * centre[0])))
                if not _below(ahead, centre):
                    break
                behind, centre = centre, ahead
        else:
            centre = here
        vertex = _vertex(behind, centre, ahead)
        if vertex is not None and abs(vertex - centre[0]) > _NEAR * step:
            tried: _Point = (vertex, (yield from self._against(centre[1], self._at(line, x, vertex))))
            centre = tried if _below(tried, centre) else centre
        line.step = max(abs(centre[0]), step / _CHANGE)
        t, value = centre
        return (x, loss) if t == 0 or value is None else (self._at(line, x, t), value)

    def _against(self, bar: float | None, x: FloatArray) -> Generator[FloatArray, float | None, float | None]:
        """Propose a point of which only a loss below `bar` counts."""
        self._bar = bar
        loss = yield x
        self._bar = None
        return loss

    def _at(self, line: _Line, x: FloatArray, t: float) -> FloatArray:
        """The point t along a line. Axes are not stored as vectors: D of them would need D^2 numbers."""
        if not isinstance(line.direction, int):
            return x + t * line.direction
        moved = x.copy()
        moved[line.direction] += t * self._space.scale[line.direction]
        return moved


def _below(first: _Point, second: _Point) -> bool:
    """Whether the first has the lower loss; a failed one has not, and every other is below a failed one."""
    if first[1] is None:
        return False
    return second[1] is None or first[1] < second[1]


def _vertex(first: _Point, middle: _Point, last: _Point) -> float | None:
    """Where the parabola through three points is lowest; None where it is not, or where a point failed."""
    (a, fa), (b, fb), (c, fc) = first, middle, last
    if fa is None or fb is None or fc is None or b in (a, c):
        return None
    p, q = (b - a) * (fb - fc), (b - c) * (fb - fa)
    if not math.isfinite(p - q) or p == q:
        return None
    vertex = b - ((b - a) * p - (b - c) * q) / (2 * (p - q))
    return vertex if min(a, c) < vertex < max(a, c) else None


def _powell_test(begin: float, end: float, beyond: float, largest: float) -> bool:
    """Whether the sweep's displacement should replace the line of the largest gain.

    `begin`, `end` and `beyond` are the losses before the sweep, after it, and as far again beyond it (Powell 1964,
    section 5; in this form Press et al., "Numerical Recipes", section 10.7).
    """
    rest, fall = begin - end - largest, begin - beyond
    return beyond < begin and 2 * (begin - 2 * end + beyond) * rest * rest < largest * fall * fall
