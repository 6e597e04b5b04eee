"""The family: a SongUNet as a consistency function, sampled in one or a few steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from wsopt.datasets import Dataset
from wsopt.diffusion import Denoiser, SongUNet, karras_grid, sample_multistep
from wsopt.errors import CheckpointError
from wsopt.families import ModelFamily, TrainedSet
from wsopt.progress import Progress
from wsopt.seeding import SampleNoise
from wsopt.types import Batch
from wsopt_cd._training import finished, train
from wsopt_cd.params import CDParams, CDRecipe


class ConsistencyDistillation(ModelFamily):
    """Consistency models trained by distillation (Song et al. 2023), unconditional.

    Args:
        params: the validated parameters.
    """

    name: ClassVar[str] = "cd"

    def __init__(self, params: CDParams) -> None:
        self.params = params
        grid = karras_grid(params.scales, params.sigma_min, params.sigma_max, params.rho)
        self._sigmas = [float(grid[index]) for index in params.evaluated]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a sample."""
        network = self.params.network
        return network.out_channels, network.img_resolution, network.img_resolution

    @property
    def nfe(self) -> int:
        """Number of network evaluations per image."""
        return len(self._sigmas)

    def build(self) -> nn.Module:
        """See `ModelFamily.build`."""
        return SongUNet(self.params.network).eval().requires_grad_(False)

    def load(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """See `ModelFamily.load`. The weights' resampling filters must be those of the configured network."""
        fixed = dict(model.named_buffers())
        for name, tensor in weights.items():
            own = fixed.get(name)
            if own is None or own.shape != tensor.shape:
                continue
            if not torch.allclose(own, tensor.to(own), rtol=1e-5, atol=1e-7):
                raise CheckpointError(
                    f"tensor {name} is not the filter of resample_filter = "
                    f"{list(self.params.network.resample_filter)}. "
                    f"Set family.network.resample_filter to the one these checkpoints were trained with."
                )
        super().load(model, weights)

    def sample(self, model: nn.Module, indices: Sequence[int], noise: SampleNoise, batch_size: int) -> Iterator[Batch]:
        """See `ModelFamily.sample`. Multistep sampling draws the noises ``step-1``, ``step-2``, ... of every sample."""
        params = self.params
        consistency = Denoiser(model, params.sigma_data, boundary=params.sigma_min)
        device = next(model.parameters()).device
        for start in range(0, len(indices), batch_size):
            chunk = indices[start : start + batch_size]

            def draw(stream: str, chunk: Sequence[int] = chunk) -> Tensor:
                return torch.from_numpy(noise.normal(chunk, self.image_shape, stream)).to(device)

            with torch.inference_mode():
                images = sample_multistep(
                    consistency,
                    draw("initial"),
                    self._sigmas,
                    params.sigma_min,
                    lambda step, draw=draw: draw(f"step-{step}"),  # type: ignore[misc]
                ).clamp(-1, 1)
            yield Batch(images, chunk)

    def train(self, recipe: BaseModel, dataset: Dataset, folder: Path, progress: Progress) -> TrainedSet:
        """Train a teacher and distil it; see `ModelFamily.train` and `CDRecipe`.

        Raises:
            Interrupted: after saving the state, when `progress` asks to stop.
            CheckpointError: `folder` holds another training, or files of a finished one are gone.
            InputError: the images do not fit the network.
            WsoptError: the loss is no longer finite, or another process is training in `folder`.
        """
        return train(self.params, _checked(recipe), dataset, folder, progress)

    def trained(self, recipe: BaseModel, folder: Path) -> TrainedSet | None:
        """See `ModelFamily.trained`."""
        return finished(self.params, _checked(recipe), folder)

    def planned_steps(self, recipe: BaseModel) -> Sequence[int]:
        """See `ModelFamily.planned_steps`."""
        return _checked(recipe).saved_steps


def _checked(recipe: BaseModel) -> CDRecipe:
    if not isinstance(recipe, CDRecipe):
        raise TypeError(f"the cd family trains by a CDRecipe, not {type(recipe).__name__}")
    return recipe
