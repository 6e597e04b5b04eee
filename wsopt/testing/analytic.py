"""A model family whose samples are known in closed form, for tests of everything that is not a network.

Loaded as a single-file plugin: ``--plugin wsopt/testing/analytic.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import save_file
from torch import nn

from wsopt.families import ModelFamily
from wsopt.hookspecs import Register, hookimpl
from wsopt.seeding import SampleNoise
from wsopt.types import Batch


class AnalyticParams(BaseModel):
    """Shape of the samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(default=8, ge=1, description="height and width of a sample")


class AnalyticNetwork(nn.Module):
    """Three tensors: a mean image, a spread, and a constant buffer that every checkpoint shares."""

    constant: torch.Tensor
    count: torch.Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(1, size, size))
        self.spread = nn.Parameter(torch.ones(1, size, size))
        self.register_buffer("constant", torch.full((3,), 0.1))
        self.register_buffer("count", torch.tensor(7))


class AnalyticFamily(ModelFamily):
    """x = mean + spread * z, clamped to [-1, 1]."""

    name = "analytic"

    def __init__(self, params: AnalyticParams) -> None:
        self._size = params.size

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """See `ModelFamily.image_shape`."""
        return 1, self._size, self._size

    @property
    def nfe(self) -> int:
        """See `ModelFamily.nfe`."""
        return 1

    def build(self) -> nn.Module:
        """See `ModelFamily.build`."""
        return AnalyticNetwork(self._size).eval()

    def sample(self, model: nn.Module, indices: Sequence[int], noise: SampleNoise, batch_size: int) -> Iterator[Batch]:
        """See `ModelFamily.sample`."""
        weights = model.state_dict()
        for at in range(0, len(indices), batch_size):
            part = indices[at : at + batch_size]
            z = torch.from_numpy(noise.normal(part, self.image_shape))
            yield Batch((weights["mean"] + weights["spread"] * z).clamp(-1.0, 1.0), part)


def write_trajectory(
    folder: Path,
    mean: torch.Tensor,
    spread: torch.Tensor,
    generator: np.random.Generator,
    count: int = 12,
    every: int = 10,
) -> None:
    """Save `count` checkpoints that wander around ``(mean, spread)`` as a constant-rate training run does.

    Args:
        folder: created if absent; gets ``step-000010.safetensors`` and so on.
        mean: ``[1, size, size]`` in [-1, 1].
        spread: ``[1, size, size]``.
        generator: source of the wandering.
        count: number of checkpoints.
        every: steps between them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(1, count + 1):

        def wander(scale: float) -> torch.Tensor:
            return torch.from_numpy(scale * generator.standard_normal(mean.shape)).float()

        tensors = {
            "mean": mean + wander(0.2),
            "spread": (spread + wander(0.05)).abs(),
            "constant": torch.full((3,), 0.1),
            "count": torch.tensor(7),
        }
        step = index * every
        save_file(tensors, folder / f"step-{step:06d}.safetensors", metadata={"step": str(step)})


@hookimpl
def register_model_families(register: Register) -> None:
    """Offer the family."""
    register("analytic", "wsopt.testing.analytic:AnalyticFamily", params=AnalyticParams)
