"""The difference base, the paper's own parameterization (section 4.2a, Algorithm 1)."""

from __future__ import annotations

import numpy as np

from wsopt.errors import InputError
from wsopt.parameterizations._base import Parameterization
from wsopt.types import FloatArray, SpaceInfo


class DifferenceBase(Parameterization):
    """x holds alpha_2 .. alpha_K; theta = (1 - sum x) theta_1 + sum_i x_i theta_i.

    The coefficients sum to 1 by construction and are otherwise free, negative ones included (equation 7). One vector
    is shared by all layer groups.
    """

    name = "difference"

    def __init__(self, params: object = None) -> None:
        self._count = 0
        self._groups = 1

    def bind(self, info: SpaceInfo) -> None:
        """See `Parameterization.bind`."""
        if info.num_checkpoints < 2:
            raise InputError(
                f"the difference base needs at least 2 checkpoints, the window has {info.num_checkpoints}."
            )
        self._count = info.num_checkpoints
        self._groups = info.num_groups

    @property
    def dimension(self) -> int:
        """K - 1."""
        return self._count - 1

    def initial(self, coefficients: FloatArray) -> FloatArray:
        """See `Parameterization.initial`. Exact for coefficients that sum to 1 and are alike in all groups."""
        shared: FloatArray = np.asarray(coefficients, dtype=np.float64).mean(axis=0)
        return shared[1:].copy()

    def scale(self) -> FloatArray:
        """Ones: a coefficient is already in units of one checkpoint difference."""
        return np.ones(self.dimension)

    def coefficients(self, x: FloatArray) -> FloatArray:
        """See `Parameterization.coefficients`."""
        rest = np.asarray(x, dtype=np.float64)
        first = 1.0 - rest.sum(axis=1, keepdims=True)
        shared = np.concatenate([first, rest], axis=1)
        return np.repeat(shared[:, None, :], self._groups, axis=1)
