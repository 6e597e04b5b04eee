"""Which candidates of a generation are evaluated: all of them, or those that a model of the losses asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from cma.fitness_models import LQModel

from wsopt.optimizers._global_state import quiet
from wsopt.types import FloatArray

Losses = Mapping[int, float | None]
"""Position in the generation -> the loss of the candidate there, None where it failed."""

_TRUTH = 0.85
"""Kendall's tau between losses and model from which the model's order is trusted (Hansen 2019, section 3)."""
_FIRST_SHARE = 0.02
"""Share of a generation that is evaluated, rounded down, besides one candidate."""
_FEWEST = 4
"""Losses that the model needs before one candidate is enough."""


class Evaluations(Protocol):
    """Decides what of a generation is evaluated, in batches, and how the generation is ranked."""

    def batch(self, population: Sequence[FloatArray], losses: Losses) -> list[int]:
        """Positions to evaluate next, when the losses of all former ones are in; none: the generation is done."""

    def ranking(self, population: Sequence[FloatArray], losses: Losses) -> list[float | None]:
        """Numbers that order the generation, None for those who failed."""

    def optimum(self) -> FloatArray | None:
        """A point that the next generation should hold, or None."""

    def facts(self) -> dict[str, Any]:
        """What is worth storing."""


class EveryCandidate:
    """Without a model: the whole generation at once."""

    def batch(self, population: Sequence[FloatArray], losses: Losses) -> list[int]:
        """See `Evaluations.batch`."""
        return [] if losses else list(range(len(population)))

    def ranking(self, population: Sequence[FloatArray], losses: Losses) -> list[float | None]:
        """See `Evaluations.ranking`: the losses."""
        return [losses[position] for position in range(len(population))]

    def optimum(self) -> FloatArray | None:
        """See `Evaluations.optimum`: nothing is known."""
        return None

    def facts(self) -> dict[str, Any]:
        """See `Evaluations.facts`."""
        return {"surrogate": "none"}


class LqSurrogate:
    """lq-CMA-ES (Hansen, "A global surrogate assisted CMA-ES", GECCO 2019), with pycma's model.

    The model is a weighted regression on the losses: linear at first, with squares from 1.5 (2 D + 1) losses on, with
    products from 0.7 D^2 on. A generation is ordered by the model, the first candidate is evaluated, then half as many
    more again and again, until the model orders the latest losses as they are (Kendall's tau of 0.85). The others rank
    by the model's value. The model's optimum is a point of the next generation.

    Those who failed are no part of the model, and while they are the majority, the model is not believed.

    Args:
        points: where the loss is known already.
        losses: the losses there.
    """

    def __init__(self, points: Sequence[FloatArray], losses: Sequence[float]) -> None:
        self._model = LQModel()
        with quiet():  # about points that are there twice
            self._model.add_data(points, losses)
        self._added: set[int] = set()
        self._target = 0
        self._evaluated = self._ranked = 0

    def batch(self, population: Sequence[FloatArray], losses: Losses) -> list[int]:
        """See `Evaluations.batch`."""
        if not losses:
            self._model.settings.max_absolute_size = len(population)
            self._added.clear()
            self._target = 1 + int(max(_FIRST_SHARE * len(population), _FEWEST - self._model.size))
        else:
            self._learn(population, losses)
            if len(losses) == len(population) or self._is_true(len(population), losses):
                self._model.sort(len(losses))
                self._model.adapt_max_relative_size(self._model.tau.tau)
                self._evaluated += len(losses)
                self._ranked += len(population)
                return []
            self._target += math.ceil(self._target / 2)
        order = np.argsort(self._values(population), kind="stable")
        new = [int(position) for position in order if int(position) not in losses]
        return new[: max(self._target - len(losses), 1)]

    def ranking(self, population: Sequence[FloatArray], losses: Losses) -> list[float | None]:
        """See `Evaluations.ranking`: the losses where all are known, else the model's values."""
        if len(losses) == len(population):
            return [losses[position] for position in range(len(population))]
        values = self._values(population)
        return [
            None if position in losses and losses[position] is None else float(value)
            for position, value in enumerate(values)
        ]

    def optimum(self) -> FloatArray | None:
        """See `Evaluations.optimum`: the model's."""
        if self._model.size < _FEWEST:
            return None
        return self._compute(lambda: np.array(self._model.xopt, dtype=np.float64))

    def facts(self) -> dict[str, Any]:
        """See `Evaluations.facts`: the share evaluated is of the complete generations."""
        share = self._evaluated / self._ranked if self._ranked else None
        return {"surrogate": "lq", "model": (self._model.types or ["linear"])[-1], "share_evaluated": share}

    def _learn(self, population: Sequence[FloatArray], losses: Losses) -> None:
        """Give the model the losses that are new, in the order of the candidates."""
        new = [position for position in losses if position not in self._added]
        self._added.update(new)
        for position in new:
            loss = losses[position]
            if loss is not None:
                with quiet():
                    self._model.add_data_row(population[position], loss)
        self._model.sort(len(losses))

    def _is_true(self, size: int, losses: Losses) -> bool:
        """Whether the model orders the latest losses as they are."""
        failed = sum(loss is None for loss in losses.values())
        if 2 * failed >= len(losses):
            return False
        latest = int(max(15, min(1.2 * len(losses), 0.75 * size)))
        tau = self._compute(lambda: np.array(self._model.kendall(latest)))
        return tau is not None and bool(tau >= _TRUTH)

    def _values(self, population: Sequence[FloatArray]) -> FloatArray:
        """The model's values; all equal where it has none."""
        if self._model.size < 2:
            return np.zeros(len(population))
        values = self._compute(lambda: np.array([self._model.eval(z) for z in population], dtype=np.float64))
        return np.zeros(len(population)) if values is None else values

    def _compute(self, function: Callable[[], FloatArray]) -> FloatArray | None:
        """What the model says; None where that is not finite.

        pycma goes on with the former inverse where a singular value decomposition does not converge, and then fails
        over its shape. The model begins anew then.
        """
        try:
            with quiet(), np.errstate(all="ignore"):
                found = function()
        except (ArithmeticError, ValueError):  # LinAlgError is a ValueError
            self._model.reset()
            return None
        return found if np.isfinite(found).all() else None
