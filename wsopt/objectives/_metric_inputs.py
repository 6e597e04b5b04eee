"""What a metric of torchmetrics is given, made of a batch, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wsopt.types import Batch


class PassThrough(nn.Module):
    """The network for a metric that is given features instead of images.

    Args:
        num_features: d, where torchmetrics asks for it before it has seen any.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        """The features themselves, ``[N, d]``."""
        return features


def as_input(kind: str, batch: Batch, device: torch.device) -> Any:  # noqa: ANN401 - whatever update() takes
    """One argument of `update`.

    Args:
        kind: what `TorchmetricsParams.inputs` names.
        batch: with grey levels ``[N, C, H, W]`` in [0, 255]; with the features or conditions that `kind` asks for.
        device: where tensors are put.
    """
    if kind == "conditions":
        return _together(batch.conditions or (), device)
    if kind in ("features", "logits"):
        assert batch.features is not None
        return batch.features.double().to(device)
    grey = batch.images.to(device)
    if kind == "uint8":
        return grey.round().to(torch.uint8)
    return grey / 255.0 if kind == "images" else grey


def _together(conditions: Sequence[Any], device: torch.device) -> Any:  # noqa: ANN401
    """Labels as a tensor ``[N]``, prompts as a list."""
    if all(isinstance(one, int | float | np.number) for one in conditions):
        return torch.tensor(list(conditions), device=device)
    if all(isinstance(one, Tensor) for one in conditions):
        return torch.stack(list(conditions)).to(device)
    return list(conditions)


def described(result: Any) -> str:  # noqa: ANN401
    """The keys, number or shape of what `compute` gave, in brackets, for a message."""
    if isinstance(result, dict):
        return f" ({', '.join(map(str, result))})"
    shape = f" of shape {list(result.shape)}" if isinstance(result, Tensor) else ""
    return f" ({len(result)} of them)" if isinstance(result, tuple | list) else shape
