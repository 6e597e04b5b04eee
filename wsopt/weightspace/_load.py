"""Loading a stack: one checkpoint in memory at a time, beside the stack itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wsopt.checkpoints import CheckpointSet
from wsopt.errors import CheckpointError
from wsopt.tensors import as_bytes, same_bits
from wsopt.weightspace._base import Policy, SpaceSettings
from wsopt.weightspace._kernel import Shard, empty
from wsopt.weightspace._layout import FlatLayout, make_layout
from wsopt.weightspace._policy import copied_from, plan_policies
from wsopt.weightspace._storage import DTYPES, encode

_COLUMNS = 1 << 18
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Content:
    """What a stack holds once it is loaded.

    Args:
        policies: what is done with each tensor.
        layout: of those that are combined.
        copied: the others, as they are copied; on the CPU.
        shards: anchor and differences.
        fingerprint: see `WeightSpace.fingerprint`.
    """

    policies: Mapping[str, Policy]
    layout: FlatLayout
    copied: Mapping[str, Tensor]
    shards: Sequence[Shard]
    fingerprint: str


def load(
    checkpoints: CheckpointSet,
    settings: SpaceSettings,
    groups: Mapping[str, str] | None,
    allocate: Callable[[FlatLayout], list[Shard]],
) -> Content:
    """Read all checkpoints once, and the last one twice.

    First and last are compared to find constant tensors before anything is allocated. Where one of these turns out to
    differ in between, all is read once more without taking it for constant.

    Args:
        checkpoints: the window.
        settings: dtype and policies.
        groups: layer group by name of a tensor that may be combined.
        allocate: makes the empty shards of a layout; may be called twice.

    Raises:
        CheckpointError: a difference that cannot be stored, or a differing tensor that cannot be combined.
    """
    varying: set[str] = set()
    while True:
        loader = _Loader(checkpoints, settings, groups, varying)
        shards = allocate(loader.layout)
        loader.write_anchor(shards)
        for index in range(1, len(checkpoints)):
            loader.write_row(index, shards)
        if not loader.late:
            return Content(loader.policies, loader.layout, loader.copied, shards, loader.digest.hexdigest())
        varying |= loader.late
        del loader, shards


class _Loader:
    """One reading of all checkpoints.

    Args:
        checkpoints: see `load`.
        settings: see `load`.
        groups: see `load`.
        varying: tensors that differ although they are equal in the first and the last checkpoint.
    """

    def __init__(
        self, checkpoints: CheckpointSet, settings: SpaceSettings, groups: Mapping[str, str] | None, varying: set[str]
    ) -> None:
        self.checkpoints = checkpoints
        self.settings = settings
        self.digest = hashlib.sha256()
        self.late: set[str] = set()
        self._dtype = DTYPES[settings.dtype]
        self.policies = plan_policies(checkpoints.tensors, settings)
        first, last = checkpoints.load(0), checkpoints.load(len(checkpoints) - 1)
        self._take_digest(0, first)
        for name, policy in self.policies.items():
            if policy == "combine" and name not in varying and same_bits(first[name], last[name]):
                self.policies[name] = "constant"
        # Cloned: a tensor may be a view of a whole file.
        self.copied = {
            name: (last if copied_from(policy, settings) == "last" else first)[name].detach().clone()
            for name, policy in self.policies.items()
            if policy != "combine"
        }
        self.layout = make_layout(checkpoints.tensors, self.policies, groups)
        rows = max(1, _COLUMNS // self.layout.block)
        self._chunks = [(at, min(at + rows, self.layout.blocks)) for at in range(0, self.layout.blocks, rows)]
        self._scratch = empty((rows, self.layout.block), _CPU)
        self._anchor = empty((self.layout.blocks, self.layout.block), _CPU)
        flat = _Flat(self.layout, first)
        for start, end in self._chunks:
            flat.copy(start, self._anchor[start:end])

    def write_anchor(self, shards: Sequence[Shard]) -> None:
        """Put the anchor into `shards`; on the CPU they share its memory."""
        for shard in shards:
            part = self._anchor[shard.first : shard.blocks.stop, None]
            if shard.device.type == "cpu":
                shard.anchor = part
            else:
                shard.anchor.copy_(part)

    def write_row(self, index: int, shards: Sequence[Shard]) -> None:
        """Put the differences of checkpoint `index` into `shards`."""
        tensors = self.checkpoints.load(index)
        self._take_digest(index, tensors)
        self._check_copied(index, tensors)
        if self.late:  # all will be read again
            return
        flat = _Flat(self.layout, tensors)
        for start, end in self._chunks:
            values = self._scratch[: end - start]
            flat.copy(start, values)
            values -= self._anchor[start:end]
            stored, scales = encode(values, self._dtype)
            # The sum is not finite where a value is not; it is a tenth of the price of looking at each.
            if not bool(stored.sum(dtype=torch.float32).isfinite()):
                self._check_finite(index, start, stored)
            for shard in shards:
                _store(shard, index - 1, start, stored, scales)

    def _take_digest(self, index: int, tensors: Mapping[str, Tensor]) -> None:
        self.digest.update(f"{self.checkpoints.steps[index]}".encode())
        for name in sorted(tensors):
            self.digest.update(f"{name} {self.checkpoints.tensors[name]}".encode())
            self.digest.update(as_bytes(tensors[name]))

    def _check_copied(self, index: int, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in self.copied.items():
            policy = self.policies[name]
            if policy == "constant" and not same_bits(tensors[name], tensor):
                self.late.add(name)
            if policy == "not floating" and self.settings.copy_from is None and not same_bits(tensors[name], tensor):
                raise CheckpointError(
                    f"{self.checkpoints.snapshots[index]}: tensor {name} is {self.checkpoints.tensors[name]} and "
                    f"differs from {self.checkpoints.snapshots[0]}; a tensor that is not floating cannot be combined. "
                    f'Say which checkpoint it is copied from: weightspace.copy_from = "first" or "last".'
                )

    def _check_finite(self, index: int, start: int, stored: Tensor) -> None:
        bad = (~stored.isfinite()).flatten().nonzero()
        if not len(bad):
            return
        column = start * self.layout.block + int(bad[0])
        name = next(slot.name for slot in self.layout.slots if slot.start <= column < slot.stop)
        raise CheckpointError(
            f"{self.checkpoints.snapshots[index]}: tensor {name} differs from {self.checkpoints.snapshots[0]} by more "
            f"than {self.settings.dtype} can hold. Leave this checkpoint out (checkpoints.window, checkpoints.exclude)."
        )


class _Flat:
    """One checkpoint read as blocks, from the first to the last."""

    def __init__(self, layout: FlatLayout, tensors: Mapping[str, Tensor]) -> None:
        self._block = layout.block
        self._slots = iter(layout.slots)
        self._slot = next(self._slots, None)
        self._tensors = tensors
        self._flat: Tensor | None = None

    def copy(self, start: int, out: Tensor) -> None:
        """Fill `out`, ``[m, block]`` float32 contiguous, with the blocks from `start` on; called in ascending order."""
        flat, begin = out.view(-1), start * self._block
        end, at = begin + flat.numel(), begin
        while self._slot is not None and self._slot.start < end:
            slot = self._slot
            if self._flat is None:  # reshaped once: for a tensor that is not contiguous this copies it
                self._flat = self._tensors[slot.name].detach().reshape(-1)
            low, high = max(slot.start, begin), min(slot.stop, end)
            flat[at - begin : low - begin] = 0.0
            flat[low - begin : high - begin].copy_(self._flat[low - slot.start : high - slot.start])
            at = high
            if slot.stop > end:
                break
            self._slot, self._flat = next(self._slots, None), None
        flat[at - begin :] = 0.0


def _store(shard: Shard, row: int, start: int, stored: Tensor, scales: Tensor | None) -> None:
    low, high = max(start, shard.first), min(start + len(stored), shard.blocks.stop)
    if low >= high:
        return
    inside, here = slice(low - shard.first, high - shard.first), slice(low - start, high - start)
    shard.differences[inside, row].copy_(stored[here])
    if scales is not None and shard.scales is not None:
        shard.scales[inside, row] = scales[here].to(shard.device)
