"""What is done with each tensor: combined, or copied from one of the checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from wsopt.checkpoints import TensorSpec
from wsopt.weightspace._base import Policy, SpaceSettings

_STATISTICS = ("running_mean", "running_var")
_COUNTER = "num_batches_tracked"


def plan_policies(tensors: Mapping[str, TensorSpec], settings: SpaceSettings) -> dict[str, Policy]:
    """What headers alone tell; tensors that are equal in all checkpoints are found when these are read.

    Args:
        tensors: what every checkpoint holds.
        settings: `SpaceSettings.batchnorm` decides about running statistics.

    Returns:
        ``combine``, ``not floating`` or ``batchnorm`` by name, in the order of `tensors`. Counters of batches are
        ``batchnorm`` whatever the settings say: they differ between checkpoints by their nature.
    """
    statistics = running_statistics(tensors)
    left_out = {_COUNTER} if settings.batchnorm == "combine" else {_COUNTER, *_STATISTICS}
    policies: dict[str, Policy] = {}
    for name, spec in tensors.items():
        if statistics.get(name) in left_out:
            policies[name] = "batchnorm"
        else:
            policies[name] = "combine" if spec.dtype.is_floating_point else "not floating"
    return policies


def running_statistics(tensors: Mapping[str, TensorSpec]) -> dict[str, str]:
    """The tensors of normalisation layers that keep running statistics -> the last part of their names.

    Told by siblings: ``running_mean`` and ``running_var``, floating and of one shape, and beside them
    ``num_batches_tracked``. A tensor that merely has one of the names is not taken for one of them.
    """
    found: dict[str, str] = {}
    for name in tensors:
        layer, _, last = name.rpartition(".")
        dot = "." if layer else ""
        mean, variance = (tensors.get(f"{layer}{dot}{one}") for one in _STATISTICS)
        complete = mean is not None and variance is not None and mean.shape == variance.shape
        if last in (*_STATISTICS, _COUNTER) and complete and mean is not None and mean.dtype.is_floating_point:
            found[name] = last
    return found


def copied_from(policy: Policy, settings: SpaceSettings) -> Literal["first", "last"]:
    """The checkpoint that a tensor of this policy, other than ``combine``, comes from."""
    if policy == "batchnorm":
        return "last"
    if policy == "not floating":
        return settings.copy_from or "first"
    return "first"
