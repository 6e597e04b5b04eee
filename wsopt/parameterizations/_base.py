"""The contract of a parameterization: from the optimizer's search vector to the coefficients of the checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from wsopt.types import FloatArray, SpaceInfo


class Parameterization(ABC):
    """A map between search vectors x ``[D]`` and coefficients ``[G, K]``. `wsopt.testing.conformance` checks one.

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

        Returns:
            A group for every tensor. `bind` is told the groups in the order of their first tensors; one whose tensors
            are equal in all checkpoints is left out.
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
        """Natural step of each coordinate, ``[D]``, all positive: one unit moves the weights by about one difference.

        Where the coefficients sum to 1, the unit is chosen such that a standard normal x, times the scale, displaces
        the weights in root mean square by sqrt(sum_i |theta_i - theta_1|^2), as it does in the difference base. So a
        mutation scale means the same distance in weight space in all coordinates.
        """

    @abstractmethod
    def coefficients(self, x: FloatArray) -> FloatArray:
        """Coefficients ``[n, G, K]`` float64 of search vectors ``[n, D]``.

        The bits of a row depend on that row of `x` alone, so that a run resumes to the same candidates however they
        were asked for.
        """
