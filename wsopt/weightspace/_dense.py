"""DenseStack: the anchor and all differences, in blocks; a whole population is merged in one pass over them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wsopt.checkpoints import CheckpointSet
from wsopt.types import FloatArray, WeightsFile
from wsopt.weightspace._base import Grouping, Policy, SpaceSettings, WeightSpace
from wsopt.weightspace._cache import cached
from wsopt.weightspace._fill import fill
from wsopt.weightspace._gram import stack_gram
from wsopt.weightspace._kernel import Shard, empty, merge
from wsopt.weightspace._load import load
from wsopt.weightspace._policy import clamp_warning, plan_policies, running_variances
from wsopt.weightspace._rows import Rows
from wsopt.weightspace._storage import is_mapped, make_shards, plan_bytes


class DenseStack(WeightSpace):
    """theta(alpha) = (sum_i alpha_i) theta_1 + sum_i alpha_i (theta_i - theta_1), per layer group.

    Holds the float32 anchor and K - 1 differences in `SpaceSettings.dtype`, loaded by streaming (peak: the stack, or
    two checkpoints beside the anchor, and one checkpoint). Differences keep the precision that a sum of large signed
    coefficients would lose on raw weights.

    Running variances of normalisation layers that a combination made negative are raised to zero, because the network
    would answer a negative one with NaN; `clamped` tells how many.

    Args:
        checkpoints: the window.
        settings: how they are held. Partial blocks are padded to its width, because a matrix product of another height
            may round differently.
        grouping: gives the layer group of each tensor that may be combined; None lets all share their coefficients.

    Raises:
        CheckpointError: a NaN in a checkpoint, a difference that the dtype cannot hold, or a non-floating tensor that
            differs between checkpoints.
        InputError: no room for the differences, in memory or on disk.
    """

    def __init__(
        self,
        checkpoints: CheckpointSet,
        settings: SpaceSettings | None = None,
        grouping: Grouping | None = None,
    ) -> None:
        settings = settings or SpaceSettings()
        self.checkpoints = checkpoints
        self.width = settings.width
        planned = plan_policies(checkpoints.tensors, settings)
        combined = {name: checkpoints.tensors[name].shape for name, policy in planned.items() if policy == "combine"}
        groups = None if grouping is None else grouping(combined)
        count = len(checkpoints)
        needed = sum(plan_bytes(checkpoints.tensors, count, settings, groups).values())
        one_more = sum(spec.nbytes for spec in checkpoints.tensors.values())
        self._mapped = is_mapped(settings, needed + one_more)
        if self._mapped:
            content = cached(checkpoints, settings, groups)
        else:
            content = load(checkpoints, settings, groups, lambda layout: make_shards(layout, count, settings))
        self.layout = content.layout
        self._policies, self._copied = content.policies, content.copied
        self._shards, self._fingerprint = content.shards, content.fingerprint
        self._slots = {slot.name: slot for slot in self.layout.slots}
        self._block = empty((self.width, self.layout.size), torch.device(settings.device))
        variances = running_variances(checkpoints.tensors)
        self._variances = [slot for slot in self.layout.slots if slot.name in variances]
        self._clamped: list[dict[str, int]] = [{} for _ in range(self.width)]
        self._rows = Rows((self.width, len(self.layout.groups), count))

    @property
    def steps(self) -> tuple[int, ...]:
        """See `WeightSpace.steps`."""
        return self.checkpoints.steps

    @property
    def groups(self) -> tuple[str, ...]:
        """See `WeightSpace.groups`."""
        return self.layout.groups

    @property
    def policies(self) -> Mapping[str, Policy]:
        """See `WeightSpace.policies`."""
        return self._policies

    @property
    def differences(self) -> tuple[Tensor, ...]:
        """``[blocks, K-1, block]`` in the stored dtype, on each device; not to be written to."""
        return tuple(shard.differences for shard in self._shards)

    @property
    def mapped(self) -> bool:
        """Whether the differences lie in a mapped file."""
        return self._mapped

    @property
    def nbytes(self) -> int:
        """Bytes that stay resident: differences (unless mapped), anchor, and one block of candidates."""
        held = [self._block, *(shard.anchor for shard in self._shards), *self._copied.values()]
        held += [shard.scales for shard in self._shards if shard.scales is not None]
        if not self._mapped:
            held += self.differences
        return sum(tensor.numel() * tensor.element_size() for tensor in held)

    @property
    def fingerprint(self) -> str:
        """See `WeightSpace.fingerprint`. Taken while the stack is loaded; a mapped one has it beside the file."""
        return self._fingerprint

    def gram(self) -> FloatArray:
        """See `WeightSpace.gram`. Streamed with float64 accumulation."""
        return stack_gram(self.layout, self._shards, len(self.checkpoints))

    def prepare(self, coefficients: FloatArray, rows: tuple[int, ...] | None = None) -> None:
        """See `WeightSpace.prepare`."""
        padded = self._rows.take(coefficients, rows)
        blocks = self._block.view(self.width, self.layout.blocks, self.layout.block).transpose(0, 1)
        # Every device is set to work before the first result is asked for.
        elsewhere = [(shard, self._merge(shard, padded, blocks)) for shard in self._shards]
        for shard, result in elsewhere:
            if result is not None:
                blocks[shard.first : shard.blocks.stop].copy_(result)
        self._clamp()

    def tensors(self, row: int) -> dict[str, Tensor]:
        """See `WeightSpace.tensors`."""
        single = self._rows.single(row)
        if single is not None:
            return self.checkpoints.load(single)
        return {name: self._tensor(row, name) for name in self.checkpoints.tensors}

    def write(self, row: int, model: nn.Module) -> None:
        """See `WeightSpace.write`. Without a copy of the weights, except for a single checkpoint."""
        single = self._rows.single(row)
        if single is None:
            shapes = {name: spec.shape for name, spec in self.checkpoints.tensors.items()}
            fill(model, shapes, lambda name: self._tensor(row, name))
        else:
            _fill_from(model, self.checkpoints.load(single))

    def clamped(self, row: int) -> Mapping[str, int]:
        """Running variances of `row` that the combination made negative and that were raised to zero, by tensor."""
        return {} if self._rows.single(row) is not None else self._clamped[row]

    def notes(self, row: int) -> tuple[str, ...]:
        """See `WeightSpace.notes`: running variances that were raised to zero."""
        warning = clamp_warning(self.clamped(row))
        return () if warning is None else (warning,)

    def file_tensors(self, target: WeightsFile) -> dict[str, Tensor]:
        """See `WeightSpace.file_tensors`."""
        return self.checkpoints.load_weights(target.path, target.part)

    def write_file(self, target: WeightsFile, model: nn.Module) -> None:
        """See `WeightSpace.write_file`."""
        _fill_from(model, self.file_tensors(target))

    def _merge(self, shard: Shard, coefficients: FloatArray, blocks: Tensor) -> Tensor | None:
        """Merge into `blocks`, or into memory of the shard's own device, which is returned."""
        if shard.device == blocks.device:
            merge(shard, coefficients, blocks[shard.first : shard.blocks.stop])
            return None
        result = shard.scratch("result", (len(shard.anchor), self.width, self.layout.block))
        merge(shard, coefficients, result)
        return result

    def _clamp(self) -> None:
        """Raise negative running variances to zero, and count them (see `running_variances`)."""
        self._clamped = [{} for _ in range(self.width)]
        for slot in self._variances:
            values = self._block[:, slot.start : slot.stop]
            for row, count in enumerate((values < 0).sum(1).tolist()):
                if count:
                    self._clamped[row][slot.name] = count
            values.clamp_(min=0)

    def _tensor(self, row: int, name: str) -> Tensor:
        slot = self._slots.get(name)
        if slot is None:
            return self._copied[name]
        return self._block[row, slot.start : slot.stop].view(slot.spec.shape).to(slot.spec.dtype)


def _fill_from(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    fill(model, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__)
