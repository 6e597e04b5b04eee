"""`kid`: the kernel distance of features. With Inception features it is the KID; with others it is named by them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsopt.config.params import KidParams
from wsopt.objectives._base import Reference
from wsopt.objectives._vectors import KeptVectors, VectorObjective, filled_blocks, scored, vectors_of
from wsopt.objectives.jackknife import BLOCKS, blocks_of
from wsopt.objectives.kernel import KernelSums, PolynomialKernel, kernel_sums, mean_within
from wsopt.seeding import child_generator
from wsopt.types import FloatArray, Score

Rows = NDArray[np.int64]


class KernelDistance(VectorObjective):
    """Squared maximum mean discrepancy of features, cubic kernel (Binkowski et al. 2018, "Demystifying MMD GANs").

    Lower is better; no unit. Unbiased, so it may be negative for good samples and needs no extrapolation. Each
    estimator is a mean of discrepancies between a part of the generated and a part of the real samples:

    * ``blocks``: the samples in index order are cut into as many parts of equal size as there are whole `block_size`
      in them (one at least), the reference likewise; the parts of the reference are taken in turn.
    * ``subsets``: `subsets` random parts of `subset_size` of either, drawn once from `seed`, the same for every
      candidate; what torchmetrics and torch-fidelity compute, whose parts are drawn anew.
    * ``full``: one part, all of them.

    A part costs n (n + 2 m) d multiplications and additions for n generated and m real vectors of length d, so that
    10,000 samples in blocks of 2000 cost a tenth of 100 subsets of 1000; 4 d bytes are kept of every sample.

    Standard errors are the jackknife over blocks of generated samples within these parts; the reference counts as
    fixed. Features are float32, their kernels are summed in float64. NaN with fewer than two samples.
    """

    name = "kid"
    version = 1
    direction = "minimize"

    def __init__(self, params: KidParams) -> None:
        self._params = params
        self._kernel = PolynomialKernel(params.degree, params.gamma, params.coef)
        self._real: Tensor | None = None
        self._parts: list[Rows] = []
        self._means: FloatArray = np.empty(0)

    def prepare(self, reference: Reference | None) -> None:
        """See `Objective.prepare`. The sums over pairs of real samples are derived from the reference, once."""
        vectors = vectors_of(reference, self.name, 2)
        real = torch.from_numpy(vectors)
        self._parts = self._cut(len(vectors), "real")
        assert reference is not None
        self._means = reference.derived(
            self._key(), lambda: np.array([mean_within(self._kernel, _rows(real, part)) for part in self._parts])
        )
        self._real = real

    def score(self, acc: KeptVectors, stderr: bool = True) -> Score:
        """See `Objective.score`."""
        value = _mean(acc.remembered("sums", self._sums))
        return scored(value, len(acc), self.replicates(acc) if stderr else None)

    def replicates(self, acc: KeptVectors) -> FloatArray | None:
        """See `Objective.replicates`."""
        sums = acc.remembered("sums", self._sums)
        filled = acc.remembered("blocks", lambda _, indices: filled_blocks(indices))
        return np.array([_mean(sums, block) for block in filled]) if filled else None

    def _sums(self, samples: Tensor, indices: Rows) -> list[KernelSums]:
        if len(samples) < 2:
            return []
        real = self._real = self._ready().to(samples.device)
        blocks = blocks_of(indices)
        sums = []
        for at, part in enumerate(self._cut(len(samples), "generated")):
            other = at % len(self._parts)
            mean = float(self._means[other])
            chosen = _rows(samples, part)
            sums.append(kernel_sums(self._kernel, chosen, blocks[part], BLOCKS, _rows(real, self._parts[other]), mean))
        return sums

    def _cut(self, count: int, which: str) -> list[Rows]:
        """The parts of `count` samples that this estimator compares, as rows."""
        params = self._params
        if params.estimator == "subsets":
            generator = child_generator(params.seed, "kid", which)
            size = min(params.subset_size, count)
            return [generator.permutation(count)[:size].astype(np.int64) for _ in range(params.subsets)]
        parts = 1 if params.estimator == "full" else max(1, count // params.block_size)
        return np.array_split(np.arange(count, dtype=np.int64), parts)

    def _key(self) -> str:
        params = self._params
        kernel = f"{params.degree}-{params.gamma or 'd'}-{params.coef}"
        parts = {
            "blocks": f"blocks-{params.block_size}",
            "subsets": f"subsets-{params.subsets}-{params.subset_size}-{params.seed}",
            "full": "full",
        }
        return f"kid-{kernel}-{parts[params.estimator]}-v1"


def _rows(matrix: Tensor, part: Rows) -> Tensor:
    """Rows of a matrix; a view where they follow one another."""
    if len(part) and np.array_equal(part, np.arange(part[0], part[0] + len(part))):
        return matrix[int(part[0]) : int(part[0]) + len(part)]
    return matrix[torch.from_numpy(part).to(matrix.device)]


def _mean(sums: list[KernelSums], without: int | None = None) -> float:
    """Mean of the discrepancies; parts differ by one sample at most, so that they count alike."""
    return float(np.mean([one.discrepancy(without) for one in sums])) if sums else float("nan")
