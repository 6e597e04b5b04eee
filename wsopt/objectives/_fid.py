"""`fid`: the Frechet distance of features. With Inception features it is the FID; with others it is named by them."""

from __future__ import annotations

import numpy as np

from wsopt.config.params import FidParams
from wsopt.errors import InputError
from wsopt.objectives._base import Objective, Reference
from wsopt.objectives.frechet import FrechetReference, Moments
from wsopt.types import Batch, Score


class FrechetDistance(Objective[Moments]):
    """Frechet distance between the Gaussians fitted to generated and to real features (Heusel et al. 2017).

    Lower is better; unit: squared feature units. Covariances have divisor n - 1. The standard error is the
    delete-a-block jackknife over `blocks` blocks of generated samples; the reference counts as fixed.
    """

    name = "fid"
    direction = "minimize"
    version = 1
    needs = "features"

    def __init__(self, params: FidParams) -> None:
        self._blocks = params.blocks
        self._reference: FrechetReference | None = None

    def prepare(self, reference: Reference | None) -> None:
        """See `Objective.prepare`."""
        if reference is None:
            raise InputError(
                'objective fid compares with real data: set objective.reference, for example reference = "train".'
            )
        self._reference = FrechetReference(reference.mean, reference.covariance)

    def new(self) -> Moments:
        """See `Objective.new`."""
        return Moments.empty(self._ready().mean, self._blocks)

    def add(self, acc: Moments, batch: Batch) -> Moments:
        """See `Objective.add`. Blocks follow from the sample index, so they do not depend on the batches."""
        if batch.features is None:
            raise InputError("objective fid needs features: set objective.features to a feature extractor.")
        acc.add(batch.features.double().cpu().numpy(), [int(index) % self._blocks for index in batch.indices])
        return acc

    def merge(self, first: Moments, second: Moments) -> Moments:
        """See `Objective.merge`."""
        return first.merged(second)

    def score(self, acc: Moments, stderr: bool = True) -> Score:
        """See `Objective.score`."""
        reference = self._ready()
        value = reference.distance(*acc.mean_covariance())
        # One more eigenvalue problem per block: ten times the cost of the value itself.
        return Score(value, self._stderr(acc, reference) if stderr else None, int(acc.counts.sum()))

    def _stderr(self, acc: Moments, reference: FrechetReference) -> float | None:
        filled = np.flatnonzero(acc.counts)
        if len(filled) < 2:
            return None
        left_out = np.array([reference.distance(*acc.mean_covariance(without=int(block))) for block in filled])
        b = len(filled)
        stderr = float(np.sqrt((b - 1) / b * ((left_out - left_out.mean()) ** 2).sum()))
        return stderr if np.isfinite(stderr) else None

    def _ready(self) -> FrechetReference:
        if self._reference is None:
            raise RuntimeError("prepare() must be called before samples are added")
        return self._reference
