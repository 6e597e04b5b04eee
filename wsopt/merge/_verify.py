"""Verification: the written file against a second computation from the source files, by another way.

The second computation shares no arithmetic with the merger: numpy instead of torch, differences to one checkpoint
instead of a plain sum, and the file is read by the safetensors library instead of the code that wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wsopt.checkpoints import CheckpointSet
from wsopt.errors import WsoptError
from wsopt.merge._stream import StreamingMerger
from wsopt.progress import Progress
from wsopt.tensors import same_bits
from wsopt.types import FloatArray

_BATCH_BYTES: Final = 1 << 30
"""Held at a time, sums and anchors in float64; a larger model is verified in several passes over the files."""

_FLOOR: Final = 1e-6
"""Errors are relative to a value, or to this part of what its tensor was summed from where the value is smaller: what
is left of large terms that cancel is their rounding."""


@dataclass(frozen=True)
class Verification:
    """What was found.

    Args:
        error: the largest relative error of a value.
        tensor: where it is.
        tolerance: the largest that rounding to the file's dtype explains, of that tensor.
        tensors: number of tensors compared.
    """

    error: float
    tensor: str
    tolerance: float
    tensors: int

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        facts = {"largest_relative_error": self.error, "tolerance": self.tolerance}
        return {**facts, "tensor": self.tensor, "tensors": self.tensors}


def verify(path: Path, merger: StreamingMerger, names: Mapping[str, str], progress: Progress) -> Verification:
    """Compare the file at `path` with the recipe applied to the source files once more.

    Args:
        path: what was written.
        merger: what wrote it, for recipe, settings and policies.
        names: name in the file of each tensor.
        progress: told of every pass.

    Raises:
        WsoptError: where a tensor is missing, of another shape or dtype, or its error is beyond rounding.
    """
    worst = Verification(0.0, next(iter(names), ""), tolerance_of(torch.float32), len(names))
    batches = list(_batches(merger))
    with (
        _opened(path) as file,
        progress.stage("verify", len(batches) * len(merger.reads)) as stage,
    ):
        if set(file.keys()) != set(names.values()):
            raise _failed(path, "its tensors are not those of the checkpoints")
        for number, batch in enumerate(batches):

            def update(done: int, before: int = number * len(merger.reads)) -> None:
                stage.update(before + done)

            for name, expected in _recompute(merger, batch, update).items():
                found = _compare(path, merger, name, file.get_tensor(names[name]), expected)
                worst = max(worst, found, key=lambda one: one.error / one.tolerance)
    return worst


def tolerance_of(dtype: torch.dtype) -> float:
    """Largest relative error that is taken for rounding: the spacing of the dtype's values at 1, twice what it needs.

    float32 1.2e-07, float16 9.8e-04, bfloat16 7.8e-03.
    """
    return max(float(torch.finfo(dtype).eps), 1e-9)  # the latter: float64 sums, held to a floor of 1e-6


def _opened(path: Path) -> Any:  # noqa: ANN401 - the library exports no type
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise _failed(path, f"it cannot be read back: {error}") from error


def _batches(merger: StreamingMerger) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for name, spec in merger.specs.items():
        if batch and size + 16 * spec.numel > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += 16 * spec.numel
    if batch:
        yield batch


@dataclass
class _Expected:
    """What a tensor has to be: a copy, or a sum in float64 with the size of what it is summed from."""

    copy: Tensor | None = None
    anchor: FloatArray | None = None
    sum: FloatArray | None = None
    size: float = 0.0

    def add(self, alpha: float, total: float, values: FloatArray) -> None:
        """Add to total * anchor + sum of alpha * (theta_i - anchor), the anchor being the first that is added."""
        self.size += abs(alpha) * float(np.abs(values).max(initial=0.0))
        if self.anchor is None or self.sum is None:
            self.anchor, self.sum = values, total * values
        elif alpha:
            self.sum += alpha * (values - self.anchor)


def _recompute(merger: StreamingMerger, batch: Sequence[str], update: Callable[[int], None]) -> dict[str, _Expected]:
    copied = {name for name in batch if merger.policies[name] != "combine" or merger.recipe.single is not None}
    found = {name: _Expected() for name in batch}
    for done, index in enumerate(merger.reads, 1):
        tensors = _load(merger.checkpoints, index)
        for name, expected in found.items():
            if name not in copied:
                values = tensors[name].double().numpy()
                expected.add(merger.coefficient(name, index), merger.total(name), values)
            elif index == merger.origin(name):
                expected.copy = tensors[name].clone()
        update(done)
    return found


def _load(checkpoints: CheckpointSet, index: int) -> dict[str, Tensor]:
    """Checkpoint `index` from its file, by the set's names, without the set's check for NaNs."""
    snapshot = checkpoints.snapshots[index]
    # Both are the same names, with and without one prefix, so they sort alike.
    stored = zip(sorted(checkpoints.tensors), sorted(snapshot.tensors), strict=True)
    tensors = snapshot.load()
    return {name: tensors[own] for name, own in stored}


def _compare(path: Path, merger: StreamingMerger, name: str, written: Tensor, expected: _Expected) -> Verification:
    spec, count = merger.specs[name], len(merger.specs)
    if tuple(written.shape) != spec.shape or written.dtype != spec.dtype:
        found = f"{list(written.shape)} {str(written.dtype).removeprefix('torch.')}"
        raise _failed(path, f"tensor {name} is {found}, not {spec}")
    if expected.copy is not None and expected.copy.dtype == spec.dtype:
        if not same_bits(written, expected.copy):
            raise _failed(path, f"tensor {name} is not the copy that it should be")
        return Verification(0.0, name, tolerance_of(torch.float32), count)
    wanted = expected.sum if expected.copy is None else expected.copy.double().numpy()
    assert wanted is not None
    if expected.copy is None and name in merger.variances:
        wanted = np.maximum(wanted, 0.0)
    smallest = float(torch.finfo(spec.dtype).smallest_normal)
    error = _relative(written.double().numpy(), wanted, max(_FLOOR * expected.size, smallest))
    tolerance = tolerance_of(spec.dtype)
    if not error <= tolerance:
        raise _failed(path, f"tensor {name} is off by a relative {error:.2g}, and rounding explains {tolerance:.2g}")
    return Verification(error, name, tolerance, count)


def _relative(written: FloatArray, expected: FloatArray, floor: float) -> float:
    if not expected.size:
        return 0.0
    return float((np.abs(written - expected) / np.maximum(np.abs(expected), floor)).max())


def _failed(path: Path, what: str) -> WsoptError:
    return WsoptError(
        f"verification failed: {what}. The file was removed. Check the disk and the memory of this machine, and merge "
        f"again."
    )
