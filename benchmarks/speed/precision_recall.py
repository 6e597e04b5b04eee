"""What precision and recall cost, against the plain form and against the arithmetic that they take.

    python benchmarks/speed/precision_recall.py [--n 10000] [--d 2048] [--repeats 3] [--quick]

One thread, float32 features, k = 3, CPU seconds, variants interleaved, medians. The plain form makes whole n x n
matrices of distances, sorts out the k-th smallest and compares; "plain, radii of the real kept" is told what wsopt
derives from the reference once.

n generated and n real vectors of length d: a matrix takes 2 n^2 d operations, 410 GFLOP for n = 10,000 and d = 2048,
and 400 MB. The plain form takes three of them (two with the radii of the real vectors kept). wsopt takes at most one
for `precision`, half a one for the radii of the generated vectors and at most one more for `recall`, as each objective
works alone; what lies in a large ball is not compared with the small ones. It holds tiles of some megabytes. Goal: both
together 1.8 times as fast as the plain form.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from features import batches_of, cpu_seconds, rectified, reference_of
from torch import Tensor

from wsopt.config.params import PrecisionParams, RecallParams
from wsopt.objectives import Precision, Recall

K = 3


def radii(points: Tensor) -> Tensor:
    """Distances to the k-th nearest other point, from the whole matrix."""
    return torch.cdist(points, points).topk(K + 1, largest=False).values[:, K]


def plain(real: Tensor, fake: Tensor, kept: Tensor | None) -> tuple[float, float]:
    """Precision and recall as they are defined."""
    real_radii = radii(real) if kept is None else kept
    fake_radii = radii(fake)
    across = torch.cdist(fake, real)
    precision = (across <= real_radii[None]).any(dim=1).double().mean()
    recall = (across <= fake_radii[:, None]).any(dim=0).double().mean()
    return float(precision), float(recall)


def scored(objective: Precision | Recall, real: Tensor, fake: Tensor) -> Callable[[], float]:
    """Add the generated features in batches and score."""
    objective.prepare(reference_of(real))

    def task() -> float:
        acc = objective.new()
        for batch in batches_of(fake):
            acc = objective.add(acc, batch)
        return objective.score(acc).value

    return task


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--d", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--narrowed", type=float, default=0.9, help="spread of the generated vectors over the real's")
    parser.add_argument("--quick", action="store_true", help="2000 vectors of length 512")
    args = parser.parse_args()
    n, d = (2000, 512) if args.quick else (args.n, args.d)
    torch.set_num_threads(1)
    real, fake = rectified(n, d, 1), rectified(n, d, 2, args.narrowed)
    kept = radii(real)
    precision = scored(Precision(PrecisionParams(neighbours=K)), real, fake)
    recall = scored(Recall(RecallParams(neighbours=K)), real, fake)
    seconds, found = cpu_seconds(
        {
            "plain": lambda: plain(real, fake, None),
            "plain, radii of the real kept": lambda: plain(real, fake, kept),
            "precision": precision,
            "recall": recall,
            "one product": lambda: (fake @ real.T)[:0],
        },
        args.repeats,
    )
    print(f"{n} generated and {n} real vectors of length {d}, k = {K}, one thread")
    print("  plain {:.4f} / {:.4f}; ".format(*found["plain"]) + "wsopt {precision:.4f} / {recall:.4f}".format(**found))
    for name, taken in seconds.items():
        print(f"  {name:32s} {taken * 1e3:9.0f} ms   {taken / seconds['one product']:5.2f} products")
    both = seconds["precision"] + seconds["recall"]
    print(
        f"both: {seconds['plain'] / both:.2f} x the plain form (goal: 1.8), "
        f"{seconds['plain, radii of the real kept'] / both:.2f} x with the radii kept; "
        f"precision alone {seconds['plain'] / seconds['precision']:.2f} x"
    )


if __name__ == "__main__":
    main()
