"""What a Frechet distance costs, against the public ways to compute it and against the arithmetic it takes.

    python benchmarks/speed/frechet.py [--d 2048] [--n 10000] [--quick]

One thread, float64 but where float32 is said, CPU seconds (so that other processes count less), variants interleaved,
medians. The features are synthetic, with a power-law spectrum, float32; the reference's moments are loaded beforehand
for everybody.

* from moments: wsopt's `FrechetReference.distance` against the eigenvalues of S_r S (torchmetrics, torch-fidelity) and
  scipy's sqrtm (pytorch-fid, clean-fid and most evaluators). Goals: 4 and 10 times as fast.
* from features: `fid` added up in batches of 250 and scored, against torchmetrics' update and compute with an identity
  network. Goal: 3.5 times as fast. In float64 the product of the features takes more than half of the time, so that
  goal is for `precision = "float32"`; the error of its value and the bound that allows it are printed.
* from 256 features: the n x n route against the d x d route. Goal: 15 times as fast.

The LCSC paper states 2.5 s for the FID statistics of one iteration of its search.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.linalg import sqrtm
from threadpoolctl import threadpool_limits
from torchmetrics.image.fid import FrechetInceptionDistance

from wsopt.config.params import FidParams
from wsopt.objectives import FrechetDistance, Reference
from wsopt.objectives._single import LIMIT
from wsopt.objectives.frechet import FrechetReference
from wsopt.objectives.moments import Moments, Vectors, mean_and_upper_covariance
from wsopt.types import Batch, FloatArray

BATCH = 250
FEW = 256
PAPER_SECONDS = 2.5


class Identity(torch.nn.Module):
    """Features that are extracted already."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.num_features = dimension

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The same."""
        return features


def synthetic(n: int, d: int, seed: int, scale: float, mixing: NDArray[np.float32]) -> NDArray[np.float32]:
    """``[n, d]`` features whose variances fall off as a power law."""
    generator = np.random.default_rng(seed)
    spread = np.arange(1, d + 1, dtype=np.float32) ** -0.6 * np.float32(scale)
    return (generator.standard_normal((n, d), dtype=np.float32) * spread) @ mixing + np.float32(0.4)


def timed(variants: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median CPU seconds and value of each, taken in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    values = {}
    for _ in range(repeats):
        for name, run in variants.items():
            begin = process_time()
            values[name] = run()
            seconds[name].append(process_time() - begin)
    return {name: (median(times), values[name]) for name, times in seconds.items()}


def torchmetrics_with(real: Moments) -> Any:  # noqa: ANN401 - torchmetrics has no types
    """A torchmetrics metric whose reference is loaded."""
    mean, covariance = real.mean_covariance()
    metric = FrechetInceptionDistance(feature=Identity(len(mean)), normalize=True, reset_real_features=False)
    metric.real_features_sum = torch.from_numpy(mean * real.samples)
    metric.real_features_cov_sum = torch.from_numpy(
        (real.samples - 1) * covariance + real.samples * np.outer(mean, mean)
    )
    metric.real_features_num_samples = torch.tensor(real.samples)
    return metric


def scored_by_torchmetrics(metric: Any, features: NDArray[np.float32]) -> float:  # noqa: ANN401
    """Update in batches and compute."""
    metric.reset()
    for at in range(0, len(features), BATCH):
        metric.update(torch.from_numpy(features[at : at + BATCH]), real=False)
    return float(metric.compute())


def scored(objective: FrechetDistance, features: NDArray[np.float32]) -> float:
    """What an evaluation in the search spends on `fid`."""
    acc = objective.new()
    for at in range(0, len(features), BATCH):
        part = torch.from_numpy(features[at : at + BATCH])
        acc = objective.add(acc, Batch(part, range(at, at + len(part)), features=part))
    return objective.score(acc, stderr=False).value


def by_eigenvalues(mean: FloatArray, cov: FloatArray, other_mean: FloatArray, other: FloatArray) -> float:
    """The formula of torchmetrics and torch-fidelity."""
    roots = torch.linalg.eigvals(torch.from_numpy(cov) @ torch.from_numpy(other)).sqrt().real.sum()
    return float(((mean - other_mean) ** 2).sum() + np.trace(cov) + np.trace(other) - 2 * float(roots))


def by_sqrtm(mean: FloatArray, cov: FloatArray, other_mean: FloatArray, other: FloatArray) -> float:
    """The formula of Heusel et al.'s own evaluator and those that follow it."""
    root = np.trace(sqrtm(cov @ other)).real
    return float(((mean - other_mean) ** 2).sum() + np.trace(cov) + np.trace(other) - 2 * root)


def dense(reference: FrechetReference, features: Vectors) -> float:
    """The d x d route, whatever n."""
    return reference.distance(*mean_and_upper_covariance(features), len(features))


def peak(repeats: int = 5) -> float:
    """GFLOP per second of a float64 matrix product, which nothing here can exceed."""
    a = np.random.default_rng(0).standard_normal((1024, 1024))
    found = timed({"product": lambda: float((a @ a)[0, 0])}, repeats)
    return 2 * 1024**3 / found["product"][0] / 1e9


def report(title: str, ours: str, found: Mapping[str, tuple[float, float]], goals: Mapping[str, float]) -> None:
    """Print one comparison: the first column's ratio is to `ours`."""
    table = Table("", "seconds", "times wsopt's", "goal", "value", title=title, title_justify="left")
    for name, (seconds, value) in found.items():
        goal = f"{goals[name]:g}" if name in goals else ""
        table.add_row(name, f"{seconds:.4f}", f"{seconds / found[ours][0]:.2f}", goal, f"{value:.8f}")
    Console(width=120).print(table)


def report_rounding(reference: FrechetReference, features: Vectors, double: float, single: float) -> None:
    """Print what float32 changes, and what it was allowed to."""
    _, bound = reference.distance_in_float32(features)
    used = "used, at most" if bound <= LIMIT * double else "not used, above"
    print(
        f"float32 against float64: {abs(single - double) / double:.1e} of the value; "
        f"bound {bound / double:.1e}, {used} {LIMIT:g}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d", type=int, default=2048, help="dimension of the features")
    parser.add_argument("--n", type=int, default=10_000, help="generated samples")
    parser.add_argument("--quick", action="store_true", help="d = 256, n = 2000")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    d, n = (256, 2000) if args.quick else (args.d, args.n)
    few = min(FEW, d // 8)
    torch.set_num_threads(args.threads)
    with threadpool_limits(args.threads):
        _measure(d, n, few, args.repeats)


def _measure(d: int, n: int, few: int, repeats: int) -> None:
    mixing = np.linalg.qr(np.random.default_rng(9).standard_normal((d, d)))[0].astype(np.float32)
    real, generated = (synthetic(rows, d, seed, scale, mixing) for rows, seed, scale in ((6 * d, 1, 1.0), (n, 2, 1.1)))
    of_real, of_generated = Moments(np.zeros(d)), Moments(np.zeros(d))
    of_real.add(real, np.arange(len(real)) % 10)
    of_generated.add(generated, np.arange(n) % 10)
    mean, cov = of_real.mean_covariance()
    given_mean, given = of_generated.mean_covariance()
    reference = FrechetReference(mean, cov)
    objective, single = FrechetDistance(FidParams()), FrechetDistance(FidParams(precision="float32"))
    for each in (objective, single):
        each.prepare(Reference("synthetic", "", "", "", mean, cov, len(real)))
    metric = torchmetrics_with(of_real)

    speed = peak()
    moments = timed(
        {
            "wsopt": lambda: reference.distance(given_mean, given),
            "eigenvalues of the product": lambda: by_eigenvalues(mean, cov, given_mean, given),
            "scipy sqrtm": lambda: by_sqrtm(mean, cov, given_mean, given),
        },
        repeats,
    )
    whole = timed(
        {
            "wsopt": lambda: scored(objective, generated),
            "wsopt, float32": lambda: scored(single, generated),
            "torchmetrics": lambda: scored_by_torchmetrics(metric, generated),
        },
        repeats,
    )
    gram = timed(
        {
            "wsopt, n x n": lambda: reference.distance_of(generated[:few]),
            "wsopt, d x d": lambda: dense(reference, generated[:few]),
        },
        repeats + 2,
    )
    report(f"from moments, d = {d}", "wsopt", moments, {"eigenvalues of the product": 4, "scipy sqrtm": 10})
    title = f"from {n} features, d = {d}, batches of {BATCH}"
    report(f"{title}, products in float64", "wsopt", whole, {})
    report(f"{title}, products in float32", "wsopt, float32", whole, {"torchmetrics": 3.5})
    report_rounding(reference, generated, whole["wsopt"][1], whole["wsopt, float32"][1])
    report(f"from {few} features, d = {d}", "wsopt, n x n", gram, {"wsopt, d x d": 15})
    print(f"float64 matrix product: {speed:.1f} GFLOP/s; the routes need and reach of it:")
    for label, operations, seconds in (
        ("from moments, d^3 + 4/3 d^3", 7 / 3 * d**3, moments["wsopt"][0]),
        (f"from {n} features, n d^2 + 7/3 d^3", n * d**2 + 7 / 3 * d**3, whole["wsopt"][0]),
        (f"from {few} features, n d^2 + n^2 d + 4/3 n^3", few * d**2 + few**2 * d + 4 / 3 * few**3,
         gram["wsopt, n x n"][0]),
    ):  # fmt: skip
        print(f"  {label:44s} {operations / 1e9:8.2f} GFLOP  {100 * operations / 1e9 / speed / seconds:4.0f} %")
    for count in sorted({min(count, n) for count in (250, 1000, n)}):
        seconds, _ = timed({"wsopt": partial(scored, objective, generated[:count])}, repeats)["wsopt"]
        print(f"per evaluation of {count:6d} samples: {seconds:.3f} s (paper: {PAPER_SECONDS} s)")


if __name__ == "__main__":
    main()
