"""Weights into a network, in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from wsopt.errors import CheckpointError


def fill(model: nn.Module, shapes: Mapping[str, tuple[int, ...]], tensor: Callable[[str], Tensor]) -> None:
    """Copy one tensor after another into the parameters and buffers of `model`.

    Args:
        model: its names and those of `shapes` must agree; nothing is written where they do not.
        shapes: by name.
        tensor: gives the values; called once per name, so that no more than one tensor is converted at a time.

    Raises:
        CheckpointError: naming a tensor that the model lacks, misses or has in another shape.
    """
    own = model.state_dict()
    if own.keys() != shapes.keys():
        difference = sorted(own.keys() ^ shapes.keys())
        raise CheckpointError(
            f"the weights do not fit the network: {', '.join(difference[:3])} "
            f"{'is' if len(difference) == 1 else 'are'} in one and not in the other."
        )
    for name, place in own.items():
        if place.shape != shapes[name]:
            raise CheckpointError(
                f"the weights do not fit the network: tensor {name} is {list(shapes[name])}, "
                f"the network has {list(place.shape)}."
            )
    with torch.no_grad():
        for name, place in own.items():
            place.copy_(tensor(name))
