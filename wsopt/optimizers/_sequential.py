"""Searches that need each result before they can propose the next point, written as generators."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Sequence
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from wsopt.optimizers._base import Optimizer, SearchSpace
from wsopt.optimizers._ledger import Incumbent, Ledger
from wsopt.types import Candidate, FloatArray, Result, Start

Params = TypeVar("Params")
"""Model of the search's parameters."""

Points: TypeAlias = Generator[FloatArray, float | None, None]
"""Yields a search vector and is sent its loss, None where it failed. A search that returns is over."""


class SequentialSearch(Optimizer, Generic[Params]):
    """One candidate at a time: `ask` gives the next only when the former is told.

    A subclass writes its search as a generator (`_points`), which knows nothing of ids, tells and asks. It begins with
    the first `ask`.
    """

    def __init__(
        self,
        params: Params,
        space: SearchSpace,
        starts: Sequence[Start],
        generator: np.random.Generator,
        budget: int,
    ) -> None:
        self._params = params
        self._space = space
        self._generator = generator
        self._best = Incumbent(starts)
        self._ledger = Ledger()
        self._search = self._points()
        self._loss: float | None = None
        self._over = False

    @abstractmethod
    def _points(self) -> Points:
        """The search, from `_best` on."""

    def ask(self, n: int) -> list[Candidate]:
        """See `Optimizer.ask`. One candidate at most."""
        if n < 1 or self._over or self._ledger.outstanding:
            return []
        try:
            # A generator that has not begun takes None only, which is what `_loss` is then.
            return [self._ledger.issue(self._search.send(self._loss))]
        except StopIteration:
            self._over = True
            return []

    def tell(self, results: Sequence[Result]) -> None:
        """See `Optimizer.tell`."""
        for candidate, result in self._ledger.settle(results):
            self._loss = result.loss
            self._best.offer(candidate, result.loss)

    def recommend(self) -> FloatArray:
        """The best point seen."""
        return self._best.x.copy()

    def finished(self) -> bool:
        """True when the search has nothing left to propose."""
        return self._over
