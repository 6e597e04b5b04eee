"""The (1+1) evolution strategy with the 1/5 success rule."""

from __future__ import annotations

from wsopt.config.params import OnePlusOneParams
from wsopt.optimizers._sequential import Points, SequentialSearch

_RANGE = 1e12
"""The step stays within this factor of the initial one, so that it can neither underflow nor overflow."""


class OnePlusOneSearch(SequentialSearch[OnePlusOneParams]):
    """One parent, one child: parent + step * N(0, I). The child replaces the parent where it is not worse.

    The step grows by `increase` on success and shrinks by ``increase^(-p / (1 - p))`` otherwise, p = `success_rate`, so
    that it stays where it is when a share p of the children succeeds. p = 1/5 is Rechenberg's rule
    ("Evolutionsstrategie", 1973), derived from the best rates on two test functions, 0.18 and 0.27; in this form (both
    factors as powers of one number) it is in Kern et al., "Learning probability distributions in continuous
    evolutionary algorithms", 2004. A child that failed is no success.
    """

    name = "one-plus-one"

    def _points(self) -> Points:
        rule, first = self._params, self._params.step
        shrink = rule.increase ** (-rule.success_rate / (1 - rule.success_rate))
        parent, loss, step = self._best.x, self._best.loss, first
        while True:
            child = parent + step * self._space.scale * self._generator.standard_normal(parent.size)
            value = yield child
            # Equal is a success: on a plateau the parent drifts instead of freezing.
            if value is not None and value <= loss:
                parent, loss = child, value
                step *= rule.increase
            else:
                step *= shrink
            step = min(max(step, first / _RANGE), first * _RANGE)
