"""Synthetic checkpoints for the merge benchmarks: a drifting point plus noise, made when they are read.

Every checkpoint differs from the first by about 1e-2 of the size of a weight, as checkpoints of one run do. Nothing is
written to disk, so that what is measured is the merge and not a disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from wsopt.checkpoints import CheckpointReader, CheckpointSet, Snapshot, Stream, TensorSpec
from wsopt.types import FloatArray

TENSOR = 1_000_000


class SyntheticReader(CheckpointReader):
    """Makes checkpoints of `values` weights in tensors of a million."""

    name = "synthetic"

    def __init__(self, values: int) -> None:
        generator = torch.Generator().manual_seed(1)
        self.noise = torch.randn(2 * TENSOR, generator=generator)
        self.specs = {
            f"layer{at // TENSOR:03d}.weight": TensorSpec((min(TENSOR, values - at),), torch.float32)
            for at in range(0, values, TENSOR)
        }

    def recognises(self, path: Path) -> bool:
        """Nothing on disk is such a checkpoint."""
        return False

    def scan(self, path: Path) -> list[Snapshot]:
        """Nothing on disk is such a checkpoint."""
        return []

    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        """The same tensors each time, other ones for each step."""
        assert snapshot.step is not None
        tensors = {}
        for number, (name, spec) in enumerate(self.specs.items()):
            at = (7919 * snapshot.step + 104_729 * number) % TENSOR
            point = self.noise[number : number + spec.numel]
            tensors[name] = point + 1e-2 * self.noise[at : at + spec.numel]
        return tensors


def synthetic_set(count: int, values: int) -> CheckpointSet:
    """`count` checkpoints of `values` float32 weights."""
    reader = SyntheticReader(values)
    steps = tuple(range(1000, 1000 * count + 1, 1000))
    snapshots = tuple(Snapshot(Path(f"{step}"), "", Stream(), step, reader.specs, reader) for step in steps)
    return CheckpointSet(snapshots, steps, reader.specs)


def signed_coefficients(candidates: int, count: int) -> FloatArray:
    """``[n, 1, K]`` of both signs and sum 1, as a search finds them."""
    values = np.random.default_rng(5).normal(size=(candidates, 1, count))
    values[:, :, 0] += 1.0 - values.sum(axis=2)
    return values


def interleaved(tasks: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each task in every repeat; one after another, so that all see the same neighbours on the machine."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(repeats):
        for name, task in tasks.items():
            begin = perf_counter()
            task()
            seconds[name].append(perf_counter() - begin)
    return seconds


def ratio(over: list[float], under: list[float]) -> float:
    """Median over the repeats of one task's seconds over another's."""
    return median(a / b for a, b in zip(over, under, strict=True))
