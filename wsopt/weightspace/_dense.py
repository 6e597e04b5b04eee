"""DenseStack: the anchor and all differences, flat and resident; a block of candidates is one matrix product."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from wsopt.checkpoints import CheckpointSet
from wsopt.errors import CheckpointError
from wsopt.types import FloatArray, WeightsFile
from wsopt.weightspace._base import Grouping, Policy, SpaceSettings, WeightSpace
from wsopt.weightspace._layout import FlatLayout, make_layout

_GRAM_COLUMNS = 1 << 16
BLOCK_WIDTH = 16
"""Number of candidates merged per pass."""


class DenseStack(WeightSpace):
    """theta(alpha) = (sum_i alpha_i) theta_1 + sum_i alpha_i (theta_i - theta_1), per layer group.

    Holds ``[K-1, P]`` float32 differences and the float32 anchor, loaded once by streaming (peak: the stack and one
    checkpoint). Differences keep the precision that a sum of large signed coefficients would lose on raw weights.

    Args:
        checkpoints: the window.
        settings: how they are held. Partial blocks are padded to its width, because a matrix product of another height
            may round differently.
        grouping: gives the layer group of each floating tensor; None lets all share their coefficients.

    Raises:
        CheckpointError: a NaN in a checkpoint, or a non-floating tensor that differs between checkpoints.
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
        floating = {name: spec.shape for name, spec in checkpoints.tensors.items() if spec.dtype.is_floating_point}
        self._groups = None if grouping is None else grouping(floating)
        self._device = torch.device(settings.device)
        self._digest = hashlib.sha256()
        self._anchor_tensors = self._load(0)
        self.layout = make_layout(checkpoints.tensors, groups=self._groups)
        self.anchor = self._flatten(self._anchor_tensors, self.layout)
        self.differences = torch.empty(len(checkpoints) - 1, self.layout.size, device=self._device)
        varies = {slot.name: False for slot in self.layout.slots}
        for row in range(len(checkpoints) - 1):
            self._load_row(row, varies)
        constant = [name for name, differs in varies.items() if not differs]
        if constant:
            self._drop(constant)
        self._block = torch.zeros(self.width, self.layout.size, device=self._device)
        self._rows: list[FloatArray | None] = [None] * self.width

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
        return {name: self.layout.copied.get(name, "combine") for name in self.checkpoints.tensors}

    @property
    def nbytes(self) -> int:
        """Bytes that stay resident: differences, anchor and one block of candidates."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.differences, self.anchor, self._block))

    @property
    def fingerprint(self) -> str:
        """See `WeightSpace.fingerprint`. Taken while the stack is loaded."""
        return self._digest.hexdigest()

    def gram(self) -> FloatArray:
        """See `WeightSpace.gram`. Streamed over columns with float64 accumulation."""
        count = len(self.checkpoints)
        full = np.zeros((len(self.groups), count, count))
        for group, (start, stop) in enumerate(self.layout.group_ranges):
            total = torch.zeros(count - 1, count - 1, dtype=torch.float64)
            for at in range(start, stop, _GRAM_COLUMNS):
                wide = self.differences[:, at : min(at + _GRAM_COLUMNS, stop)].to("cpu", torch.float64)
                total += wide @ wide.T
            full[group, 1:, 1:] = total.numpy()
        return full

    def prepare(self, coefficients: FloatArray, rows: tuple[int, ...] | None = None) -> None:
        """See `WeightSpace.prepare`."""
        n, groups, count = coefficients.shape
        if groups != len(self.layout.group_ranges) or count != len(self.checkpoints) or n > self.width:
            raise ValueError(
                f"coefficients are {list(coefficients.shape)}, expected at most {self.width} x "
                f"{len(self.layout.group_ranges)} groups x {len(self.checkpoints)} checkpoints"
            )
        places = tuple(range(n)) if rows is None else rows
        padded = np.zeros((self.width, groups, count))
        self._rows = [None] * self.width
        for place, row in zip(places, coefficients, strict=True):
            padded[place] = row
            self._rows[place] = row
        weights = torch.from_numpy(padded).to(self._device, torch.float32)
        sums = torch.from_numpy(padded.sum(axis=2)).to(self._device, torch.float32)
        for group, (start, stop) in enumerate(self.layout.group_ranges):
            block = self._block[:, start:stop]
            torch.mm(weights[:, group, 1:], self.differences[:, start:stop], out=block)
            # Where the coefficients sum to 1 in float64, the float32 sum is exactly 1 and the anchor enters unrounded.
            block.addcmul_(sums[:, group, None], self.anchor[None, start:stop])

    def tensors(self, row: int) -> dict[str, Tensor]:
        """See `WeightSpace.tensors`."""
        coefficients = self._rows[row]
        if coefficients is None:
            raise ValueError(f"row {row} holds no candidate")
        single = _one_hot(coefficients)
        if single is not None:
            return self.checkpoints.load(single)
        flat = self._block[row]
        merged = {
            slot.name: flat[slot.start : slot.stop].view(slot.spec.shape).to(slot.spec.dtype)
            for slot in self.layout.slots
        }
        return {name: merged.get(name, self._anchor_tensors[name]) for name in self.checkpoints.tensors}

    def write(self, row: int, model: nn.Module) -> None:
        """See `WeightSpace.write`."""
        _fill(self.tensors(row), model)

    def file_tensors(self, target: WeightsFile) -> dict[str, Tensor]:
        """See `WeightSpace.file_tensors`."""
        return self.checkpoints.load_weights(target.path, target.part)

    def write_file(self, target: WeightsFile, model: nn.Module) -> None:
        """See `WeightSpace.write_file`."""
        _fill(self.file_tensors(target), model)

    def _load(self, index: int) -> dict[str, Tensor]:
        tensors = self.checkpoints.load(index)
        self._digest.update(f"{self.checkpoints.steps[index]}".encode())
        for name in sorted(tensors):
            self._digest.update(f"{name} {self.checkpoints.tensors[name]}".encode())
            self._digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return tensors

    def _flatten(self, tensors: dict[str, Tensor], layout: FlatLayout) -> Tensor:
        flat = torch.empty(layout.size)
        for slot in layout.slots:
            flat[slot.start : slot.stop] = tensors[slot.name].reshape(-1)
        return flat.to(self._device)

    def _load_row(self, row: int, varies: dict[str, bool]) -> None:
        tensors = self._load(row + 1)
        self._check_copied(row + 1, tensors)
        torch.sub(self._flatten(tensors, self.layout), self.anchor, out=self.differences[row])
        for slot in self.layout.slots:
            if not varies[slot.name]:
                varies[slot.name] = bool(self.differences[row, slot.start : slot.stop].any())

    def _check_copied(self, index: int, tensors: dict[str, Tensor]) -> None:
        for name in self.layout.copied:
            if not torch.equal(tensors[name], self._anchor_tensors[name]):
                raise CheckpointError(
                    f"{self.checkpoints.paths[index]}: tensor {name} is {self.checkpoints.tensors[name]} and differs "
                    f"from {self.checkpoints.paths[0]}; a tensor that is not floating cannot be combined."
                )

    def _drop(self, constant: list[str]) -> None:
        """Take constant tensors out of the flat vector."""
        old = {slot.name: slot for slot in self.layout.slots}
        self.layout = make_layout(self.checkpoints.tensors, constant, self._groups)
        kept = [torch.arange(old[slot.name].start, old[slot.name].stop) for slot in self.layout.slots]
        columns = (torch.cat(kept) if kept else torch.empty(0, dtype=torch.int64)).to(self._device)
        self.anchor = self.anchor[columns]
        # Row by row and in place: indexing the whole stack would hold it twice.
        for row in self.differences:
            row[: self.layout.size] = row[columns]
        self.differences = self.differences[:, : self.layout.size]


def _fill(tensors: dict[str, Tensor], model: nn.Module) -> None:
    """Copy `tensors` into the parameters and buffers of `model`, in place; the names must agree.

    Raises:
        CheckpointError: naming a tensor that the model lacks, misses or has in another shape.
    """
    own = model.state_dict()
    if own.keys() != tensors.keys():
        difference = sorted(own.keys() ^ tensors.keys())
        raise CheckpointError(
            f"the weights do not fit the network: {', '.join(difference[:3])} "
            f"{'is' if len(difference) == 1 else 'are'} in one and not in the other."
        )
    with torch.no_grad():
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                raise CheckpointError(
                    f"the weights do not fit the network: tensor {name} is {list(tensors[name].shape)}, "
                    f"the network has {list(tensor.shape)}."
                )
            tensor.copy_(tensors[name])


def _one_hot(coefficients: FloatArray) -> int | None:
    """The checkpoint that ``[G, K]`` coefficients select in every group, or None."""
    hot = coefficients[0].argmax()
    expected = np.zeros_like(coefficients)
    expected[:, hot] = 1.0
    return int(hot) if np.array_equal(coefficients, expected) else None
