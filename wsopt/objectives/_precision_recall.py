"""`precision` and `recall`: the share of samples among real ones, and of real ones among samples."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsopt.config.params import PrecisionParams
from wsopt.objectives._base import Reference
from wsopt.objectives._vectors import KeptVectors, VectorObjective, filled_blocks, scored, vectors_of
from wsopt.objectives.jackknife import blocks_of
from wsopt.objectives.neighbours import inside, squared_radii
from wsopt.types import FloatArray, Score


class _Manifold(VectorObjective):
    """What both share: the vectors of either side. Kynkaanniemi et al. 2019, "Improved Precision and Recall Metric".

    The manifold of a set of vectors is the union of balls around them that reach to the k-th nearest other vector. A
    vector at exactly that distance is inside; ties are decided by float64 differences of the float32 features.
    """

    version: ClassVar[int] = 1
    direction = "maximize"

    def __init__(self, params: PrecisionParams) -> None:
        self._neighbours = params.neighbours
        self._real: Tensor | None = None

    def prepare(self, reference: Reference | None) -> None:
        """See `Objective.prepare`."""
        self._real = torch.from_numpy(vectors_of(reference, self.name, self._neighbours + 1))

    def score(self, acc: KeptVectors, stderr: bool = True) -> Score:
        """See `Objective.score`."""
        found = acc.remembered("found", self._found)
        value = float(found.mean()) if len(found) else float("nan")
        return scored(value, len(acc), self.replicates(acc) if stderr else None)

    @abstractmethod
    def _found(self, samples: Tensor, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which vectors are inside the other side's manifold; empty where that is not defined."""

    def _on(self, samples: Tensor) -> Tensor:
        """The real vectors, on the device of the samples."""
        self._real = self._ready().to(samples.device)
        return self._real


class Precision(_Manifold):
    """Share of the generated samples that lie within the manifold of the real ones: how good samples are.

    Higher is better, in [0, 1]. At most n m d multiplications and additions for n generated and m real vectors of
    length d; the radii of the real ones are derived from the reference, once. The standard error is the jackknife over
    blocks of generated samples; the reference and its manifold count as fixed. NaN without samples, or where one is not
    finite.
    """

    name = "precision"

    def __init__(self, params: PrecisionParams) -> None:
        super().__init__(params)
        self._radii: FloatArray = np.empty(0)

    def prepare(self, reference: Reference | None) -> None:
        """See `Objective.prepare`."""
        super().prepare(reference)
        assert reference is not None
        self._radii = reference.derived(
            f"squared-radii-{self._neighbours}-v1", lambda: squared_radii(self._ready(), self._neighbours)
        )

    def replicates(self, acc: KeptVectors) -> FloatArray | None:
        """See `Objective.replicates`."""
        found = acc.remembered("found", self._found)
        blocks = acc.remembered("blocks", lambda _, indices: blocks_of(indices))
        filled = acc.remembered("filled", lambda _, indices: filled_blocks(indices))
        if not filled or not len(found):
            return None
        return np.array([found[blocks != block].mean() for block in filled])

    def _found(self, samples: Tensor, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        if not len(samples) or not bool(samples.isfinite().all()):
            return np.empty(0, dtype=np.bool_)
        return inside(samples, self._on(samples), self._radii)


class Recall(_Manifold):
    """Share of the real samples that lie within the manifold of the generated ones: how much of the data is covered.

    Higher is better, in [0, 1]. n^2 d / 2 multiplications and additions for the radii of n generated vectors of length
    d, and at most n m d for those of m real ones. It grows with n, so values at different n do not compare. It has no
    standard error: leaving out a sample widens the balls of others, and to compute them again would cost ten times the
    value. NaN with k samples or fewer, or where one is not finite.
    """

    name = "recall"

    def _found(self, samples: Tensor, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        if len(samples) <= self._neighbours or not bool(samples.isfinite().all()):
            return np.empty(0, dtype=np.bool_)
        return inside(self._on(samples), samples, squared_radii(samples, self._neighbours))
