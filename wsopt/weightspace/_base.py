"""The contract of a weight space: candidates in, weights in the model out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from torch import Tensor, nn

from wsopt.types import FloatArray, WeightsFile

Policy: TypeAlias = Literal["combine", "constant", "not floating", "batchnorm"]
"""What is done with a tensor: combined; or copied, because it is equal in all checkpoints, is not floating, or is a
running statistic that the settings leave out of the combination."""

Grouping: TypeAlias = Callable[[Mapping[str, tuple[int, ...]]], Mapping[str, str] | None]
"""Shapes by name of the tensors that may be combined -> layer group by name, or None for one group of all."""


@dataclass(frozen=True)
class SpaceSettings:
    """How checkpoints are held and merged.

    Args:
        dtype: of the resident differences; sums are in float32 in any case.
        width: candidates merged in one pass.
        memory: whether the differences stay in memory (``resident``), in a file mapped into it (``mapped``), or as
            they fit (``auto``).
        cache: folder of the mapped file.
        devices: devices that share the differences between them; empty takes `device`.
        device: where the model is.
        copy_from: checkpoint that differing tensors which are not floating are copied from; None makes them an error.
        batchnorm: what is done with running statistics of batch normalisation.
        lora: form in which LoRA checkpoints are held.
    """

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    width: int = 16
    memory: Literal["auto", "resident", "mapped"] = "auto"
    cache: Path | None = None
    devices: tuple[str, ...] = ()
    device: str = "cpu"
    copy_from: Literal["first", "last"] | None = None
    batchnorm: Literal["combine", "copy", "recalculate"] = "combine"
    lora: Literal["auto", "dense", "factored"] = "auto"


class WeightSpace(ABC):
    """The window of checkpoints, resident, and a block of merged candidates."""

    width: int
    """Number of candidates merged per pass."""

    @property
    @abstractmethod
    def steps(self) -> tuple[int, ...]:
        """Training steps of the K checkpoints."""

    @property
    @abstractmethod
    def groups(self) -> tuple[str, ...]:
        """Names of the G layer groups, in the order of the coefficients; ``("all",)`` where all layers share them."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that stay resident, mapped files not counted."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal digest over the content of all checkpoints: every byte of every tensor, names and steps."""

    @property
    @abstractmethod
    def policies(self) -> Mapping[str, Policy]:
        """What is done with each tensor, by name, in the checkpoints' order."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user is to be told once the checkpoints are loaded."""
        return ()

    @abstractmethod
    def gram(self) -> FloatArray:
        """``[G, K, K]`` float64 inner products of the differences; row and column 0 (the anchor) are zero."""

    @abstractmethod
    def prepare(self, coefficients: FloatArray, rows: tuple[int, ...] | None = None) -> None:
        """Merge candidates in one pass over the resident weights.

        Args:
            coefficients: ``[n, G, K]`` float64, n at most `width`.
            rows: the row of the block that each goes to; None takes 0..n-1. A candidate's bits depend on its row and
                the width alone, never on its neighbours.
        """

    @abstractmethod
    def tensors(self, row: int) -> dict[str, Tensor]:
        """The merged weights of `row` as a state dict in the checkpoints' names and dtypes (views where possible).

        One-hot coefficients give that checkpoint bit for bit.
        """

    def metadata(self, row: int) -> dict[str, str]:
        """Text entries that belong into the header of a file with `tensors` of `row`."""
        return {}

    def notes(self, row: int) -> tuple[str, ...]:
        """What the user is to be told of the merged weights of `row`, where these are saved."""
        return ()

    @abstractmethod
    def write(self, row: int, model: nn.Module) -> None:
        """Put the merged weights of `row` into `model`, in place."""

    @abstractmethod
    def file_tensors(self, target: WeightsFile) -> dict[str, Tensor]:
        """Weights on disk (a training-time EMA), held to the checkpoints' names, shapes and dtypes."""

    @abstractmethod
    def write_file(self, target: WeightsFile, model: nn.Module) -> None:
        """Put weights on disk (a training-time EMA) into `model`, in place."""
