"""The contract of an optimizer: ask, tell, recommend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from wsopt.types import Candidate, FloatArray, Result, Start


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """What an optimizer knows of the problem.

    Args:
        dimension: D, length of a search vector.
        scale: ``[D]`` natural step of each coordinate, all positive; a step of 1 in these units is one unit of
            `mutation_scale` and its like.
    """

    dimension: int
    scale: FloatArray


class Optimizer(ABC):
    """A black-box minimiser that never runs the objective itself.

    Rules that the run loop relies on:
    * all randomness comes from the generator handed in; the same seed, starts and tells give the same asks;
    * `tell` takes results in any order and in part; `ask(n)` returns at most n new candidates, fewer (even none) while
      it waits for outstanding results;
    * the sequence of candidates does not depend on how asks are cut (ask(3) + ask(2) gives what ask(5) gives);
    * candidate ids count up from 0;
    * a failed result counts as worse than every other; it never reaches arithmetic.
    """

    name: ClassVar[str]
    uses_budget: ClassVar[bool] = False
    """True where the search depends on the total budget, so that a finished run cannot be given a larger one."""

    @abstractmethod
    def __init__(
        self,
        params: object,
        space: SearchSpace,
        starts: Sequence[Start],
        generator: np.random.Generator,
        budget: int,
    ) -> None:
        """Set up a search.

        Args:
            params: the optimizer's validated parameters.
            space: the search space.
            starts: evaluated points to begin from, at least one, best or not, in the order of the baselines.
            generator: the only source of randomness.
            budget: number of evaluations that the search may ask for, after the starts were paid for.
        """

    @abstractmethod
    def ask(self, n: int) -> list[Candidate]:
        """Up to `n` new candidates; an empty list when results are outstanding or the search is over."""

    @abstractmethod
    def tell(self, results: Sequence[Result]) -> None:
        """Take results of asked candidates.

        Raises:
            ValueError: for an id that was never asked or was told before.
        """

    @abstractmethod
    def recommend(self) -> FloatArray:
        """The search vector this method would return, ``[D]``; not necessarily the best seen."""

    @classmethod  # noqa: B027 - most have nothing to find
    def check(cls, params: object) -> None:
        """Find what only the method itself can find wrong with its parameters; asked before anything is trained.

        Raises:
            InputError: for a parameter that cannot be used.
        """

    def facts(self) -> dict[str, Any]:
        """What is worth storing with the results besides the parameters, as JSON values; callable at any time."""
        return {}

    def bar(self) -> float | None:
        """The loss that the candidates asked last must be below to have any influence on the search but by being told.

        Always the loss of a start or of a told result. A candidate that is sure not to be below it may be given up
        before all its samples are drawn, and is told with an estimate of its loss, above the bar. None where every
        loss counts, by its size or its rank. Asked between `ask` and the first `tell` of its results.
        """
        return None

    @classmethod
    def has_bar(cls, params: object) -> bool:
        """Whether `bar` is ever a number with these parameters, so that a race (``search.race``) can give anyone up."""
        return cls.bar is not Optimizer.bar

    def finished(self) -> bool:
        """True when the method itself is done before the budget is (the paper's number of epochs)."""
        return False
