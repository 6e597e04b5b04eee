"""Checkpoint sets in memory, for tests of weight spaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsopt.checkpoints import CheckpointReader, CheckpointSet, Snapshot, Stream, TensorSpec
from wsopt.types import FloatArray
from wsopt.weightspace import DenseStack


class MemoryReader(CheckpointReader):
    """Holds the checkpoints, or makes them anew each time; counts how often they are read."""

    name = "memory"

    def __init__(self, make: Callable[[int], dict[str, Tensor]]) -> None:
        self.make = make
        self.loads: list[int] = []

    def recognises(self, path: Path) -> bool:
        return False

    def scan(self, path: Path) -> list[Snapshot]:
        return []

    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        assert snapshot.step is not None
        self.loads.append(snapshot.step)
        return self.make(snapshot.step - 1)


def made_set(count: int, make: Callable[[int], dict[str, Tensor]]) -> CheckpointSet:
    """`count` checkpoints of steps 1, 2, ...; `make` is asked for each by its index whenever it is read."""
    reader = MemoryReader(make)
    tensors = {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in make(0).items()}
    steps = tuple(range(1, count + 1))
    snapshots = tuple(Snapshot(Path(f"{step}.memory"), "", Stream(), step, tensors, reader) for step in steps)
    return CheckpointSet(snapshots, steps, tensors)


def set_of(checkpoints: Sequence[Mapping[str, Tensor]]) -> CheckpointSet:
    """The given checkpoints, of steps 1, 2, ..."""
    return made_set(len(checkpoints), lambda index: dict(checkpoints[index]))


def walk(
    count: int, shapes: Mapping[str, tuple[int, ...]], seed: int = 1, step: float = 0.1
) -> list[dict[str, Tensor]]:
    """A random walk: checkpoints that are near their neighbours."""
    generator = torch.Generator().manual_seed(seed)
    point = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    path = []
    for _ in range(count):
        path.append(point)
        point = {name: value + step * torch.randn(value.shape, generator=generator) for name, value in point.items()}
    return path


def merged(stack: DenseStack, coefficients: FloatArray, row: int = 0) -> dict[str, Tensor]:
    """One candidate's weights, copied. `coefficients` are ``[K]`` or ``[G, K]``."""
    stack.prepare(np.atleast_2d(coefficients)[None], (row,))
    return {name: tensor.clone() for name, tensor in stack.tensors(row).items()}


def exact(checkpoints: Sequence[Mapping[str, Tensor]], coefficients: FloatArray, name: str) -> Tensor:
    """The weighted sum in float64."""
    pairs = zip(coefficients.tolist(), checkpoints, strict=True)
    return sum((alpha * one[name].double() for alpha, one in pairs), torch.zeros((), dtype=torch.float64))
