"""CheckpointSet: a window of one training run, compared by header, read lazily."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from wsopt.checkpoints._base import CheckpointReader, Snapshot, StreamKind, TensorSpec
from wsopt.checkpoints._prefix import fitting_prefix, shared_prefix
from wsopt.errors import CheckpointError


@dataclass(frozen=True)
class CheckpointSet:
    """K checkpoints of one training run, ascending by step; the first is the anchor.

    Args:
        snapshots: where each of them is.
        steps: their training steps, ascending.
        tensors: what every one of them holds, by name without wrapper prefixes (``module.``, ``_orig_mod.``,
            ``model.``), or as `named_as` made them.
        emas: EMA weights that lie beside them, of other streams, at any step.
    """

    snapshots: tuple[Snapshot, ...]
    steps: tuple[int, ...]
    tensors: Mapping[str, TensorSpec]
    emas: tuple[Snapshot, ...] = ()
    _prefix: str = field(default="", repr=False)

    def __len__(self) -> int:
        return len(self.snapshots)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The K files or folders."""
        return tuple(snapshot.path for snapshot in self.snapshots)

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
        """Other weights of the same network (a training-time EMA), held to the same names and shapes.

        Raises:
            CheckpointError: where `path` cannot be read, has no such part, or does not fit.
        """
        snapshot = self._find(path, part)
        named = {self._prefix + name: spec for name, spec in _unwrapped(snapshot).items()}
        _compare(self.tensors, self.snapshots[0], named, snapshot)
        return self._load(snapshot)

    def _load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        cut = len(shared_prefix(snapshot.tensors))
        tensors = {self._prefix + name[cut:]: tensor for name, tensor in snapshot.load().items()}
        check_finite(snapshot, tensors)
        return tensors

    def _find(self, path: Path, part: str) -> Snapshot:
        readers: list[CheckpointReader] = [snapshot.reader for snapshot in self.snapshots]
        try:
            reader = next((one for one in readers if one.recognises(path)), None)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
        if reader is None:
            raise CheckpointError(f"{path} is not of the checkpoints' format ({readers[0].name}). Save it like them.")
        found = [snapshot for snapshot in reader.scan(path) if part in ("", snapshot.part)]
        if len(found) != 1:
            what = "weights" if not part else f"part {part!r}"
            raise CheckpointError(f"{path} holds {len(found)} sets of {what}, expected one.")
        return found[0]


def make_set(snapshots: Sequence[Snapshot], steps: Sequence[int], emas: Sequence[Snapshot] = ()) -> CheckpointSet:
    """Compare headers and make the set.

    Args:
        snapshots: of one stream, in the order of `steps`.
        steps: training steps, ascending.
        emas: EMA weights beside them.

    Raises:
        CheckpointError: where a tensor's name, shape or dtype differs between checkpoints.
    """
    tensors = _unwrapped(snapshots[0])
    for snapshot in snapshots[1:]:
        _compare(tensors, snapshots[0], _unwrapped(snapshot), snapshot)
    return CheckpointSet(tuple(snapshots), tuple(steps), tensors, tuple(emas))


def check_finite(where: object, tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError where a floating tensor holds a NaN, an infinity, or what float32 cannot hold.

    Args:
        where: the file, as messages name it.
        tensors: by name.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        # torch has no isfinite for 8-bit floats.
        values = tensor.float() if tensor.dtype.itemsize == 1 else tensor
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


def _unwrapped(snapshot: Snapshot) -> dict[str, TensorSpec]:
    cut = len(shared_prefix(snapshot.tensors))
    return {name[cut:]: spec for name, spec in snapshot.tensors.items()}


def _compare(
    tensors: Mapping[str, TensorSpec], anchor: Snapshot, other: Mapping[str, TensorSpec], where: Snapshot
) -> None:
    missing = [f"it lacks tensor {name}" for name in tensors if name not in other]
    extra = [f"it has a tensor {name} that the other lacks" for name in other if name not in tensors]
    differing = [
        f"tensor {name} is {other[name]} and {spec} in the other"
        for name, spec in tensors.items()
        if name in other and other[name] != spec
    ]
    problems = missing + extra + differing
    if problems:
        more = f" (and {len(problems) - 3} more differences)" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{where} does not fit {anchor}: {'; '.join(problems[:3])}{more}. "
            f"All checkpoints must come from one training run; move the foreign one out of the folder."
        )
