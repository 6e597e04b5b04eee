"""The contract of a parameterization: from the optimizer's search vector to the coefficients of the checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from wsopt.types import FloatArray, SpaceInfo


class Parameterization(ABC):
    """A map between search vectors x ``[D]`` and coefficients ``[G, K]``.

    Made of three independent choices: grouping (which layers share coefficients), coordinates (difference, direct,
    sum-zero, whitened) and constraint. It is bound to the checkpoints once, before any other call.
    """

    name: ClassVar[str]

    @property
    def needs_gram(self) -> bool:
        """Whether `bind` is to be given the Gram matrix of the differences."""
        return False

    def grouping(self, tensors: Mapping[str, tuple[int, ...]]) -> Mapping[str, str] | None:
        """Layer group of each tensor, before the checkpoints are loaded; None where all share their coefficients.

        Args:
            tensors: shape by name of every tensor that may be combined, in the network's order.
        """
        return None

    @abstractmethod
    def bind(self, info: SpaceInfo) -> None:
        """Learn the number of checkpoints, their steps, the layer groups and, if `needs_gram`, the Gram matrix.

        Raises:
            InputError: where the checkpoints do not fit (fewer than two).
        """

    @property
    @abstractmethod
    def dimension(self) -> int:
        """D, length of a search vector."""

    @abstractmethod
    def initial(self, coefficients: FloatArray) -> FloatArray:
        """The search vector ``[D]`` of given coefficients ``[G, K]``; the nearest one where they are not reachable."""

    @abstractmethod
    def scale(self) -> FloatArray:
        """Natural step of each coordinate, ``[D]``: one unit moves the weights by about one checkpoint difference."""

    @abstractmethod
    def coefficients(self, x: FloatArray) -> FloatArray:
        """Coefficients ``[n, G, K]`` of search vectors ``[n, D]``."""
