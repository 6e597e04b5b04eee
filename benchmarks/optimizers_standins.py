"""Rules for a (1+1) strategy at small budgets, on stand-in problems that cost microseconds.

    python benchmarks/optimizers_standins.py [--seeds N] [--evaluations N] [--steps S ...] [--rules NAME ...]

The problems are quadratics in random rotations, D = 124 and 199, eigenvalues log-uniform over a factor of 30 or 100;
``rugged`` adds 200 random waves of 2 % of the loss at the start, ``saddle`` turns a third of the eigenvalues negative
within a quartic bowl. The search begins at a distance of 1 to 3 from the optimum. All is noise-free.

A cell is the median over seeds of best loss / loss at the start, and in how many seeds the rule was better than
``plain`` at the same budget, step, problem and seed. ``plain`` and the rows under it are `one-plus-one` with other
settings; those under ``fast`` are variants that were tried here only.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Generator, Iterator

import numpy as np
from threadpoolctl import threadpool_limits

from wsopt.config.params import OnePlusOneParams
from wsopt.optimizers import OnePlusOneSearch, SearchSpace
from wsopt.types import FloatArray, Result, Start

Loss = Callable[[FloatArray], float]
Steps = Generator[FloatArray, bool, None]
"""Yields the step of the next child in units of the step size, and is sent whether the child succeeded."""

PROBLEMS = [("smooth", 124, 30), ("smooth", 199, 100), ("rugged", 124, 100), ("saddle", 124, 100)]
OURS: dict[str, dict[str, float | bool]] = {
    "plain": {},
    "increase 1.2": {"increase": 1.2},
    "increase 2": {"increase": 2.0},
    "success rate 0.1": {"success_rate": 0.1},
    "success rate 0.3": {"success_rate": 0.3},
    "slope": {"slope": True},
}


def problem(kind: str, dimension: int, spread: float, seed: int) -> tuple[Loss, FloatArray]:
    """A loss and the point where its search begins; the loss there is about 1."""
    draws = np.random.default_rng([seed, dimension, int(spread)])
    eigenvalues = np.exp(draws.uniform(0, math.log(spread), dimension))
    rotation, _ = np.linalg.qr(draws.standard_normal((dimension, dimension)))
    x = draws.standard_normal(dimension)
    x *= draws.uniform(1, 3) / np.linalg.norm(x)
    unit = 1 / float(x @ (rotation * eigenvalues) @ rotation.T @ x)
    if kind == "saddle":
        quartic = 0.2 * unit * float(eigenvalues.mean())
        eigenvalues[draws.random(dimension) < 1 / 3] *= -0.3
    matrix = unit * (rotation * eigenvalues) @ rotation.T
    waves = draws.standard_normal((200, dimension)) * draws.uniform(15, 90, (200, 1)) / math.sqrt(dimension)
    phases = draws.uniform(0, 2 * math.pi, 200)

    def loss(y: FloatArray) -> float:
        value = float(y @ matrix @ y)
        if kind == "rugged":
            value += 0.002 * float(np.cos(waves @ y + phases).sum())
        return value + (quartic * float(y @ y) ** 2 if kind == "saddle" else 0.0)

    return loss, x


def normal(dimension: int, draws: np.random.Generator) -> Steps:
    """The plain strategy's steps."""
    while True:
        yield draws.standard_normal(dimension)


def mirrored(dimension: int, draws: np.random.Generator) -> Steps:
    """After a failure, the opposite step (Brockhoff et al., PPSN 2010)."""
    while True:
        z = draws.standard_normal(dimension)
        if not (yield z):
            yield -z


def momentum(dimension: int, draws: np.random.Generator) -> Steps:
    """The mean of the steps is moved along the latest successful ones."""
    path = np.zeros(dimension)
    while True:
        step = draws.standard_normal(dimension) + 0.5 * path
        path = 0.5 * (path + step) if (yield step) else 0.9 * path


def path_variance(dimension: int, draws: np.random.Generator, share: float = 0.2) -> Steps:
    """A covariance of the identity and one direction, the evolution path of the successes (Igel et al., GECCO 2006)."""
    path = np.zeros(dimension)
    while True:
        z = draws.standard_normal(dimension)
        length = np.linalg.norm(path)
        if length > 0:
            along = math.sqrt(share * dimension) * draws.standard_normal() / length
            z = math.sqrt(1 - share) * z + along * path
        if (yield z):
            path = 0.8 * path + 0.6 * z


def diagonal(dimension: int, draws: np.random.Generator, rate: float = 0.03) -> Steps:
    """Variances of the axes, learnt from the successes (after Ros and Hansen, PPSN 2008)."""
    variances = np.ones(dimension)
    while True:
        z = np.sqrt(variances) * draws.standard_normal(dimension)
        if (yield z):
            variances = (1 - rate) * variances + rate * z * z
            variances /= np.exp(np.log(variances).mean())


TRIED: dict[str, tuple[Callable[[int, np.random.Generator], Steps], float | None]] = {
    "fast": (normal, 0.5),
    "mirrored": (mirrored, None),
    "momentum": (momentum, None),
    "path": (path_variance, None),
    "diagonal": (diagonal, None),
}
"""Name -> steps, and the factor of the step size after each failure before the first success (None: the 1/5 rule)."""


def run_tried(name: str, loss: Loss, x: FloatArray, step: float, seed: int) -> Iterator[float]:
    """Best loss after each evaluation, with steps of another kind and the 1/5 rule."""
    kind, first = TRIED[name]
    steps = kind(x.size, np.random.default_rng([seed, 1]))
    z, best, begun = next(steps), loss(x), False
    while True:
        child = x + step * z
        value = loss(child)
        success = value <= best
        if success:
            x, best, begun = child, value, True
        step *= 1.4 if success else first if first and not begun else 1.4**-0.25
        yield best
        z = steps.send(success)


def run_ours(name: str, loss: Loss, x: FloatArray, step: float, seed: int) -> Iterator[float]:
    """Best loss after each evaluation of `one-plus-one`."""
    params = OnePlusOneParams.model_validate({"step": step, **OURS[name]})
    best = loss(x)
    space, start = SearchSpace(x.size, np.ones(x.size)), Start("start", x, best)
    search = OnePlusOneSearch(params, space, [start], np.random.default_rng([seed, 1]), 10**6)
    while True:
        (candidate,) = search.ask(1)
        value = loss(candidate.x)
        search.tell([Result(candidate.id, value)])
        best = min(best, value)
        yield best


def measure(name: str, which: tuple[str, int, int], step: float, seeds: int, evaluations: int) -> FloatArray:
    """Best loss / loss at the start, one per seed."""
    found = []
    for seed in range(seeds):
        loss, x = problem(*which, seed)
        trace = (run_ours if name in OURS else run_tried)(name, loss, x, step, seed)
        found.append([next(trace) for _ in range(evaluations)][-1] / abs(loss(x)))
    return np.array(found)


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=360)
    parser.add_argument("--steps", type=float, nargs="+", default=[0.01, 0.1])
    parser.add_argument("--rules", nargs="+", choices=[*OURS, *TRIED], default=[*OURS, *TRIED])
    args = parser.parse_args()
    print(f"{args.evaluations} evaluations, {args.seeds} seeds: median (seeds better than plain)")
    print(f"{'rule':18s} step  " + "  ".join(f"{f'{kind} {d}/{spread}':>14s}" for kind, d, spread in PROBLEMS))
    with threadpool_limits(1):
        for step in args.steps:
            plain = {which: measure("plain", which, step, args.seeds, args.evaluations) for which in PROBLEMS}
            for name in args.rules:
                cells = []
                for which in PROBLEMS:
                    ratios = measure(name, which, step, args.seeds, args.evaluations)
                    cells.append(f"{np.median(ratios):8.3f} ({int((ratios < plain[which]).sum()):3d})")
                print(f"{name:18s} {step:<5g} " + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
