"""Random weights in the shape of the published ones: a dictionary, a file that is deleted afterwards, an extractor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wsopt.config.params import InceptionParams
from wsopt.objectives.inception import InceptionFeatures
from wsopt.objectives.inception._layouts import COUNTERS, TORCH_SHAPES


def _draw(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if key.endswith(("running_var", "bn.weight")):
        return torch.rand(shape, generator=generator) + 0.5
    # He's scale for the convolutions keeps the activations alive through 48 of them.
    scale = math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 0.1
    return torch.randn(shape, generator=generator) * scale


@pytest.fixture(scope="session")
def random_weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {key: _draw(key, shape, generator) for key, shape in TORCH_SHAPES.items()}


@pytest.fixture(scope="session")
def weights_file(random_weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save(random_weights | {key: torch.tensor(7) for key in COUNTERS}, path)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def inception(weights_file: Path) -> InceptionFeatures:
    return InceptionFeatures(InceptionParams(weights=weights_file))
