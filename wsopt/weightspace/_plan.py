"""What a weight space would hold, from headers alone: for the plan of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wsopt.checkpoints import Snapshot, TensorSpec, lora_modules
from wsopt.weightspace._base import Grouping, Policy, SpaceSettings
from wsopt.weightspace._lora_forms import common_dtype, plan_form_bytes
from wsopt.weightspace._policy import plan_policies
from wsopt.weightspace._storage import DTYPES, plan_bytes


@dataclass(frozen=True)
class SpacePlan:
    """What a weight space would hold.

    Args:
        policies: what would be done with each tensor, by name; tensors that turn out constant are copied besides.
        nbytes: bytes by what they are for; ``mapped`` bytes are in a file, all others resident.
        groups: names of the layer groups.
    """

    policies: Mapping[str, Policy]
    nbytes: Mapping[str, int]
    groups: tuple[str, ...]


def plan_dense(
    tensors: Mapping[str, TensorSpec], count: int, settings: SpaceSettings, grouping: Grouping | None = None
) -> SpacePlan:
    """The plan of a `DenseStack` of `count` checkpoints that hold `tensors`."""
    policies = plan_policies(tensors, settings)
    combined = {name: tensors[name].shape for name, policy in policies.items() if policy == "combine"}
    groups = None if grouping is None else grouping(combined)
    sizes = plan_bytes(tensors, count, settings, groups)
    return SpacePlan(policies, sizes, _names(groups, combined))


def plan_lora(
    snapshots: Sequence[Snapshot],
    settings: SpaceSettings,
    base: Mapping[str, TensorSpec],
    grouping: Grouping | None = None,
) -> SpacePlan:
    """The plan of a `LoraStack` of `snapshots` on a base model of tensors `base`.

    Raises:
        CheckpointError: adapters that do not fit each other or the base model, or are not linear in their factors.
    """
    adapters = [lora_modules(snapshot, base) for snapshot in snapshots]
    shapes = {name: module.shape for name, module in adapters[0].items()}
    groups = None if grouping is None else grouping(shapes)
    sizes = {"dense differences": 0, "factors": 0, "base weights": 0}
    held = common_dtype({spec.dtype for spec in snapshots[0].tensors.values() if spec.dtype.is_floating_point})
    for name, shape in shapes.items():
        ranks = [adapter[name].rank for adapter in adapters if name in adapter]
        dense, factored = plan_form_bytes(ranks, shape, held, settings.width, DTYPES[settings.dtype])
        is_dense = settings.lora == "dense" or (settings.lora == "auto" and dense < factored)
        sizes["dense differences" if is_dense else "factors"] += dense if is_dense else factored
        sizes["base weights"] += base[name].nbytes
    return SpacePlan(dict.fromkeys(shapes, "combine"), sizes, _names(groups, shapes))


def _names(groups: Mapping[str, str] | None, combined: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    return ("all",) if groups is None else tuple(dict.fromkeys(groups[name] for name in combined))
