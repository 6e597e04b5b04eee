"""Resident memory over many merges and writes into a network: it must not grow.

    python benchmarks/speed/merge_memory.py [--full] [--merges N]

Each merge writes into one block of candidates that is allocated once, and each write goes from there into the network's
own tensors: no byte more is needed for the thousandth than for the first. Printed are the resident set size after the
first merges, at the end and at its peak. Goal: growth under 1 MB.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from torch import nn

from stacks import signed_coefficients, synthetic_set
from wsopt.memory import peak_bytes, reset_peak
from wsopt.weightspace import DenseStack, SpaceSettings


class Network(nn.Module):
    """Parameters under the names of the synthetic checkpoints."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            layer = nn.Module()
            layer.register_parameter("weight", nn.Parameter(torch.zeros(shape)))
            self.add_module(name.removesuffix(".weight"), layer)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--full", action="store_true", help="50 checkpoints of 20 million weights, instead of 2 million"
    )
    parser.add_argument("--merges", type=int, default=1000)
    args = parser.parse_args()
    count, values, width = 50, 20_000_000 if args.full else 2_000_000, 4
    checkpoints = synthetic_set(count, values)
    stack = DenseStack(checkpoints, SpaceSettings(width=width, memory="resident"))
    model = Network({name: spec.shape for name, spec in checkpoints.tensors.items()})
    coefficients = signed_coefficients(args.merges, count)
    marks: dict[int, int] = {}
    for start in range(0, args.merges, width):
        block = coefficients[start : start + width]
        stack.prepare(block)
        for row in range(len(block)):
            stack.write(row, model)
        if start == 4 * width:
            reset_peak()
            marks[start + width] = _resident()
    marks[args.merges] = _resident()
    print(f"{count} checkpoints, {values / 1e6:g}M weights; the stack holds {stack.nbytes / 1e6:.1f} MB")
    for merges, size in marks.items():
        print(f"  after {merges:5d} merges and writes: {size / 1e6:9.2f} MB resident")
    after, end = marks.values()
    peak = peak_bytes() - after
    print(f"growth: {(end - after) / 1e6:.2f} MB (goal: under 1); peak in between: {peak / 1e6:.2f} MB more")


def _resident() -> int:
    """Resident set size in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
