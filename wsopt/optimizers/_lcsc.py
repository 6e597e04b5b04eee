"""The paper's evolutionary search, line by line.

Algorithm 1 and section 4.2 of "Linear Combination of Saved Checkpoints Makes Consistency and Diffusion Models Better"
(ICLR 2025).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from wsopt.config.params import LcscParams
from wsopt.optimizers._base import Optimizer, SearchSpace
from wsopt.optimizers._ledger import Ledger
from wsopt.types import Candidate, FloatArray, Result, Start

_Member = tuple[float, int, FloatArray]


class LcscSearch(Optimizer):
    """Evolutionary search over coefficients.

    P, the population, keeps everyone. CP, the candidate parents, are its best M_CP. An epoch draws Iter children, each
    from two random members of CP: crossover mixes them coefficient by coefficient or takes one entirely, mutation adds
    Gaussian noise to every coefficient. P grows by the epoch's children when all of them are evaluated.

    The paper does not publish Iter, M_CP, the mutation scale, the share of mixing or the initial rates; the defaults
    of `LcscParams` are ours.
    """

    name = "lcsc"

    def __init__(
        self,
        params: LcscParams,
        space: SearchSpace,
        starts: Sequence[Start],
        generator: np.random.Generator,
        budget: int,
    ) -> None:
        if not starts:
            raise ValueError("the evolutionary search needs at least one evaluated start")
        self._params = params
        self._sigma = params.mutation_scale * space.scale
        self._generator = generator
        self._ledger = Ledger()
        # Sorted by (loss, order of arrival), so that ties and the order of tells cannot change who is a parent.
        self._population: list[_Member] = sorted(
            ((start.loss, order - len(starts), start.x) for order, start in enumerate(starts)), key=lambda m: m[:2]
        )
        self._waiting: deque[FloatArray] = deque()
        self._next_generation: list[_Member] = []
        self._epoch = 0

    def ask(self, n: int) -> list[Candidate]:
        """See `Optimizer.ask`. At most the rest of the epoch (Algorithm 1, lines 6 to 11)."""
        if not self._waiting and not self._ledger.outstanding and not self._is_last_epoch_done():
            self._begin_epoch()
        return [self._ledger.issue(self._waiting.popleft()) for _ in range(min(n, len(self._waiting)))]

    def tell(self, results: Sequence[Result]) -> None:
        """See `Optimizer.tell`. Failed candidates never enter P."""
        for candidate, result in self._ledger.settle(results):
            if result.loss is not None:
                self._next_generation.append((result.loss, candidate.id, candidate.x))
        if not self._waiting and not self._ledger.outstanding:
            self._end_epoch()

    def recommend(self) -> FloatArray:
        """The best of P and of the running epoch (line 14)."""
        everyone = self._population + self._next_generation
        return min(everyone, key=lambda member: member[:2])[2].copy()

    def bar(self) -> float | None:
        """See `Optimizer.bar`: that of the last of CP, once CP is full. Children behind it never become parents."""
        full = len(self._population) >= self._params.m_cp
        return self._population[self._params.m_cp - 1][0] if full else None

    def finished(self) -> bool:
        """True after `epochs` epochs."""
        return self._is_last_epoch_done() and not self._waiting and not self._ledger.outstanding

    def facts(self) -> dict[str, Any]:
        """See `Optimizer.facts`. `epochs` counts the complete ones, `population` is the size of P."""
        running = bool(self._waiting or self._ledger.outstanding)
        return {"epochs": self._epoch - running, "population": len(self._population)}

    def _is_last_epoch_done(self) -> bool:
        return self._params.epochs is not None and self._epoch >= self._params.epochs

    def _begin_epoch(self) -> None:
        # P changes between epochs only (line 12), so CP of line 7 is one set for the whole epoch.
        parents = [x for _, _, x in self._population[: self._params.m_cp]]
        children = (self._mutate(self._crossover(parents)) for _ in range(self._params.iter))
        self._waiting.extend(self._repair(child, parents[0]) for child in children)
        self._epoch += 1

    def _end_epoch(self) -> None:
        self._population = sorted(self._population + self._next_generation, key=lambda member: member[:2])
        self._next_generation = []

    def _crossover(self, parents: list[FloatArray]) -> FloatArray:
        """Line 8 and the crossover of section 4.2c: mix two parents coefficient by coefficient, or take one."""
        if len(parents) == 1:
            return parents[0]
        first, second = self._generator.choice(len(parents), size=2, replace=False)
        father, mother = parents[int(first)], parents[int(second)]
        if self._generator.random() < self._params.mix_probability:
            mixed: FloatArray = np.where(self._generator.random(father.size) < 0.5, father, mother)
            return mixed
        return father

    def _mutate(self, x: FloatArray) -> FloatArray:
        """Section 4.2c: Gaussian noise on each coefficient."""
        child: FloatArray = x + self._sigma * self._generator.standard_normal(x.size)
        return child

    def _repair(self, child: FloatArray, parent: FloatArray) -> FloatArray:
        """With `keep_sum`: shift all numbers evenly, to the sum of the parent's. Not in the paper."""
        if not self._params.keep_sum:
            return child
        shifted: FloatArray = child + (parent.sum() - child.sum()) / child.size
        return shifted
