"""The contract of a weight space: candidates in, weights in the model out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from torch import Tensor, nn

from wsopt.types import FloatArray


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
    def nbytes(self) -> int:
        """Bytes that stay resident."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal digest over the content of all checkpoints: every byte of every tensor, names and steps."""

    @abstractmethod
    def gram(self) -> FloatArray:
        """``[K, K]`` float64 inner products of the differences; row and column 0 (the anchor) are zero."""

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

    @abstractmethod
    def write(self, row: int, model: nn.Module) -> None:
        """Put the merged weights of `row` into `model`, in place."""

    @abstractmethod
    def file_tensors(self, path: Path) -> dict[str, Tensor]:
        """A file of weights (a training-time EMA), held to the checkpoints' names, shapes and dtypes."""

    @abstractmethod
    def write_file(self, path: Path, model: nn.Module) -> None:
        """Put a file of weights (a training-time EMA) into `model`, in place."""
