"""Every optimizer in several configurations, and ways to run them, for tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wsopt.config import params
from wsopt.optimizers import CoordinateSearch, LcscSearch, OnePlusOneSearch, Optimizer, RandomSearch, SearchSpace
from wsopt.optimizers.cmaes import CmaEsSearch
from wsopt.optimizers.nevergrad import NevergradSearch
from wsopt.types import FloatArray, Result, Start

Loss = Callable[[FloatArray], float]

STEP = 0.1
"""Of the functions that tests search, whose starts lie at distances near 1."""

ZOO: dict[str, tuple[type[Optimizer], params.Params]] = {
    "lcsc": (LcscSearch, params.LcscParams(mutation_scale=0.1)),
    "lcsc-keep-sum": (LcscSearch, params.LcscParams(mutation_scale=0.1, iter=7, keep_sum=True)),
    "random": (RandomSearch, params.RandomParams(scale=STEP)),
    "one-plus-one": (OnePlusOneSearch, params.OnePlusOneParams(step=STEP)),
    "one-plus-one-2": (OnePlusOneSearch, params.OnePlusOneParams(increase=2.0, success_rate=0.25, step=0.3)),
    "one-plus-one-slope": (OnePlusOneSearch, params.OnePlusOneParams(slope=True, step=STEP)),
    "coordinate": (CoordinateSearch, params.CoordinateParams(step=STEP)),
    "coordinate-small": (CoordinateSearch, params.CoordinateParams(step=0.003)),
    "cmaes-full": (CmaEsSearch, params.CmaesParams(step=STEP)),
    "cmaes-full-tpa": (CmaEsSearch, params.CmaesParams(step_adaptation="tpa", popsize=5, step=STEP)),
    "cmaes-separable": (CmaEsSearch, params.CmaesParams(covariance="separable", step=STEP)),
    "cmaes-separable-tpa": (CmaEsSearch, params.CmaesParams(covariance="separable", step_adaptation="tpa", step=STEP)),
    "cmaes-vd": (CmaEsSearch, params.CmaesParams(covariance="vd", popsize=13, step=STEP)),
    "cmaes-vd-tpa": (CmaEsSearch, params.CmaesParams(covariance="vd", step_adaptation="tpa", step=STEP)),
    "cmaes-vkd": (CmaEsSearch, params.CmaesParams(covariance="vkd", step=STEP)),
    "cmaes-full-lq": (CmaEsSearch, params.CmaesParams(surrogate="lq", step=STEP)),
    "cmaes-separable-tpa-lq": (
        CmaEsSearch,
        params.CmaesParams(covariance="separable", step_adaptation="tpa", popsize=6, surrogate="lq", step=STEP),
    ),
    "cmaes-vd-lq": (CmaEsSearch, params.CmaesParams(covariance="vd", popsize=13, surrogate="lq", step=STEP)),
    "cmaes-vkd-lq": (CmaEsSearch, params.CmaesParams(covariance="vkd", surrogate="lq", step=STEP)),
    "nevergrad-oneplusone": (NevergradSearch, params.NevergradParams(step=STEP)),
    "nevergrad-ngopt": (NevergradSearch, params.NevergradParams(optimizer="NGOpt", step=0.3)),
    "nevergrad-spsa": (NevergradSearch, params.NevergradParams(optimizer="SPSA", step=0.3)),
    # Draws from numpy's global generator.
    "nevergrad-global": (
        NevergradSearch,
        params.NevergradParams(optimizer="BigLognormalDiscreteOnePlusOne", step=STEP),
    ),
}
"""Name -> class and parameters."""


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def make(name: str, starts: list[Start], seed: int = 0, budget: int = 1000, scale: float = 1.0) -> Optimizer:
    """A new optimizer whose dimension is that of its starts."""
    kind, settings = ZOO[name]
    dimension = starts[0].x.size
    return kind(settings, SearchSpace(dimension, np.full(dimension, scale)), starts, generator(seed), budget)


def spend(optimizer: Optimizer, loss: Loss, budget: int, ask: int = 20) -> list[float]:
    """The losses of `budget` candidates, in the order they were asked in."""
    losses: list[float] = []
    while len(losses) < budget:
        candidates = optimizer.ask(min(ask, budget - len(losses)))
        assert candidates, "nothing is outstanding, and the search is not over"
        results = [Result(c.id, loss(c.x)) for c in candidates]
        losses += [r.loss for r in results if r.loss is not None]
        optimizer.tell(results)
    return losses
