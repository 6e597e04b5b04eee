"""CheckpointSet: a window of one training run, compared by header, read lazily."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from wsopt.checkpoints._base import CheckpointReader, Snapshot, StreamKind, TensorSpec
from wsopt.checkpoints._prefix import fitting_prefix, unwrapped
from wsopt.checkpoints._scan import Problem, reader_for
from wsopt.errors import CheckpointError
from wsopt.tensors import widened


@dataclass(frozen=True)
class CheckpointSet:
    """K checkpoints of one training run, ascending by step; the first is the anchor.

    Args:
        snapshots: where each of them is.
        steps: their training steps, ascending.
        tensors: what every one of them holds, by name without wrapper prefixes (``module.``, ``_orig_mod.``,
            ``model.``), or as `named_as` made them.
        emas: EMA weights of the same network that lie beside them, of other streams, at any step.
        readers: formats that `load_weights` knows besides the checkpoints' own.
        skipped: torn and foreign files that were passed over because the selection says so.
        notes: what else was passed over (copies of a checkpoint), one sentence each.
    """

    snapshots: tuple[Snapshot, ...]
    steps: tuple[int, ...]
    tensors: Mapping[str, TensorSpec]
    emas: tuple[Snapshot, ...] = ()
    readers: tuple[CheckpointReader, ...] = field(default=(), repr=False, compare=False)
    skipped: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    _prefix: str = field(default="", repr=False)

    def __len__(self) -> int:
        return len(self.snapshots)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The K files or folders."""
        return tuple(snapshot.path for snapshot in self.snapshots)

    @property
    def passed_over(self) -> tuple[str, ...]:
        """What of the folder is not used and why, a sentence each."""
        return (*self.notes, *(problem.text for problem in self.skipped))

    @property
    def kind(self) -> StreamKind:
        """What the K checkpoints are."""
        return self.snapshots[0].stream.kind

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors of all checkpoints."""
        return sum(snapshot.nbytes for snapshot in self.snapshots)

    def named_as(self, names: Collection[str]) -> CheckpointSet:
        """The same set under the names of a network, where these differ by a wrapper prefix only; else itself."""
        prefix = fitting_prefix((name.removeprefix(self._prefix) for name in self.tensors), names)
        tensors = {prefix + name.removeprefix(self._prefix): spec for name, spec in self.tensors.items()}
        return replace(self, tensors=tensors, _prefix=prefix)

    def load(self, index: int) -> dict[str, Tensor]:
        """The tensors of checkpoint `index`, on the CPU.

        Raises:
            CheckpointError: where a floating tensor holds a NaN or an infinity, naming file and tensor.
        """
        return self._load(self.snapshots[index])

    def load_weights(self, path: Path, part: str = "") -> dict[str, Tensor]:
        """Other weights of the same network (a training-time EMA), of any format that `readers` know.

        Args:
            path: the file or folder.
            part: which of its sets of weights (`Snapshot.part`); empty where it holds one.

        Returns:
            By the names of `tensors`; shapes are the same, floating dtypes may be others (an EMA is often kept in
            float32 beside float16 checkpoints).

        Raises:
            CheckpointError: where `path` cannot be read, has no such part, or does not fit.
        """
        snapshot = self.find(path, part)
        named = {self._prefix + name: spec for name, spec in unwrapped(snapshot.tensors).items()}
        _compare(self.tensors, self.snapshots[0], named, snapshot, same_dtypes=False)
        return self._load(snapshot)

    def _load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        tensors = {self._prefix + name: tensor for name, tensor in unwrapped(snapshot.load()).items()}
        check_finite(snapshot, tensors)
        return tensors

    def find(self, path: Path, part: str = "") -> Snapshot:
        """The weights at `path`, of any format that `readers` know, not yet compared with the checkpoints.

        Raises:
            CheckpointError: where `path` cannot be read or has no such part.
        """
        if not path.exists():
            raise CheckpointError(f"{path} does not exist. Give the file or folder of the weights.")
        readers = list(dict.fromkeys([*(snapshot.reader for snapshot in self.snapshots), *self.readers]))
        reader = reader_for(path, readers)
        if reader is None:
            known = ", ".join(sorted({one.name for one in readers}))
            raise CheckpointError(f"{path} is of no known format ({known}). Save it in one of them.")
        found = reader.scan(path)
        fitting = [snapshot for snapshot in found if part in ("", snapshot.part)]
        if len(fitting) != 1:
            what = f"{len(fitting)} sets of weights" if not part else f"no part {part!r}"
            parts = ", ".join(f"{snapshot.part!r} ({snapshot.stream})" for snapshot in found) or "none"
            raise CheckpointError(f"{path} holds {what}, expected one (its parts: {parts}). Name one of them.")
        return fitting[0]


def make_set(
    snapshots: Sequence[Snapshot],
    steps: Sequence[int],
    emas: Sequence[Snapshot] = (),
    *,
    readers: Sequence[CheckpointReader] = (),
    skipped: Sequence[Problem] = (),
    notes: Sequence[str] = (),
) -> CheckpointSet:
    """Compare headers and make the set.

    Args:
        snapshots: of one stream, in the order of `steps`.
        steps: training steps, ascending.
        emas: EMA weights beside them.
        readers: see `CheckpointSet`.
        skipped: see `CheckpointSet`.
        notes: see `CheckpointSet`.

    Raises:
        CheckpointError: where a tensor's name, shape or dtype differs between checkpoints.
    """
    tensors = unwrapped(snapshots[0].tensors)
    for snapshot in snapshots[1:]:
        # Of LoRA factors the products must fit, not the ranks: the weight space compares these.
        if snapshot.stream.kind != "lora":
            _compare(tensors, snapshots[0], unwrapped(snapshot.tensors), snapshot)
    return CheckpointSet(
        tuple(snapshots), tuple(steps), tensors, tuple(emas), tuple(readers), tuple(skipped), tuple(notes)
    )


def check_finite(where: object, tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError where a floating tensor holds a NaN, an infinity, or what float32 cannot hold.

    Args:
        where: the file, as messages name it.
        tensors: by name.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        values = widened(tensor)
        # One pass for the usual case: a finite sum has finite terms.
        if values.dtype != torch.float64 and math.isfinite(float(values.sum())):
            continue
        bad = int((~values.isfinite()).sum())
        found = "NaN or infinite"
        if not bad and values.dtype == torch.float64:
            bad = int((values.abs() > torch.finfo(torch.float32).max).sum())
            found = "beyond the range of float32, in which checkpoints are combined"
        if bad:
            raise CheckpointError(
                f"{where}: tensor {name} has {bad} of {tensor.numel()} values that are {found}. "
                f"Leave this checkpoint out (checkpoints.window, checkpoints.exclude) or save it again."
            )


def _compare(
    tensors: Mapping[str, TensorSpec],
    anchor: Snapshot,
    other: Mapping[str, TensorSpec],
    where: Snapshot,
    *,
    same_dtypes: bool = True,
) -> None:
    """Raise CheckpointError where `other`, of `where`, is not as `tensors`, of `anchor`."""
    missing = [f"it lacks tensor {name}" for name in tensors if name not in other]
    extra = [f"it has a tensor {name} that the other lacks" for name in other if name not in tensors]
    pairs = {name: (other[name], spec) for name, spec in tensors.items() if name in other}
    reshaped = [name for name, (one, spec) in pairs.items() if one.shape != spec.shape]
    retyped = [
        name
        for name, (one, spec) in pairs.items()
        if one.dtype != spec.dtype and (same_dtypes or one.dtype.is_floating_point != spec.dtype.is_floating_point)
    ]
    differing = [
        f"tensor {name} is {other[name]} and {tensors[name]} in the other"
        for name in pairs
        if name in {*reshaped, *retyped}
    ]
    problems = missing + extra + differing
    if not problems:
        return
    more = f" (and {len(problems) - 3} more differences)" if len(problems) > 3 else ""
    hint = "All checkpoints must come from one training run; leave the foreign one out"
    if not (missing or extra or reshaped):
        hint = "Only dtypes differ: save it again in the precision of the others, or leave it out"
    raise CheckpointError(
        f"{where} does not fit {anchor}: {'; '.join(problems[:3])}{more}. "
        f'{hint} (checkpoints.exclude = ["{where.path.name}"], or checkpoints.window).'
    )
