"""The contract of a checkpoint reader: one on-disk format each, chosen by looking into the file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from wsopt.errors import CheckpointError

StreamKind: TypeAlias = Literal["raw", "ema", "target", "lora"]


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of one tensor, as its header tells."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def numel(self) -> int:
        """Number of values."""
        return int(torch.Size(self.shape).numel())

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return self.numel * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{list(self.shape)} {str(self.dtype).removeprefix('torch.')}"


@dataclass(frozen=True, order=True)
class Stream:
    """What a training run saved over and over: its raw weights, an EMA of them, a target network, LoRA factors.

    Args:
        kind: which of these.
        rate: of a constant-rate EMA, per training step, in (0, 1); None where unknown or another kind.
        width: of a power-function EMA, relative standard deviation in (0, 0.2887); None where unknown or another kind.
    """

    kind: StreamKind = "raw"
    rate: float | None = None
    width: float | None = None

    def __str__(self) -> str:
        rate = "" if self.rate is None else f" {self.rate!r}"
        width = "" if self.width is None else f" width {self.width:g}"
        return f"{self.kind}{rate}{width}"


@dataclass(frozen=True)
class Snapshot:
    """One set of weights on disk, described without reading it. A file may hold several (raw weights and an EMA).

    Args:
        path: the file, or the folder where the format is a folder.
        part: where in it, in the reader's own terms; empty where there is nothing to choose.
        stream: what the weights are, as far as the file or its name tells.
        step: training step that the content or the name tells, else None.
        tensors: by name as stored, wrapper prefixes included, in stored order.
        reader: who reads it.
        config: what the file says besides: an architecture's arguments, an adapter's configuration, text metadata.
            JSON values.

    Raises:
        CheckpointError: a tensor's name is no valid text.
    """

    path: Path
    part: str
    stream: Stream
    step: int | None
    tensors: Mapping[str, TensorSpec]
    reader: CheckpointReader = field(compare=False, repr=False)
    config: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        try:
            "".join(self.tensors).encode()
        except UnicodeEncodeError as error:
            name = next(name for name in self.tensors if error.object[error.start] in name)
            raise CheckpointError(
                f"{self.path}: the name {name!a} of a tensor is no valid text, which safetensors cannot hold. "
                f"Rename that tensor and save the checkpoint again."
            ) from error

    def __str__(self) -> str:
        return f"{self.path} ({self.part})" if self.part else str(self.path)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(spec.nbytes for spec in self.tensors.values())

    def load(self) -> dict[str, Tensor]:
        """All tensors by stored name, on the CPU; they may share memory with each other and with the file.

        Raises:
            CheckpointError: for a torn or inconsistent file, or one that has changed since it was scanned, naming it.
        """
        tensors = self.reader.load(self)
        specs = {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        if specs != self.tensors:
            name = next(name for name in (*self.tensors, *specs) if specs.get(name) != self.tensors.get(name))
            raise CheckpointError(
                f"{self} has changed: tensor {name} was {self.tensors.get(name, 'absent')} and is now "
                f"{specs.get(name, 'absent')}. Leave files alone while they are read, and start again."
            )
        return tensors


class CheckpointReader(ABC):
    """Reads one on-disk format. Stateless and picklable."""

    name: ClassVar[str]

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """True where the content of `path`, a file or a folder, is of this format, torn or not.

        The content decides, never the name alone. Cheap: a few kilobytes are read at most.
        """

    @abstractmethod
    def scan(self, path: Path) -> Sequence[Snapshot]:
        """What `path` holds, without reading tensors where the format has a header.

        Returns:
            One entry per set of weights; none where the file is of this format and holds no weights (an optimizer's
            state).

        Raises:
            CheckpointError: for a torn or inconsistent file, naming it and what to do.
        """

    @abstractmethod
    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        """See `Snapshot.load`."""
