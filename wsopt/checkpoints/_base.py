"""The contract of a checkpoint reader: one on-disk format each, chosen by looking into the file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor


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


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself before any tensor is read.

    Args:
        tensors: by name, in the order of the file.
        step: training step where the file's metadata names one, else None.
    """

    tensors: Mapping[str, TensorSpec]
    step: int | None


class CheckpointReader(ABC):
    """Reads one on-disk format. Stateless."""

    name: ClassVar[str]

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """True where the content of `path` (never its name) is of this format, torn or not."""

    @abstractmethod
    def header(self, path: Path) -> Header:
        """Names, shapes, dtypes and step, without reading the tensors.

        Raises:
            CheckpointError: for a torn or inconsistent file, naming it.
        """

    @abstractmethod
    def load(self, path: Path) -> dict[str, Tensor]:
        """All tensors, on the CPU.

        Raises:
            CheckpointError: for a torn or inconsistent file, naming it.
        """
