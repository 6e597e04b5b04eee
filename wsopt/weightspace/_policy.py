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


def running_variances(tensors: Mapping[str, TensorSpec]) -> frozenset[str]:
    """The running variances among `running_statistics`, which no combination may leave negative.

    A network divides by sqrt(variance + epsilon): a negative variance would be a NaN in every sample. Coefficients of
    both signs make one where a channel's variance changed much over the window. It is raised to zero, the least change
    that gives a network which can be scored (badly, most likely), and nothing else is touched.
    """
    return frozenset(name for name, last in running_statistics(tensors).items() if last == "running_var")


def clamp_warning(clamped: Mapping[str, int]) -> str | None:
    """What the user is to be told of running variances that were raised to zero; None where there are none.

    Args:
        clamped: how many, by tensor.
    """
    if not clamped:
        return None
    named = ", ".join(f"{name} ({count})" for name, count in list(clamped.items())[:3])
    more = f" and {len(clamped) - 3} more tensors" if len(clamped) > 3 else ""
    return (
        f"the coefficients made running variances of batch normalisation negative: {named}{more}. They were raised to "
        f"zero, and the network is most likely off there. Copy the statistics from the last checkpoint, or recalculate "
        f"them (weightspace.batchnorm; wsopt merge: --batchnorm copy)."
    )


def copied_from(policy: Policy, settings: SpaceSettings) -> Literal["first", "last"]:
    """The checkpoint that a tensor of this policy, other than ``combine``, comes from."""
    if policy == "batchnorm":
        return "last"
    if policy == "not floating":
        return settings.copy_from or "first"
    return "first"
