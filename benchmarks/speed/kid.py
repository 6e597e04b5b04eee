"""What a KID costs, against torchmetrics and against the arithmetic that it takes.

    python benchmarks/speed/kid.py [--n 10000] [--d 2048] [--repeats 3] [--quick]

One thread, float32 features, CPU seconds, variants interleaved, medians. n generated and n real vectors of length d;
the sums over pairs of real vectors are derived from the reference once, as in a search, and are not counted.

A part of b generated and b real vectors takes 1.5 b^2 d multiplications and additions, where kernels of generated
vectors are computed once per pair; n = 10,000, d = 2048: 2 * 5 * 1.5 * 2000^2 * 2048 = 123 GFLOP for 5 blocks of 2000,
614 for 100 subsets of 1000 and all pairs alike. torchmetrics computes both halves and the real part each time, 1229
GFLOP. Memory is read in slabs; 8 n d bytes hold both sets. "of the products alone" is one float32 matrix product of
this many operations. Goal: `kid` as configured by default 4 times as fast as torchmetrics.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable

import torch
from features import Identity, batches_of, cpu_seconds, rectified, reference_of
from torch import Tensor
from torchmetrics.image.kid import KernelInceptionDistance

from wsopt.config.params import KidParams
from wsopt.objectives import KernelDistance
from wsopt.types import Score


def torchmetrics_kid(real: Tensor, fake: Tensor, subset_size: int) -> Callable[[], object]:
    """Update with the generated features and compute; the real ones are there already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it keeps the features
        metric = KernelInceptionDistance(
            feature=Identity(real.shape[1]), subsets=100, subset_size=subset_size, reset_real_features=False
        )
    metric.update(real, real=True)

    def task() -> float:
        metric.reset()
        for batch in fake.split(250):
            metric.update(batch, real=False)
        return float(metric.compute()[0])

    return task


def wsopt_kid(real: Tensor, fake: Tensor, params: KidParams) -> Callable[[], Score]:
    """Add the generated features in batches and score, with the standard error."""
    objective = KernelDistance(params)
    objective.prepare(reference_of(real))

    def task() -> Score:
        acc = objective.new()
        for batch in batches_of(fake):
            acc = objective.add(acc, batch)
        return objective.score(acc)

    return task


def shown(found: object) -> str:
    """The value, with its standard error where there is one."""
    if isinstance(found, Score):
        return f"   {found.value:.4e} +- {found.stderr or 0:.1e}"
    return f"   {found:.4e}" if isinstance(found, float) else ""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--d", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="2000 vectors of length 512, parts a fifth as large")
    args = parser.parse_args()
    n, d, subset = (2000, 512, 200) if args.quick else (args.n, args.d, min(1000, args.n))
    block = min(2 * subset, n)
    torch.set_num_threads(1)
    real, fake = rectified(n, d, 1), rectified(n, d, 2, 0.97)
    blocks = wsopt_kid(real, fake, KidParams(block_size=block))
    subsets = wsopt_kid(real, fake, KidParams(estimator="subsets", subset_size=subset))
    full = wsopt_kid(real, fake, KidParams(estimator="full"))
    theirs = torchmetrics_kid(real, fake, subset)
    parts = n // block
    left, right = torch.randn(block, d), torch.randn(3 * block // 2, d)
    seconds, found = cpu_seconds(
        {
            "torchmetrics": theirs,
            f"kid, {parts} blocks of {block}": blocks,
            f"kid, 100 subsets of {subset}": subsets,
            "kid, all pairs": full,
            "products of the blocks alone": lambda: [left @ right.T for _ in range(parts)][:0],
        },
        args.repeats,
    )
    print(f"{n} generated and {n} real vectors of length {d}, one thread")
    first = seconds["torchmetrics"]
    for name, taken in seconds.items():
        print(f"  {name:32s} {taken * 1e3:9.0f} ms   {first / taken:6.2f} x torchmetrics' speed{shown(found[name])}")
    default, products = (seconds[name] for name in (f"kid, {parts} blocks of {block}", "products of the blocks alone"))
    print(f"default: {first / default:.2f} x torchmetrics (goal: 4); {default / products:.2f} x its products alone")


if __name__ == "__main__":
    main()
