"""Any optimizer of nevergrad's registry.

A module of its own, because importing it imports nevergrad.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Final, TypeVar

import nevergrad as ng
import numpy as np
from nevergrad.optimization import metamodel

from wsopt.config.params import NevergradParams
from wsopt.errors import MissingDependencyError, UnknownNameError, WsoptError
from wsopt.optimizers._base import SearchSpace
from wsopt.optimizers._global_state import PrivateGlobals
from wsopt.optimizers._sequential import Points, SequentialSearch
from wsopt.types import FloatArray, Start

T = TypeVar("T")

SHORT_LIST: Final = (
    "OnePlusOne", "CMA", "DiagonalCMA", "NGOpt", "MetaModel", "NgIohTuned", "TwoPointsDE", "DE", "PSO", "TBPSA",
)  # fmt: skip
"""Those that are named first, in the order of what they did on stand-in problems; the last four lost to the paper's
search."""

# nevergrad 1.0.12 calls float() on the arrays of one number that its quadratic models predict, which numpy 2.4 refuses;
# every method with such a model, NGOpt among them, would fail at the first one that fits.
metamodel.float = lambda value: np.asarray(value, dtype=np.float64).item()

_FREE = 10
"""Most times that the start is asked for again and answered from what is known."""


class NevergradSearch(SequentialSearch[NevergradParams]):
    """An optimizer of nevergrad by name, one candidate at a time, told its budget and one worker.

    Nevergrad's methods assume that a step of one is a good one, so a unit of theirs is `step` units of the space, and
    their origin is the best start. The start is suggested to the method as its first point and told at once, because
    it is already evaluated, and so it is where the method asks for it by itself. Methods that nevergrad marks as
    strictly sequential are not suggested to: they begin at the origin by themselves, or (SPSA) break.

    A failed candidate is told as worse than everything seen by the width of what was seen.

    `inner` is the name of the method that the chosen one has resolved to; NGOpt and its like choose by dimension,
    budget and workers.

    Raises:
        UnknownNameError: for a name that is not in the registry.
        MissingDependencyError: where the method needs a package that is not installed.
    """

    name = "nevergrad"
    uses_budget: ClassVar[bool] = True

    def __init__(
        self,
        params: NevergradParams,
        space: SearchSpace,
        starts: Sequence[Start],
        generator: np.random.Generator,
        budget: int,
    ) -> None:
        super().__init__(params, space, starts, generator, budget)
        self.check(params)
        self._params = params
        self._origin, self._origin_loss = self._best.x, self._best.loss
        self._lowest = self._origin_loss
        self._highest = max(start.loss for start in starts)
        self._globals = PrivateGlobals(generator)
        parametrization = ng.p.Array(init=np.zeros(space.dimension))
        parametrization.random_state = np.random.RandomState(generator.bit_generator)
        # The start that is told for nothing is one evaluation more.
        self._method: Any = self._call(
            lambda: ng.optimizers.registry[params.optimizer](parametrization, budget=budget + 1, num_workers=1)
        )
        self.inner: str = self._call(lambda: self._method._info().get("sub-optim", self._method.name))

    @classmethod
    def check(cls, params: object) -> None:
        """See `Optimizer.check`."""
        assert isinstance(params, NevergradParams)
        if params.optimizer in ng.optimizers.registry:
            return
        near = difflib.get_close_matches(params.optimizer, list(ng.optimizers.registry), n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(repr(one) for one in near)}? " if near else ""
        raise UnknownNameError(
            f"optimizer.optimizer: nevergrad {ng.__version__} has no optimizer {params.optimizer!r}; {meant}Begin with "
            f"one of: {', '.join(SHORT_LIST)}. (All {len(ng.optimizers.registry)}: nevergrad.optimizers.registry.)"
        )

    def recommend(self) -> FloatArray:
        """What nevergrad recommends; the best point seen where that is nothing or not finite."""
        proposed = self._call(self._method.recommend)
        z = None if proposed is None or self._method.num_tell == 0 else np.asarray(proposed.value)
        if z is None or not np.isfinite(z).all():
            return self._best.x.copy()
        recommended: FloatArray = self._origin + self._unit * z
        return recommended

    def facts(self) -> dict[str, Any]:
        """See `Optimizer.facts`. `budget` and `workers` are what nevergrad was told."""
        return {
            "library": f"nevergrad {ng.__version__}",
            "optimizer": self._params.optimizer,
            "inner": self.inner,
            "options": self._options(),
            "budget": self._method.budget,
            "workers": self._method.num_workers,
        }

    def _options(self) -> dict[str, Any]:
        """What the registry's entry of the inner method sets, as JSON values; empty for a class without options."""
        entry = ng.optimizers.registry.get(self.inner)
        options = entry.config() if isinstance(entry, ng.optimization.base.ConfiguredOptimizer) else {}
        plain = (bool, int, float, str, type(None))
        return {key: value if isinstance(value, plain) else repr(value) for key, value in sorted(options.items())}

    @property
    def _unit(self) -> FloatArray:
        unit: FloatArray = self._params.step * self._space.scale
        return unit

    def _points(self) -> Points:
        if not self._method.no_parallelization:
            self._call(lambda: self._method.suggest(np.zeros(self._space.dimension)))
        free = _FREE
        while True:
            candidate = self._call(self._method.ask)
            z = np.array(candidate.value, dtype=np.float64)
            if not np.isfinite(z).all():
                raise WsoptError(
                    f"nevergrad's {self._params.optimizer} proposed a point that is not finite. Choose another "
                    "optimizer.optimizer; this run's evaluations are in its journal."
                )
            if free and not z.any():
                free -= 1
                loss: float | None = self._origin_loss
            else:
                loss = yield self._origin + self._unit * z
            self._tell(candidate, loss)

    def _tell(self, candidate: ng.p.Parameter, loss: float | None) -> None:
        if loss is not None:
            self._lowest, self._highest = min(self._lowest, loss), max(self._highest, loss)
        told = self._highest + max(self._highest - self._lowest, 1.0) if loss is None else loss
        # Methods that take nothing but their own points do without the suggested start.
        with suppress(ng.errors.TellNotAskedNotSupportedError):
            self._call(lambda: self._method.tell(candidate, told))

    def _call(self, function: Callable[[], T]) -> T:
        """Call into nevergrad, whose methods may draw from global generators, warn and print."""
        try:
            with self._globals.swapped():
                return function()
        except ImportError as error:
            raise MissingDependencyError(
                f"nevergrad's {self._params.optimizer} needs a package that is not installed ({error}). Install it, or "
                "choose another optimizer.optimizer."
            ) from error
        except ng.errors.TellNotAskedNotSupportedError:
            raise
        except Exception as error:
            raise WsoptError(
                f"nevergrad's {self._params.optimizer} failed with {type(error).__name__}: {error}. Choose another "
                "optimizer.optimizer; this run's evaluations are in its journal."
            ) from error
