"""How near the merge comes to the bandwidth of memory, and what merging many candidates at once gains.

    python benchmarks/speed/merge_bandwidth.py [--full] [--threads N]

One candidate of K checkpoints and P float32 weights must read the differences, 4 (K-1) P bytes, and the anchor, and
write P results: with K = 50 all but 4 % of the bytes are differences. Its 2 (K-1) P operations are few. It is therefore
compared with the cheapest pass over the same memory, a plain sum of the differences. n candidates together read the
differences once and cost n times the operations; their merged weights are 4 n P bytes more.

`--full` is 50 checkpoints of 20 million weights: 3.9 GB of differences, held twice, once for each width. Goals: one
candidate at 65 % of the plain sum's bandwidth or more, 16 together at 3.5 times the candidates per second of one at a
time. On one thread 16 together are bound by arithmetic: 2 n (K-1) = 1568 operations per weight.
"""

from __future__ import annotations

import argparse
from statistics import median

import torch

from stacks import interleaved, ratio, signed_coefficients, synthetic_set
from wsopt.weightspace import DenseStack, SpaceSettings


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--full", action="store_true", help="50 checkpoints of 20 million weights, instead of 4 million"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    count, values = 50, 20_000_000 if args.full else 4_000_000
    checkpoints = synthetic_set(count, values)
    together = DenseStack(checkpoints, SpaceSettings(width=16, memory="resident"))
    alone = DenseStack(checkpoints, SpaceSettings(width=1, memory="resident"))
    one, many = signed_coefficients(1, count), signed_coefficients(16, count)
    (differences,) = alone.differences
    seconds = interleaved(
        {
            "plain sum of the differences": lambda: differences.sum(),
            "one candidate": lambda: alone.prepare(one),
            "16 candidates together": lambda: together.prepare(many),
        },
        args.repeats,
    )
    size = differences.numel() * 4
    print(f"{count} checkpoints, {values / 1e6:g}M weights, {size / 1e9:.2f} GB of differences, {args.threads} threads")
    for name, times in seconds.items():
        each = 16 if name.startswith("16") else 1
        print(
            f"  {name:30s} {median(times) * 1e3:8.1f} ms   {size / median(times) / 1e9:6.1f} GB/s   "
            f"{median(times) / each * 1e3:7.1f} ms per candidate"
        )
    plain, single, block = seconds.values()
    print(f"one candidate: {100 * ratio(plain, single):.0f} % of the plain sum's bandwidth (goal: 65, aim: 80)")
    print(f"16 together: {16 * ratio(single, block):.2f} x the candidates per second of one at a time (goal: 3.5)")


if __name__ == "__main__":
    main()
