"""Sum-zero coordinates: displacements of the uniform average, along axes that the Gram matrix gives.

With C the centred checkpoints, C C^T = U S^2 U^T: the columns of U are axes in the space of coefficients that sum to
0, and a unit along column d moves the weights by the singular value s_d. The axes are U S^-p: p = 0 leaves them as they
are (principal components), p = 1 makes a unit move the weights equally far along each (whitened), p = 1/2 is half-way.
"""

from __future__ import annotations

import numpy as np

from wsopt.errors import InputError
from wsopt.parameterizations._coordinates import Coordinates, with_anchor
from wsopt.types import FloatArray

FLOOR = 0.01
"""No axis is stretched as if its singular value were below this part of their root mean square."""

NULL = 1e-6
"""An axis whose singular value is below this part of the largest does not move the weights, and is not stretched."""


class SumZeroCoordinates(Coordinates):
    """alpha = 1/K + sum_d x_d b_d, with K - 1 orthogonal axes b_d that sum to 0.

    Units: a standard normal x displaces the weights, in root mean square, by as much as a standard normal x of the
    difference base does: by sqrt(sum_i |theta_i - theta_1|^2), in each layer group.

    Args:
        gram: ``[S, K, K]`` inner products of the differences theta_i - theta_1.
        power: p; None takes a cosine basis of the sum-zero plane, which does not depend on the checkpoints, in place of
            the principal axes.

    Raises:
        InputError: where all checkpoints are equal.
    """

    def __init__(self, gram: FloatArray, power: float | None) -> None:
        super().__init__(gram.shape[1] - 1)
        if not gram.any():
            raise InputError("all checkpoints of the window are equal: there is nothing to search.")
        self._axes = np.stack([_axes(one, power) for one in gram])
        self._squares = (self._axes**2).sum(axis=2)

    def coefficients(self, numbers: FloatArray) -> FloatArray:
        """See `Coordinates.coefficients`."""
        count = self._axes.shape[2]
        alpha = np.full((*numbers.shape[:2], count), 1.0 / count)
        for axis in range(self.size):
            alpha += numbers[:, :, axis, None] * self._axes[:, axis]
        # The axes sum to 0 but for rounding, which large numbers would show.
        return with_anchor(alpha[:, :, 1:])

    def invert(self, alpha: FloatArray) -> FloatArray:
        """See `Coordinates.invert`. The displacement's projection on the axes, which are orthogonal."""
        displacement = alpha - 1.0 / alpha.shape[-1]
        return np.asarray((self._axes @ displacement[:, :, None])[:, :, 0] / self._squares)


def cosine_basis(count: int) -> FloatArray:
    """Orthonormal rows ``[K - 1, K]`` that sum to 0: the discrete cosine basis without its constant, slow to fast."""
    frequencies = np.arange(1, count)[:, None]
    places = (np.arange(count) + 0.5)[None]
    return np.asarray(np.sqrt(2.0 / count) * np.cos(np.pi / count * frequencies * places))


def _axes(gram: FloatArray, power: float | None) -> FloatArray:
    """The axes of one group, ``[K - 1, K]``, by falling singular value."""
    plane = cosine_basis(len(gram))
    inner = plane @ gram @ plane.T
    energy = float(np.trace(gram))
    if power is None:
        return _in_units(plane, energy, float(np.trace(inner)))
    # Within the plane, so that an axis of singular value 0 cannot mix with the constant, which does not sum to 0.
    values, vectors = np.linalg.eigh((inner + inner.T) / 2.0)
    singular = np.sqrt(np.maximum(values[::-1], 0.0))
    axes = _with_signs(vectors.T[::-1] @ plane)
    moving = singular > NULL * singular[0]
    typical = np.sqrt((singular[moving] ** 2).mean()) if moving.any() else 1.0
    stretch = np.where(moving, np.maximum(singular / typical, FLOOR) ** -power, 1.0)
    return _in_units(axes * stretch[:, None], energy, float(((singular * stretch) ** 2).sum()))


def _in_units(axes: FloatArray, energy: float, found: float) -> FloatArray:
    """Axes along which the squares of the displacements by a unit sum to `energy`, given that they sum to `found`."""
    return np.asarray(axes * np.sqrt(energy / found)) if energy > 0.0 and found > 0.0 else axes


def _with_signs(axes: FloatArray) -> FloatArray:
    """Each axis turned so that its largest entry is positive; the first of several that are as large but for rounding.

    LAPACK is free to return either sign.
    """
    size = np.abs(axes)
    first = (size >= (1.0 - 1e-6) * size.max(axis=1, keepdims=True)).argmax(axis=1)
    sign = np.sign(np.take_along_axis(axes, first[:, None], axis=1))
    return np.asarray(axes * sign)
