"""What the optimizers themselves cost per evaluation, at K = 400 checkpoints.

    python benchmarks/speed/optimizer_overhead.py [--dimension D] [--evaluations N] [--only NAME ...]

D = 399 on an ill-conditioned quadratic, one thread. The time is that of ask and tell alone; goal: below 50 ms per
evaluation for all of them but the surrogates.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from threadpoolctl import threadpool_limits

from wsopt.config import params
from wsopt.optimizers import CoordinateSearch, LcscSearch, OnePlusOneSearch, Optimizer, RandomSearch, SearchSpace
from wsopt.optimizers.cmaes import CmaEsSearch
from wsopt.optimizers.nevergrad import SHORT_LIST, NevergradSearch
from wsopt.types import FloatArray, Result, Start

GOAL_MS = 50.0

METHODS: dict[str, tuple[type[Optimizer], params.Params]] = {
    "lcsc": (LcscSearch, params.LcscParams()),
    "random": (RandomSearch, params.RandomParams()),
    "one-plus-one": (OnePlusOneSearch, params.OnePlusOneParams()),
    "one-plus-one, slope": (OnePlusOneSearch, params.OnePlusOneParams(slope=True)),
    "coordinate": (CoordinateSearch, params.CoordinateParams()),
    "cmaes full": (CmaEsSearch, params.CmaesParams()),
    "cmaes full, tpa": (CmaEsSearch, params.CmaesParams(step_adaptation="tpa")),
    "cmaes separable": (CmaEsSearch, params.CmaesParams(covariance="separable")),
    "cmaes vd": (CmaEsSearch, params.CmaesParams(covariance="vd")),
    "cmaes vkd": (CmaEsSearch, params.CmaesParams(covariance="vkd")),
    "cmaes full, lq": (CmaEsSearch, params.CmaesParams(surrogate="lq")),
    "cmaes vkd, lq": (CmaEsSearch, params.CmaesParams(covariance="vkd", surrogate="lq")),
    **{f"nevergrad {name}": (NevergradSearch, params.NevergradParams(optimizer=name)) for name in SHORT_LIST},
}


def measure(kind: type[Optimizer], settings: params.Params, dimension: int, evaluations: int) -> FloatArray:
    """Milliseconds of each evaluation's share of ask and tell, in order."""
    weights = 10.0 ** np.linspace(0, 3, dimension)

    def loss(x: FloatArray) -> float:
        return float((weights * (x - 0.1) ** 2).sum())

    origin = np.zeros(dimension)
    space = SearchSpace(dimension, np.ones(dimension))
    generator = np.random.Generator(np.random.PCG64(0))
    optimizer = kind(settings, space, [Start("origin", origin, loss(origin))], generator, evaluations)
    spent: list[float] = []
    while len(spent) < evaluations:
        begin = time.perf_counter()
        candidates = optimizer.ask(min(32, evaluations - len(spent)))
        seconds = time.perf_counter() - begin
        results = [Result(candidate.id, loss(candidate.x)) for candidate in candidates]
        begin = time.perf_counter()
        optimizer.tell(results)
        seconds += time.perf_counter() - begin
        spent += [1e3 * seconds / len(candidates)] * len(candidates)
    return np.array(spent)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimension", type=int, default=399)
    parser.add_argument("--evaluations", type=int, default=400)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    args = parser.parse_args()
    print(f"D = {args.dimension}, {args.evaluations} evaluations, ms per evaluation (goal: {GOAL_MS:g})")
    with threadpool_limits(1):
        for name in args.only:
            kind, settings = METHODS[name]
            spent = measure(kind, settings, args.dimension, args.evaluations)
            mark = "" if spent.mean() < GOAL_MS else "   above the goal"
            print(f"  {name:24s} mean {spent.mean():8.3f}   largest {spent.max():8.2f}{mark}", flush=True)


if __name__ == "__main__":
    main()
