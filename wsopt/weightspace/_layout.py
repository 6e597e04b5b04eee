"""Where each tensor lies in the flat weight vector, and what is done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wsopt.checkpoints import TensorSpec
from wsopt.weightspace._base import Policy


@dataclass(frozen=True)
class Slot:
    """One tensor's place: values ``[start, stop)`` of the flat vector, in the group's run of columns."""

    name: str
    spec: TensorSpec
    group: int
    start: int
    stop: int


@dataclass(frozen=True)
class FlatLayout:
    """Floating tensors laid end to end, group after group, so that every group is one run of columns.

    Args:
        slots: the tensors that are combined, in flat order.
        copied: the tensors that are not, with the reason.
        groups: names of the G layer groups.
        group_ranges: ``(start, stop)`` of each group's columns.
    """

    slots: tuple[Slot, ...]
    copied: Mapping[str, Policy]
    groups: tuple[str, ...]
    group_ranges: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """P, the length of the flat vector."""
        return self.slots[-1].stop if self.slots else 0


def make_layout(
    tensors: Mapping[str, TensorSpec], constant: Sequence[str] = (), groups: Mapping[str, str] | None = None
) -> FlatLayout:
    """Lay out `tensors`.

    Args:
        tensors: what every checkpoint holds.
        constant: names of floating tensors that are equal in all checkpoints; they are copied from the anchor, because
            (sum alpha) * constant is the constant only where the coefficients sum to 1 exactly.
        groups: layer group by tensor name; None puts all into one. Groups are numbered as they first occur.
    """
    copied: dict[str, Policy] = {}
    members: dict[str, list[str]] = {}
    for name, spec in tensors.items():
        if not spec.dtype.is_floating_point:
            copied[name] = "not floating"
        elif name in set(constant):
            copied[name] = "constant"
        else:
            members.setdefault("all" if groups is None else groups[name], []).append(name)
    slots: list[Slot] = []
    ranges: list[tuple[int, int]] = []
    position = 0
    for group, names in enumerate(members.values()):
        first = position
        for name in names:
            slots.append(Slot(name, tensors[name], group, position, position + tensors[name].numel))
            position = slots[-1].stop
        ranges.append((first, position))
    return FlatLayout(tuple(slots), copied, tuple(members) or ("all",), tuple(ranges) or ((0, 0),))
