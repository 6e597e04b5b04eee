"""What differences in bfloat16 or float16 cost in precision and gain in speed and memory.

    python benchmarks/speed/merge_precision.py [--full] [--threads N]

Half the bytes are read. The sums are in float32 in any case, so every value is converted once: on a CPU without
arithmetic in these types that is work for each of (K-1) P values, beside 2 n (K-1) P operations of the products, and
the gain in bytes is spent on it. The error is the norm of the difference from the float64 sum of the checkpoints, over
the norm of the change from the first checkpoint.

`--full` is 50 checkpoints of 20 million weights (8 GB in all). Goals: under 0.5 % for bfloat16; twice the candidates
per second of float32, or the reason why not.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from statistics import median

import torch

from stacks import interleaved, ratio, signed_coefficients, synthetic_set
from wsopt.checkpoints import CheckpointSet
from wsopt.types import FloatArray
from wsopt.weightspace import DenseStack, SpaceSettings


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--full", action="store_true", help="50 checkpoints of 20 million weights, instead of 4 million"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", type=int, default=16, help="candidates merged together")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    count, values = 50, 20_000_000 if args.full else 4_000_000
    checkpoints = synthetic_set(count, values)
    stacks = {
        dtype: DenseStack(checkpoints, SpaceSettings(width=args.width, dtype=dtype, memory="resident"))
        for dtype in ("float32", "bfloat16", "float16")
    }
    coefficients = signed_coefficients(args.width, count)
    print(f"{count} checkpoints, {values / 1e6:g}M weights, {args.width} together, {args.threads} threads")
    seconds = interleaved(
        {dtype: partial(stack.prepare, coefficients) for dtype, stack in stacks.items()}, args.repeats
    )
    for dtype, stack in stacks.items():
        gain = ratio(seconds["float32"], seconds[dtype])
        size = sum(part.nbytes for part in stack.differences)
        error = _error(stack, checkpoints, coefficients[0])
        print(
            f"  {dtype:9s} {median(seconds[dtype]) * 1e3:8.1f} ms   {gain:5.2f} x float32's candidates per second   "
            f"{size / 1e9:5.2f} GB   error {100 * error:.5f} %"
        )


def _error(stack: DenseStack, checkpoints: CheckpointSet, coefficients: FloatArray) -> float:
    """Norm of the error over the norm of the change, on every fourth tensor."""
    names = list(checkpoints.tensors)[::4]
    first = {name: value.double() for name, value in checkpoints.load(0).items() if name in names}
    total = {name: torch.zeros_like(value) for name, value in first.items()}
    for index, alpha in enumerate(coefficients[0].tolist()):
        tensors = checkpoints.load(index)
        for name in names:
            total[name].add_(tensors[name].double(), alpha=alpha)
    merged = stack.tensors(0)
    wrong = sum(float((merged[name].double() - total[name]).square().sum()) for name in names)
    change = sum(float((total[name] - first[name]).square().sum()) for name in names)
    return math.sqrt(wrong / change)


if __name__ == "__main__":
    main()
