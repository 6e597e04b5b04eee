"""Where each tensor lies in the flat weight vector, and the vector in blocks of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wsopt.checkpoints import TensorSpec
from wsopt.weightspace._base import Policy

_BLOCKS = (4096, 2048, 1024, 512, 256)
_PADDING = 0.1
# A batched product of a single block takes another path through the library and may round differently.
_FEWEST = 2


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
    """Combined tensors laid end to end, group after group; every group begins with a new block.

    Args:
        slots: the tensors that are combined, in flat order.
        groups: names of the G layer groups.
        ranges: ``(first, end)`` of each group's blocks. Columns of a group beyond its tensors are zero.
        block: columns of a block, a power of two from 256 to 4096.
    """

    slots: tuple[Slot, ...]
    groups: tuple[str, ...]
    ranges: tuple[tuple[int, int], ...]
    block: int

    @property
    def blocks(self) -> int:
        """Number of blocks: none, or two and more."""
        return self.ranges[-1][1]

    @property
    def size(self) -> int:
        """Columns of the flat vector, padding included."""
        return self.blocks * self.block

    @property
    def values(self) -> int:
        """P, the number of weights that are combined."""
        return sum(slot.stop - slot.start for slot in self.slots)

    def group_of_blocks(self) -> list[int]:
        """The group of each block."""
        return [group for group, (first, end) in enumerate(self.ranges) for _ in range(first, end)]


def make_layout(
    tensors: Mapping[str, TensorSpec], policies: Mapping[str, Policy], groups: Mapping[str, str] | None = None
) -> FlatLayout:
    """Lay out the tensors that `policies` combine.

    Args:
        tensors: what every checkpoint holds.
        policies: by name.
        groups: layer group by name of a combined tensor; None puts all into one. Groups are numbered as they first
            occur in `tensors`; one without a combined tensor is left out.
    """
    members: dict[str, list[str]] = {}
    for name in tensors:
        if policies[name] == "combine":
            members.setdefault("all" if groups is None else groups[name], []).append(name)
    if not members:
        return FlatLayout((), ("all",), ((0, 0),), _BLOCKS[-1])
    block = choose_block([sum(tensors[name].numel for name in names) for names in members.values()])
    slots: list[Slot] = []
    ranges: list[tuple[int, int]] = []
    for group, names in enumerate(members.values()):
        first = ranges[-1][1] if ranges else 0
        position = first * block
        for name in names:
            slots.append(Slot(name, tensors[name], group, position, position + tensors[name].numel))
            position = slots[-1].stop
        ranges.append((first, -(-position // block)))
    ranges[-1] = (ranges[-1][0], max(ranges[-1][1], _FEWEST))
    return FlatLayout(tuple(slots), tuple(members), tuple(ranges), block)


def choose_block(sizes: Sequence[int]) -> int:
    """The largest block that pads groups of these many values by a tenth in total at most, else the smallest.

    One candidate reaches nine tenths of the bandwidth of memory with blocks of 4096, six tenths with 512.
    """
    total = sum(sizes)
    for block in _BLOCKS:
        blocks = sum(-(-size // block) for size in sizes)
        if max(blocks, _FEWEST) * block <= (1 + _PADDING) * total:
            return block
    return _BLOCKS[-1]
