"""A small training run on disk: raw weights in two dtypes, a constant, a counter, running statistics, EMAs beside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from wsopt.checkpoints import CheckpointSet, SafetensorsReader, Selection, open_checkpoints

COUNT = 6
EVERY = 10

Opener = Callable[..., CheckpointSet]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(5)
    path = tmp_path / "checkpoints"
    path.mkdir()
    weight = torch.randn(7, 5, generator=generator)
    for index in range(1, COUNT + 1):
        weight = weight + 0.1 * torch.randn(7, 5, generator=generator)
        tensors = {
            "module.block.weight": weight,
            "module.block.bias": torch.randn(5, generator=generator).half(),
            "module.head.wide": torch.randn(3, generator=generator).bfloat16(),
            "module.head.scalar": torch.randn((), generator=generator),
            "module.frozen": torch.tensor([0.1, 0.2, 0.3]),
            "module.count": torch.tensor(3),
            "module.empty": torch.zeros(0, 4),
        }
        save_file(tensors, path / f"model_{index * EVERY:06d}.safetensors")
    return path


@pytest.fixture
def opened(folder: Path) -> Opener:
    def make(path: Path = folder, **chosen: object) -> CheckpointSet:
        return open_checkpoints(path, [SafetensorsReader()], Selection(**chosen))  # type: ignore[arg-type]

    return make
