"""The streaming merger: one checkpoint in memory at a time, beside float64 sums.

theta = sum_i alpha_i theta_i is summed in float64, not as differences to an anchor in float32 as the resident stack
does: float64 needs the same 8 bytes per value as a float32 anchor with float32 sums of differences, keeps no second
checkpoint, and its rounding (1.1e-16 times the sum of |alpha_i theta_i|) stays far below the last digit of every dtype
that checkpoints are stored in. So a tensor that is equal in all checkpoints comes out equal, too, as long as the
coefficients sum to 1; only where they do not must it be told apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from wsopt.checkpoints import CheckpointSet, TensorSpec
from wsopt.errors import CheckpointError, InputError
from wsopt.merge._recipe import Recipe
from wsopt.progress import Progress
from wsopt.tensors import as_bytes, widened
from wsopt.weightspace import DTYPES, Policy, SpaceSettings, plan_policies, running_variances

_CHUNK: Final = 1 << 18
"""Values that are widened to float64 at a time: 2 MiB, which a cache holds."""


@dataclass(frozen=True)
class MergeSettings:
    """How tensors are combined.

    Args:
        dtype: of the floating tensors of the result; ``keep`` leaves each tensor its own.
        copy_from: checkpoint that differing tensors which are not floating are copied from; None makes them an error.
        batchnorm: whether running statistics of batch normalisation are combined, or copied from the last checkpoint.
    """

    dtype: Literal["float16", "bfloat16", "float32", "keep"] = "keep"
    copy_from: Literal["first", "last"] | None = None
    batchnorm: Literal["combine", "copy"] = "combine"

    def of(self, spec: TensorSpec) -> TensorSpec:
        """Shape and dtype that a tensor has in the result."""
        if self.dtype == "keep" or not spec.dtype.is_floating_point:
            return spec
        return TensorSpec(spec.shape, DTYPES[self.dtype])


class StreamingMerger:
    """Merges `checkpoints` by `recipe`, reading each file once and those with coefficient zero not at all.

    Files with coefficient zero are read where a group's coefficients do not sum to 1: constant tensors are then told
    from all files, as the resident stack tells them.

    Args:
        checkpoints: the K checkpoints of the recipe.
        recipe: their coefficients.
        settings: see there.

    Raises:
        InputError: where the recipe's groups do not fit the tensors.
    """

    def __init__(self, checkpoints: CheckpointSet, recipe: Recipe, settings: MergeSettings) -> None:
        self.checkpoints = checkpoints
        self.recipe = recipe
        self.settings = settings
        self.copied: dict[str, Policy] = copied(checkpoints.tensors, settings)
        floating = {name: spec.shape for name, spec in checkpoints.tensors.items() if spec.dtype.is_floating_point}
        rows = recipe.members(floating)
        # What the run that found the coefficients knew to be equal in all checkpoints has none.
        self.copied |= {name: "constant" for name in floating if name not in rows and name not in self.copied}
        combined = [name for name in floating if name not in self.copied]
        self._rows = {name: rows[name] for name in combined}
        self._sums: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}
        self.variances = running_variances(checkpoints.tensors)
        self.clamped: dict[str, int] = {}
        self._watched = _Constants(
            [name for name in combined if not recipe.sums_to_one or checkpoints.tensors[name].dtype == torch.float64]
        )

    @property
    def reads(self) -> tuple[int, ...]:
        """The checkpoints that are read, in order."""
        recipe, last = self.recipe, len(self.checkpoints) - 1
        if recipe.single is not None:
            return (recipe.single,)
        if not recipe.sums_to_one:
            return tuple(range(last + 1))
        wanted = set(recipe.used)
        if "not floating" in self.copied.values() and self.settings.copy_from is not None:
            wanted.add(0 if self.settings.copy_from == "first" else last)
        if "batchnorm" in self.copied.values():
            wanted.add(last)
        return tuple(sorted(wanted))

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Shape and dtype of every merged tensor, by name."""
        return {name: self.settings.of(spec) for name, spec in self.checkpoints.tensors.items()}

    @property
    def peak_bytes(self) -> int:
        """Projected bytes at the peak: the largest checkpoint and the sums."""
        largest = max(self.checkpoints.snapshots[index].nbytes for index in self.reads)
        if self.recipe.single is not None:
            return largest
        kept = sum(self.checkpoints.tensors[name].nbytes for name in self.copied)
        return largest + kept + 8 * sum(self.checkpoints.tensors[name].numel for name in self._rows)

    @property
    def policies(self) -> dict[str, Policy]:
        """What was done with each tensor, by name; constant ones are known after `run`, and where it mattered."""
        constant = self._watched.names
        found: dict[str, Policy] = {}
        for name in self.checkpoints.tensors:
            found[name] = self.copied.get(name, "constant" if name in constant else "combine")
        return found

    def run(self, progress: Progress) -> None:
        """Read and sum. Running variances that come out negative are raised to zero, as the resident stack does.

        `clamped` tells how many of them there were, by tensor.

        Raises:
            CheckpointError: a torn file, a NaN, or differing tensors that cannot be combined.
        """
        reads = self.reads
        with progress.stage("merge", len(reads)) as stage:
            for done, index in enumerate(reads, 1):
                self._take(index, last=done == len(reads))
                stage.update(done, checkpoint=self.recipe.name(index))
        self._clamp()

    def origin(self, name: str) -> int:
        """The checkpoint that a tensor which is not combined is copied from."""
        if self.recipe.single is not None:
            return self.recipe.single
        last = len(self.checkpoints) - 1
        if self.copied.get(name) == "batchnorm":
            return last
        if self.copied.get(name) == "not floating" and self.settings.copy_from is not None:
            return 0 if self.settings.copy_from == "first" else last
        return self.reads[0]

    def coefficient(self, name: str, index: int) -> float:
        """Coefficient of checkpoint `index` for a tensor that is combined."""
        return float(self.recipe.values[self._rows[name], index])

    def total(self, name: str) -> float:
        """Sum of the coefficients for a tensor that is combined."""
        return self.recipe.sums[self._rows[name]]

    def tensor(self, name: str) -> Tensor:
        """A merged tensor in its final dtype; after `run`.

        Raises:
            InputError: where the merged values exceed what the dtype holds.
        """
        spec = self.specs[name]
        wide = self._kept[name] if name in self._kept else self._sums[name]
        result = wide.to(spec.dtype).reshape(spec.shape)
        if spec.dtype.is_floating_point and not bool(widened(result).isfinite().all()):
            raise InputError(
                f"the merged tensor {name} has values up to {float(wide.double().abs().max()):.3g}, which "
                f"{str(spec.dtype).removeprefix('torch.')} cannot hold. Give --dtype float32 or other coefficients."
            )
        return result

    def release(self) -> None:
        """Let go of the sums; `tensor` gives no more tensors."""
        self._sums.clear()
        self._kept.clear()

    def _take(self, index: int, last: bool) -> None:
        tensors = self.checkpoints.load(index)
        if self.recipe.single is not None:
            self._kept = tensors
            return
        self._copy(index, tensors)
        self._watched.see(tensors)
        for name in self._rows:
            alpha = self.coefficient(name, index)
            if alpha != 0.0:
                self._add(name, tensors[name].reshape(-1), alpha)
            elif name not in self._sums:
                self._sums[name] = torch.zeros(tensors[name].numel(), dtype=torch.float64)
        if last:
            self._kept |= {name: tensors[name].clone() for name in self._watched.names}

    def _clamp(self) -> None:
        for name in self._sums:
            if name in self.variances and name not in self._kept:
                if count := int((self._sums[name] < 0).sum()):
                    self.clamped[name] = count
                self._sums[name].clamp_(min=0)

    def _add(self, name: str, values: Tensor, alpha: float) -> None:
        if name not in self._sums:  # not added to zero, which would lose the sign of a negative zero
            total = self._sums[name] = torch.empty(values.numel(), dtype=torch.float64)
            total.copy_(values).mul_(alpha)
            return
        wide = torch.empty(min(_CHUNK, values.numel()), dtype=torch.float64)
        for at in range(0, values.numel(), _CHUNK):
            part = self._sums[name][at : at + _CHUNK]
            part.add_(wide[: part.numel()].copy_(values[at : at + _CHUNK]), alpha=alpha)

    def _copy(self, index: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep the tensors that are copied from this checkpoint, and hold the others against them."""
        for name, reason in self.copied.items():
            if index == self.origin(name):
                self._kept[name] = tensors[name].clone()
            elif reason == "constant" or (reason == "not floating" and self.settings.copy_from is None):
                self._check_equal(name, index, tensors[name])

    def _check_equal(self, name: str, index: int, tensor: Tensor) -> None:
        if torch.equal(tensor, self._kept[name]):
            return
        differs = (
            f"{self.checkpoints.snapshots[index]}: tensor {name} is {self.checkpoints.tensors[name]} and differs from "
            f"{self.checkpoints.snapshots[self.origin(name)]}"
        )
        if self.copied[name] == "constant":
            raise CheckpointError(
                f"{differs}; {self.recipe.label} has no coefficients of its layer group (known: "
                f"{', '.join(self.recipe.groups[:5])}), as if it were equal in all checkpoints. Give the checkpoints "
                f"that the coefficients were found for."
            )
        raise CheckpointError(
            f"{differs}; a tensor that is not floating cannot be combined. Say which checkpoint it is copied from: "
            f"--copy-from first or last (weightspace.copy_from of a config)."
        )


def copied(tensors: Mapping[str, TensorSpec], settings: MergeSettings) -> dict[str, Policy]:
    """The tensors that headers tell to be copied, with the reason, as the resident stack tells them."""
    planned = plan_policies(tensors, SpaceSettings(copy_from=settings.copy_from, batchnorm=settings.batchnorm))
    return {name: policy for name, policy in planned.items() if policy != "combine"}


class _Constants:
    """Which of some tensors are equal in all files seen, told by a digest, so that no second checkpoint is kept."""

    def __init__(self, candidates: list[str]) -> None:
        self.names = set(candidates)
        self._digests: dict[str, bytes] = {}

    def see(self, tensors: Mapping[str, Tensor]) -> None:
        """Look at one more file."""
        for name in sorted(self.names):
            digest = hashlib.sha256(as_bytes(tensors[name])).digest()
            if self._digests.setdefault(name, digest) != digest:
                self.names.discard(name)
