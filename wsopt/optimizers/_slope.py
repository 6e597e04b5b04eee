"""A regression on the losses of the latest points: which way is down, and how far."""

from __future__ import annotations

from collections import deque

import numpy as np

from wsopt.types import FloatArray

_FEWEST = 4
"""Points that the regression needs."""
_MOST = 400
"""Points that it uses at most, so that its cost stays at some ten milliseconds."""
_UNEXPLAINED = 0.01
"""Variance of what the regression cannot explain at the distance `reach`, where that of the slopes is 1."""
_FLOOR = 1e-6
"""Smallest such variance, so that points along one line do not make the equations singular."""


class Slope:
    """The slope at a point p, from the losses at the latest D points whether they were improvements or not.

    Along a direction u the loss is ``f(p) + t g.u + t^2 u'Hu / 2``. For random u in many dimensions ``u'Hu`` is near
    its mean, ``k = trace(H) / D``, so one evaluation at the distance t tells nearly all about the slope along u:
    ``y = (f - f(p)) / t = g.u + k t / 2 + error``, the error growing like t. The prior of g is normal with equal
    variance in all directions, k is fitted by generalised least squares, and g is the posterior mean (kriging with one
    trend; C below is the covariance of y). In directions that were never tried, g is zero.

    Points are in units of the space's scale.
    """

    def __init__(self, dimension: int) -> None:
        self._points: deque[FloatArray] = deque(maxlen=min(max(dimension, _FEWEST), _MOST))
        self._losses: deque[float] = deque(maxlen=self._points.maxlen)

    def add(self, point: FloatArray, loss: float) -> None:
        """Take a point ``[D]`` and its loss; the oldest is dropped when there are too many."""
        self._points.append(point)
        self._losses.append(loss)

    def shift(self, parent: FloatArray, loss: float, reach: float) -> FloatArray:
        """From `parent` ``[D]`` to the lowest point down the slope, at most `reach` away; zero where none is known."""
        still = np.zeros(parent.size)
        if len(self._points) < _FEWEST:
            return still
        with np.errstate(all="ignore"):
            slope, curvature = self._fit(parent, loss, reach)
            length = float(np.linalg.norm(slope))
            if not (np.isfinite(length) and np.isfinite(curvature) and length > 0):
                return still
            distance = min(reach, length / curvature) if curvature > 0 else reach
            shift: FloatArray = -distance * (slope / length)
        return shift

    def _fit(self, parent: FloatArray, loss: float, reach: float) -> tuple[FloatArray, float]:
        """The slope ``[D]`` at `parent` and the mean curvature, both times the same power of two."""
        away = np.array(self._points) - parent
        distances = np.linalg.norm(away, axis=1)
        apart = distances > 0
        distances = distances[apart]
        directions = away[apart] / distances[:, None]
        slopes = _near_one(np.array(self._losses)[apart] - loss) / distances
        trend = distances / 2
        covariance = directions @ directions.T + np.diag(_UNEXPLAINED * (distances / reach) ** 2 + _FLOOR)
        try:
            solved = np.linalg.solve(covariance, np.stack([slopes, trend], axis=1))
        except np.linalg.LinAlgError:
            return np.zeros(parent.size), 0.0
        curvature = float((trend @ solved[:, 0]) / (trend @ solved[:, 1]))
        return directions.T @ (solved[:, 0] - curvature * solved[:, 1]), curvature


def _near_one(differences: FloatArray) -> FloatArray:
    """Times a power of two, which rounds nothing: squares of tiny or huge losses would underflow or overflow."""
    _, exponent = np.frexp(np.abs(differences).max(initial=0.0))
    scaled: FloatArray = np.ldexp(differences, -exponent)
    return scaled
