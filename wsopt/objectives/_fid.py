"""`fid`: the Frechet distance of features. With Inception features it is the FID; with others it is named by them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from wsopt.config.params import FidParams
from wsopt.errors import InputError
from wsopt.objectives._base import Objective
from wsopt.objectives.frechet import FrechetReference
from wsopt.objectives.jackknife import BLOCKS, blocks_of, stderr_of
from wsopt.objectives.moments import Moments
from wsopt.objectives.references import Reference
from wsopt.types import Batch, FloatArray, Score


class FrechetDistance(Objective[Moments]):
    """Frechet distance between the Gaussians fitted to generated and to real features (Heusel et al. 2017).

    Lower is better; unit: squared feature units. Covariances have divisor n - 1, everything is float64, but for
    `precision = "float32"`: then a score whose samples are all kept as rows (2 `BLOCKS` d at most) multiplies them in
    float32 where that changes it by less than 1e-6 of itself. Replicates, halves and more samples stay in float64.

    The standard error is the delete-a-block jackknife of `wsopt.objectives.jackknife`; the reference counts as fixed.

    The distance of n samples is too large by about c / n (Chong and Forsyth 2020). Halves of them have twice that bias,
    so 2 FID_n - (FID_even + FID_odd) / 2 has it no more: the score's `debiased`.
    """

    name = "fid"
    direction = "minimize"
    version = 2
    needs = "features"

    def __init__(self, params: FidParams) -> None:
        self._precision = params.precision
        self._reference: FrechetReference | None = None

    def prepare(self, reference: Reference | None) -> None:
        """See `Objective.prepare`."""
        if reference is None:
            raise InputError(
                f"objective {self.name} compares with real data: set objective.reference, for example "
                f'reference = "train".'
            )
        self._reference = FrechetReference(
            reference.mean,
            reference.covariance,
            reference.derived,
            f"reference {reference.name}",
            self._precision,
        )

    def new(self) -> Moments:
        """See `Objective.new`."""
        return Moments(self._ready().mean)

    def add(self, acc: Moments, batch: Batch) -> Moments:
        """See `Objective.add`. Blocks follow from the sample index, so they do not depend on the batches."""
        if batch.features is None:
            raise InputError(f"objective {self.name} needs features: set objective.features to a feature extractor.")
        features = batch.features.detach().to("cpu", torch.float32).numpy()
        acc.add(features, blocks_of(batch.indices))
        return acc

    def merge(self, first: Moments, second: Moments) -> Moments:
        """See `Objective.merge`."""
        return first.merged(second)

    def score(self, acc: Moments, stderr: bool = True) -> Score:
        """See `Objective.score`. The statistics cost up to 12 more eigenvalue problems."""
        reference = self._ready()
        if acc.vectors is not None:
            value = reference.distance_of(acc.vectors)
        else:
            value = reference.distance(*acc.mean_covariance(), acc.samples)
        if not (stderr and np.isfinite(value)):
            return Score(value, None, acc.samples)
        even = np.arange(BLOCKS) % 2 == 0
        *left_out, first, second = self._distances(acc, [*_leave_one_out(acc), even, ~even])
        debiased = 2.0 * value - (first + second) / 2.0
        return Score(
            value,
            stderr_of(left_out),
            acc.samples,
            float(debiased) if np.isfinite(debiased) else None,
            tuple(map(float, left_out)) if len(left_out) > 1 else (),
        )

    def replicates(self, acc: Moments) -> FloatArray | None:
        """See `Objective.replicates`."""
        subsets = _leave_one_out(acc)
        return self._distances(acc, subsets) if len(subsets) > 1 else None

    def _distances(self, acc: Moments, subsets: list[NDArray[np.bool_]]) -> FloatArray:
        """The value of some blocks only, for each mask ``[BLOCKS]``."""
        reference = self._ready()
        if acc.vectors is not None and reference.takes_gram(acc.samples):
            return reference.distances_of(acc.vectors, [mask[acc.blocks] for mask in subsets])
        sums = acc.folded()
        return np.array([reference.distance(*sums.mean_covariance(mask), sums.count(mask)) for mask in subsets])

    def _ready(self) -> FrechetReference:
        if self._reference is None:
            raise RuntimeError("prepare() must be called before samples are added")
        return self._reference


class FrechetClip(FrechetDistance):
    """`fcd`, the Frechet distance on CLIP features, as the LCSC paper reports it. The same distance under its own name.

    Which features (768 numbers before CLIP's projection, or 512 after it) is the extractor's setting.
    """

    name = "fcd"


def _leave_one_out(acc: Moments) -> list[NDArray[np.bool_]]:
    """Masks of all blocks but one, for each block that has samples."""
    return [np.arange(len(acc.counts)) != block for block in np.flatnonzero(acc.counts)]
