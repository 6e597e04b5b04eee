"""Random search around the best start: the control that any search has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wsopt.config.params import RandomParams
from wsopt.optimizers._base import Optimizer, SearchSpace
from wsopt.optimizers._ledger import Incumbent, Ledger
from wsopt.types import Candidate, FloatArray, Result, Start


class RandomSearch(Optimizer):
    """Independent Gaussian draws around the best start; nothing is learnt from the tells."""

    name = "random"

    def __init__(
        self,
        params: RandomParams,
        space: SearchSpace,
        starts: Sequence[Start],
        generator: np.random.Generator,
        budget: int,
    ) -> None:
        self._best = Incumbent(starts)
        self._centre = self._best.x
        self._sigma = params.scale * space.scale
        self._generator = generator
        self._ledger = Ledger()

    def ask(self, n: int) -> list[Candidate]:
        """See `Optimizer.ask`."""
        noise = (self._generator.standard_normal(self._centre.size) for _ in range(n))
        return [self._ledger.issue(self._centre + self._sigma * step) for step in noise]

    def tell(self, results: Sequence[Result]) -> None:
        """See `Optimizer.tell`."""
        for candidate, result in self._ledger.settle(results):
            self._best.offer(candidate, result.loss)

    def recommend(self) -> FloatArray:
        """The best point seen."""
        return self._best.x.copy()

    def bar(self) -> float | None:
        """See `Optimizer.bar`: that of the best point seen."""
        return self._best.loss
