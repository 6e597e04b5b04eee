"""The contract of a model family: how its network is built, loaded, sampled and, where it can be, trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from wsopt.datasets import Dataset
from wsopt.errors import CheckpointError, InputError
from wsopt.progress import Progress
from wsopt.seeding import SampleNoise
from wsopt.types import Batch


@dataclass(frozen=True)
class TrainedSet:
    """What a training recipe leaves on disk.

    Args:
        checkpoints: folder of the saved checkpoints, one safetensors file per step.
        emas: training-time EMA weights at the last step, by rate as text (``"0.999"``).
        facts: what was measured while training, as JSON values: ``seconds``, ``peak_memory_bytes``, final losses.
    """

    checkpoints: Path
    emas: Mapping[str, Path]
    facts: Mapping[str, float]


class ModelFamily(ABC):
    """A kind of generative model. Constructed from its validated parameters; holds no weights itself.

    Registered with ``register(name, "module:Class", params=Params, recipe=Recipe)``; `recipe` is left out by a family
    that does not train.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a sample."""

    @property
    @abstractmethod
    def nfe(self) -> int:
        """Number of network evaluations per image."""

    @abstractmethod
    def build(self) -> nn.Module:
        """A network in eval mode on the CPU, with arbitrary weights. Draws nothing from global generators."""

    def load(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Put `weights` into `model`, strictly.

        Raises:
            CheckpointError: naming the tensors that are missing, unexpected or of another shape.
        """
        own = model.state_dict()
        missing = sorted(own.keys() - weights.keys())
        unexpected = sorted(weights.keys() - own.keys())
        shapes = [
            f"{name} is {list(weights[name].shape)}, the network has {list(own[name].shape)}"
            for name in sorted(own.keys() & weights.keys())
            if own[name].shape != weights[name].shape
        ]
        problems = [
            *(f"missing tensor {name}" for name in missing[:3]),
            *(f"unexpected tensor {name}" for name in unexpected[:3]),
            *shapes[:3],
        ]
        if problems:
            total = len(missing) + len(unexpected) + len(shapes)
            raise CheckpointError(
                f"the weights do not fit the {self.name} network ({total} differences): {'; '.join(problems)}. "
                f"Set [family] to the architecture that these checkpoints were trained with."
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(weights[name])

    @abstractmethod
    def sample(self, model: nn.Module, indices: Sequence[int], noise: SampleNoise, batch_size: int) -> Iterator[Batch]:
        """Generate the samples `indices` of one split.

        Args:
            model: from `build`, loaded; the samples are made on the device of its parameters.
            indices: sample indices; noise, labels and prompts follow from the index alone, never from the batch.
            noise: source of all randomness.
            batch_size: number of samples per forward pass.

        Yields:
            Batches in the order of `indices`, images in [-1, 1].
        """

    def recalculate(self, model: nn.Module, dataset: Dataset) -> None:
        """Compute the running statistics of batch normalisation anew for the weights in `model`, in place.

        Called for every candidate where the config sets ``weightspace.batchnorm = "recalculate"``. A family whose
        networks have such layers overrides it, for example with `torch.optim.swa_utils.update_bn` over batches of its
        own making; the others are never asked.

        Args:
            model: with the candidate's weights; left in eval mode.
            dataset: only its ``train`` split may be read.

        Raises:
            InputError: where the family cannot; asked once before the first candidate.
        """
        raise InputError(
            f"the {self.name} family cannot recalculate the statistics of batch normalisation. Set "
            f'weightspace.batchnorm to "combine" or "copy".'
        )

    def train(self, recipe: BaseModel, dataset: Dataset, folder: Path, progress: Progress) -> TrainedSet:
        """Train what is missing in `folder` and return what is there; continues where an interrupted call stopped.

        Args:
            recipe: the family's validated recipe model; it has a field `seed`, the training seed.
            dataset: where the training images come from; only its ``train`` split may be read.
            folder: private to this recipe (its name carries the recipe's hash); created if absent.
            progress: shows progress; when it asks to stop, the state is saved and `Interrupted` raised.
        """
        raise self._no_recipe()

    def trained(self, recipe: BaseModel, folder: Path) -> TrainedSet | None:
        """What `train` would return at once, or None where it has still to train. Writes nothing."""
        raise self._no_recipe()

    def planned_steps(self, recipe: BaseModel) -> Sequence[int]:
        """The training steps at which `train` would save a checkpoint, ascending."""
        raise self._no_recipe()

    def _no_recipe(self) -> CheckpointError:
        return CheckpointError(
            f"the {self.name} family has no training recipe. Give the checkpoints' folder as checkpoints.path."
        )
