"""The (1+1) evolution strategy with the 1/5 success rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wsopt.config.params import OnePlusOneParams
from wsopt.optimizers._base import SearchSpace
from wsopt.optimizers._sequential import Points, SequentialSearch
from wsopt.optimizers._slope import Slope
from wsopt.types import FloatArray, Start

_RANGE = 1e12
"""The step stays within this factor of the initial one, so that it can neither underflow nor overflow."""
_NOISE = 0.5
"""Share of the step that is random where the child is shifted along the slope."""


class OnePlusOneSearch(SequentialSearch[OnePlusOneParams]):
    """One parent, one child: parent + step * N(0, I). The child replaces the parent where it is not worse.

    The step grows by `increase` on success and shrinks by ``increase^(-p / (1 - p))`` otherwise, p = `success_rate`, so
    that it stays where it is when a share p of the children succeeds. p = 1/5 is Rechenberg's rule
    ("Evolutionsstrategie", 1973), derived from the best rates on two test functions, 0.18 and 0.27; in this form (both
    factors as powers of one number) it is in Kern et al., "Learning probability distributions in continuous
    evolutionary algorithms", 2004. A child that failed is no success.

    With `slope`, which is ours, the child is parent + shift + step / 2 * N(0, I). The shift is at most as long as a
    step (step * sqrt(D)) and leads down the slope that `Slope` finds in the losses known so far, the starts' included.
    """

    name = "one-plus-one"

    def __init__(
        self,
        params: OnePlusOneParams,
        space: SearchSpace,
        starts: Sequence[Start],
        generator: np.random.Generator,
        budget: int,
    ) -> None:
        super().__init__(params, space, starts, generator, budget)
        self._step = params.step
        self._children = self._successes = 0
        self._origin = self._best.x
        self._slope = Slope(space.dimension) if params.slope else None
        for start in starts:
            self._learn(start.x, start.loss)

    def facts(self) -> dict[str, Any]:
        """See `Optimizer.facts`. `step` is that of the next child, in the space's units."""
        return {"step": self._step, "children": self._children, "successes": self._successes}

    @classmethod
    def has_bar(cls, params: object) -> bool:
        """See `Optimizer.has_bar`: not with `slope`."""
        return isinstance(params, OnePlusOneParams) and not params.slope

    def bar(self) -> float | None:
        """See `Optimizer.bar`: the parent's loss, above which a child is no success, however far.

        With `slope` the losses of all children are learnt from, so every loss counts.
        """
        return self._best.loss if self._slope is None else None

    def _points(self) -> Points:
        rule, first = self._params, self._params.step
        shrink = rule.increase ** (-rule.success_rate / (1 - rule.success_rate))
        parent, loss = self._best.x, self._best.loss
        while True:
            child = parent + self._move(parent, loss)
            value = yield child
            self._children += 1
            if value is not None:
                self._learn(child, value)
            # Equal is a success: on a plateau the parent drifts instead of freezing.
            if value is not None and value <= loss:
                parent, loss = child, value
                self._successes += 1
                self._step *= rule.increase
            else:
                self._step *= shrink
            self._step = min(max(self._step, first / _RANGE), first * _RANGE)

    def _move(self, parent: FloatArray, loss: float) -> FloatArray:
        scale = self._space.scale
        noise: FloatArray = self._step * scale * self._generator.standard_normal(parent.size)
        if self._slope is None:
            return noise
        reach = self._step * math.sqrt(parent.size)
        return scale * self._slope.shift(self._scaled(parent), loss, reach) + _NOISE * noise

    def _learn(self, x: FloatArray, loss: float) -> None:
        if self._slope is not None:
            self._slope.add(self._scaled(x), loss)

    def _scaled(self, x: FloatArray) -> FloatArray:
        """In units of the scale, from the best start on, where the numbers are small."""
        scaled: FloatArray = (x - self._origin) / self._space.scale
        return scaled
