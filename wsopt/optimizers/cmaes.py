"""CMA-ES through pycma: its sampling and its updates, never its driver.

A module of its own, because importing it imports cma.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import cma
import numpy as np
from cma.restricted_gaussian_sampler import GaussVDSampler, GaussVkDSampler
from cma.sigma_adaptation import CMAAdaptSigmaCSA, CMAAdaptSigmaTPA

from wsopt.config.params import CmaesParams
from wsopt.optimizers._base import Optimizer, SearchSpace
from wsopt.optimizers._global_state import quiet
from wsopt.optimizers._ledger import Incumbent, Ledger
from wsopt.optimizers._surrogate import Evaluations, EveryCandidate, Losses, LqSurrogate
from wsopt.types import Candidate, FloatArray, Result, Start

_RANGE = 1e12
"""A standard deviation further than this factor from the initial step has converged or exploded."""


class _TwoPointAdaptation(CMAAdaptSigmaTPA):  # type: ignore[misc]
    """Two-point step-size adaptation without the library's self-check, which draws from numpy's global generator."""

    def check_consistency(self, es: object) -> None:
        """Checked by the library's own tests."""


class CmaEsSearch(Optimizer):
    """Covariance matrix adaptation (Hansen, "The CMA evolution strategy: a tutorial", arXiv:1604.00772).

    The mean begins at the best start. A generation is drawn as a whole, handed out as it is asked for, and told to
    pycma when its last result is in. pycma uses losses through their order only, so it is told ranks: those who
    failed rank behind all others, the further from the mean the worse. After a generation in which all failed, the
    step is halved.

    With ``surrogate = "lq"`` only some of a generation are evaluated (`LqSurrogate`).

    pycma's own stopping rules are never asked: the run has a budget. Where the spread of the distribution has left the
    range of numbers (twelve orders of magnitude from the initial step), or pycma gives up on a decomposition, the
    search begins again at the best point seen.
    """

    name = "cmaes"

    def __init__(
        self,
        params: CmaesParams,
        space: SearchSpace,
        starts: Sequence[Start],
        generator: np.random.Generator,
        budget: int,
    ) -> None:
        self._params = params
        self._space = space
        self._generator = generator
        self._starts = starts
        self._best = Incumbent(starts)
        self._ledger = Ledger()
        self._population: list[FloatArray] = []
        # Positions in the generation: to be handed out, and of the candidates that are out or told.
        self._waiting: deque[int] = deque()
        self._positions: dict[int, int] = {}
        self._told: dict[int, float | None] = {}
        self._restarts, self._generations = -1, 0
        self._begin()

    def ask(self, n: int) -> list[Candidate]:
        """See `Optimizer.ask`. At most the rest of the generation."""
        if not self._waiting and not self._ledger.outstanding:
            self._draw()
        candidates = []
        for position in [self._waiting.popleft() for _ in range(min(n, len(self._waiting)))]:
            candidate = self._ledger.issue(self._origin + self._space.scale * self._population[position])
            self._positions[candidate.id] = position
            candidates.append(candidate)
        return candidates

    def tell(self, results: Sequence[Result]) -> None:
        """See `Optimizer.tell`."""
        for candidate, result in self._ledger.settle(results):
            self._told[candidate.id] = result.loss
            self._best.offer(candidate, result.loss)
        if self._told and not self._waiting and not self._ledger.outstanding:
            losses = self._losses()
            self._waiting.extend(self._evaluations.batch(self._population, losses))
            if not self._waiting:
                self._update(losses)

    def recommend(self) -> FloatArray:
        """The mean of the distribution, which averages the noise that the best point was picked by.

        The best start, or the best point seen, while no generation with a success is complete.
        """
        return (self._origin + self._space.scale * self._es.mean if self._learnt else self._best.x).copy()

    def facts(self) -> dict[str, Any]:
        """See `Optimizer.facts`. `sigma` is the step at the end, in the space's units."""
        adaptation = "of vkd" if self._params.covariance == "vkd" else self._params.step_adaptation or "csa"
        return {
            "library": f"cma {cma.__version__}",
            "covariance": self._params.covariance,
            "popsize": int(self._es.popsize),
            "step_adaptation": adaptation,
            "generations": self._generations,
            "restarts": self._restarts,
            "sigma": float(self._es.sigma),
            **self._evaluations.facts(),
        }

    def _begin(self) -> None:
        """A new distribution around the best point seen."""
        self._origin = self._best.x
        self._learnt = False
        self._restarts += 1
        self._evaluations = self._new_evaluations()
        with quiet():  # GaussVDSampler prints that it is meant for ten dimensions and more
            self._es = cma.CMAEvolutionStrategy(np.zeros(self._space.dimension), self._params.step, self._options())

    def _new_evaluations(self) -> Evaluations:
        if self._params.surrogate == "none":
            return EveryCandidate()
        points = [(start.x - self._origin) / self._space.scale for start in self._starts]
        return LqSurrogate(points, [start.loss for start in self._starts])

    def _options(self) -> dict[str, Any]:
        """The options of pycma: no draw but from our generator, no files, no output."""

        def randn(*shape: int) -> FloatArray:
            return self._generator.standard_normal(shape)

        options: dict[str, Any] = {
            # Not a number: leave numpy's global generator alone.
            "seed": np.nan,
            "randn": randn,
            "verbose": -9,
            "verb_disp": 0,
            "verb_log": 0,
            "verb_time": False,
            "AdaptSigma": _TwoPointAdaptation if self._params.step_adaptation == "tpa" else CMAAdaptSigmaCSA,
        }
        if self._params.popsize is not None:
            options["popsize"] = self._params.popsize
        match self._params.covariance:
            case "separable":
                options["CMA_diagonal"] = True
            case "vd":
                options |= {"CMA_active": False, "CMA_sampler": GaussVDSampler, "CMA_sampler_options": {"randn": randn}}
            case "vkd":
                options |= {
                    "CMA_active": False,
                    "AdaptSigma": False,
                    "CMA_sampler": GaussVkDSampler,
                    "CMA_sampler_options": {"randn": randn},
                }
        return options

    def _draw(self) -> None:
        with quiet():
            self._population = list(self._es.ask())
        self._waiting.extend(self._evaluations.batch(self._population, {}))

    def _losses(self) -> dict[int, float | None]:
        """Position -> loss, in the order in which the candidates were handed out."""
        return {self._positions[id_]: self._told[id_] for id_ in sorted(self._told)}

    def _update(self, losses: Losses) -> None:
        self._told, self._positions = {}, {}
        ranking = self._evaluations.ranking(self._population, losses)
        ranks = _ranks(ranking, [float(np.linalg.norm(z - self._es.mean)) for z in self._population])
        try:
            with quiet(), np.errstate(all="ignore"):
                self._es.tell(self._population, ranks)
        except (ArithmeticError, AssertionError, RuntimeError, ValueError):  # LinAlgError is a ValueError
            self._begin()
            return
        self._generations += 1
        if any(loss is not None for loss in losses.values()):
            self._learnt = True
        else:
            self._es.sigma *= 0.5
        optimum = self._evaluations.optimum()
        if optimum is not None:
            self._es.inject([optimum])
        if not self._is_sound():
            self._begin()

    def _is_sound(self) -> bool:
        spread = float(self._es.sigma * np.sqrt(np.max(self._es.sm.variances)))
        step = self._params.step
        return bool(np.isfinite(self._es.mean).all()) and step / _RANGE < spread < step * _RANGE


def _ranks(losses: Sequence[float | None], distances: Sequence[float]) -> list[float]:
    """How many are better than each: by loss, those who failed behind all others and by distance. Equals stay equal."""
    keys = [(loss is None, d if loss is None else loss) for loss, d in zip(losses, distances, strict=True)]
    return [float(sum(other < key for other in keys)) for key in keys]
