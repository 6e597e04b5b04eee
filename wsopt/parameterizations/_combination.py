"""Parameterizations made of a grouping, coordinates and a constraint."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from wsopt.config.params import ConstraintParams
from wsopt.errors import InputError
from wsopt.parameterizations._base import Parameterization
from wsopt.parameterizations._constraints import Clip, Constraint, ConvexHull, Unconstrained
from wsopt.parameterizations._coordinates import (
    Coordinates,
    DifferenceCoordinates,
    DirectCoordinates,
    NormalizedCoordinates,
)
from wsopt.parameterizations._groups import Groups
from wsopt.parameterizations._sumzero import SumZeroCoordinates
from wsopt.types import FloatArray, SpaceInfo

_POWERS: dict[str, float | None] = {"sum-zero": None, "pca": 0.0, "sqrt-whitened": 0.5, "whitened": 1.0}


class Combination(Parameterization):
    """Any grouping with any coordinates and any constraint.

    The search vector is the numbers of the first group, then those of the second, and so on, in the order of
    `SpaceInfo.groups`; one set of numbers where all layers share their coefficients.

    Args:
        groups: which layers share their coefficients.
        coordinates: ``difference``, ``direct``, ``sum-zero``, ``pca``, ``sqrt-whitened`` or ``whitened``; ``auto``,
            which loading a config replaces by one of them, is ``difference`` here, where no optimizer is known.
        constraint: what is done to coefficients.
        normalize: with ``direct``, whether the coefficients are brought to the sum 1.
    """

    name = "combination"

    def __init__(self, groups: Groups, coordinates: str, constraint: ConstraintParams, normalize: bool = False) -> None:
        self._layers = groups
        self._chosen = "difference" if coordinates == "auto" else coordinates
        self._limits = constraint
        self._normalize = normalize
        self._groups = 0
        self._sets = 0
        self._coordinates: Coordinates | None = None
        self._constraint: Constraint = Unconstrained()

    @property
    def needs_gram(self) -> bool:
        """True for the sum-zero family, whose axes or units come from it."""
        return self._chosen in _POWERS

    def grouping(self, tensors: Mapping[str, tuple[int, ...]]) -> Mapping[str, str] | None:
        """See `Parameterization.grouping`."""
        return self._layers.assign(tensors)

    def bind(self, info: SpaceInfo) -> None:
        """See `Parameterization.bind`."""
        if info.num_checkpoints < 2:
            raise InputError(
                f"the parameterization {self.name!r} needs at least 2 checkpoints, "
                f"the window has {info.num_checkpoints}."
            )
        self._groups = info.num_groups
        self._sets = 1 if self._layers.shared else info.num_groups
        self._coordinates = self._make_coordinates(info)
        self._constraint = _constraint(self._limits, self._coordinates.keeps_sum)

    @property
    def dimension(self) -> int:
        """Length of a search vector: numbers per set times sets."""
        return self._bound.size * self._sets

    def initial(self, coefficients: FloatArray) -> FloatArray:
        """See `Parameterization.initial`.

        Coefficients that the constraint forbids are constrained first. Where all layers share one vector, coefficients
        that differ between groups are averaged.
        """
        alpha = np.asarray(coefficients, dtype=np.float64)
        if self._layers.shared:
            alike = (alpha == alpha[:1]).all()
            alpha = alpha[:1] if alike else alpha.mean(axis=0, keepdims=True)
        return self._bound.invert(self._constraint.apply(alpha)).reshape(-1)

    def scale(self) -> FloatArray:
        """Ones: the coordinates themselves are in these units (see `Parameterization.scale`)."""
        return np.ones(self.dimension)

    def coefficients(self, x: FloatArray) -> FloatArray:
        """See `Parameterization.coefficients`."""
        rows = np.ascontiguousarray(x, dtype=np.float64)
        numbers = rows.reshape(len(rows), self._sets, self._bound.size)
        alpha = self._constraint.apply(self._bound.coefficients(numbers))
        return np.repeat(alpha, self._groups, axis=1) if self._layers.shared else alpha

    @property
    def _bound(self) -> Coordinates:
        if self._coordinates is None:
            raise ValueError(f"the parameterization {self.name!r} is used before it is bound to checkpoints")
        return self._coordinates

    def _make_coordinates(self, info: SpaceInfo) -> Coordinates:
        if self._chosen == "difference":
            return DifferenceCoordinates(info.num_checkpoints)
        if self._chosen == "direct":
            kind = NormalizedCoordinates if self._normalize else DirectCoordinates
            return kind(info.num_checkpoints)
        gram = _checked_gram(info)
        if self._layers.shared:
            gram = gram.sum(axis=0, keepdims=True)
        return SumZeroCoordinates(gram, _POWERS[self._chosen])


def _constraint(params: ConstraintParams, keeps_sum: bool) -> Constraint:
    if params.constraint == "convex":
        return ConvexHull()
    if params.constraint == "clip":
        return Clip(params.upper, params.lower, keeps_sum)
    return Unconstrained()


def _checked_gram(info: SpaceInfo) -> FloatArray:
    shape = (info.num_groups, info.num_checkpoints, info.num_checkpoints)
    if info.gram is None or info.gram.shape != shape:
        found = None if info.gram is None else info.gram.shape
        raise ValueError(f"sum-zero coordinates need the Gram matrix {shape}, not {found}")
    if not np.isfinite(info.gram).all():
        raise InputError(
            "the inner products of the checkpoints' differences are not finite: a checkpoint holds NaN, infinite or "
            "very large weights. Leave it out of the window."
        )
    return np.asarray(info.gram, dtype=np.float64)
