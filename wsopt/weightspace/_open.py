"""Which weight space holds a set of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wsopt.checkpoints import CheckpointSet, looks_like_lora
from wsopt.weightspace._base import Grouping, SpaceSettings, WeightSpace
from wsopt.weightspace._dense import DenseStack
from wsopt.weightspace._lora import LoraStack


def open_space(
    checkpoints: CheckpointSet,
    settings: SpaceSettings | None = None,
    grouping: Grouping | None = None,
    base: Mapping[str, Tensor] | None = None,
) -> WeightSpace:
    """Load `checkpoints` once.

    Args:
        checkpoints: the window.
        settings: how they are held; None takes the defaults.
        grouping: gives the layer group of each tensor (LoRA: of each adapted weight, by its name in the base model);
            None lets all share their coefficients.
        base: weights of the base model by tensor name, which LoRA checkpoints are differences from; not used for
            others.

    Raises:
        CheckpointError: a NaN in a checkpoint, or tensors that cannot be combined.
    """
    # By content: factors that were combined apart would give another model, whatever the stream is called.
    if checkpoints.kind == "lora" or looks_like_lora(checkpoints.tensors):
        return LoraStack(checkpoints, settings, grouping, base)
    return DenseStack(checkpoints, settings, grouping)
