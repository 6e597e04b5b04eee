"""`inception-score`: how sure a classifier is of each sample, and how many classes the samples are spread over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsopt.config.params import InceptionScoreParams
from wsopt.objectives._base import Objective, Reference
from wsopt.objectives._vectors import KeptVectors, filled_blocks, scored
from wsopt.objectives.jackknife import BLOCKS, blocks_of
from wsopt.types import Batch, FloatArray, Score

_CHUNK = 4096


class InceptionScore(Objective[KeptVectors]):
    """exp(E KL(p(y|x) || p(y))) (Salimans et al. 2016, section 4), mean over parts of the samples.

    Higher is better, in [1, number of classes]. p(y|x) is the softmax of the extractor's logits, in float64. The
    samples in index order are cut into `splits` parts of ceil(n / splits), the last of them shorter, fewer where n is
    small: those of torchmetrics, which shuffles first. It grows with the size of a part, so values from other sample
    counts or numbers of parts do not compare.

    The standard error is that of the mean, by the jackknife over blocks of samples. Libraries print the standard
    deviation over parts instead (torchmetrics with divisor splits - 1), which is about sqrt(splits) times as large.
    NaN without samples, or where a logit is not finite.
    """

    name = "inception-score"
    version = 1
    direction = "maximize"
    needs = "features"
    output = "logits"

    def __init__(self, params: InceptionScoreParams) -> None:
        self._splits = params.splits

    def prepare(self, reference: Reference | None) -> None:
        """Real data are not looked at. See `Objective.prepare`."""

    def new(self) -> KeptVectors:
        """See `Objective.new`."""
        return KeptVectors()

    def add(self, acc: KeptVectors, batch: Batch) -> KeptVectors:
        """See `Objective.add`; `features` of the batch are logits, ``[N, classes]``."""
        acc.add(batch, self.name, "logits")
        return acc

    def merge(self, first: KeptVectors, second: KeptVectors) -> KeptVectors:
        """See `Objective.merge`."""
        return first.merged(second)

    def score(self, acc: KeptVectors, stderr: bool = True) -> Score:
        """See `Objective.score`."""
        sums = acc.remembered("sums", self._sums)
        return scored(sums.value(), len(acc), self.replicates(acc) if stderr else None)

    def replicates(self, acc: KeptVectors) -> FloatArray | None:
        """See `Objective.replicates`."""
        sums = acc.remembered("sums", self._sums)
        filled = acc.remembered("filled", lambda _, indices: filled_blocks(indices))
        return np.array([sums.value(without=block) for block in filled]) if filled else None

    def _sums(self, logits: Tensor, indices: NDArray[np.int64]) -> _ClassSums:
        n, classes = logits.shape
        size = max(1, -(-n // self._splits))
        parts = max(1, -(-n // size))
        where = (np.arange(n) // size) * BLOCKS + blocks_of(indices)
        place = torch.from_numpy(where)
        shares = torch.zeros(parts * BLOCKS, classes, dtype=torch.float64)
        negative_entropies = torch.zeros(parts * BLOCKS, dtype=torch.float64)
        for rows in torch.split(torch.arange(n), _CHUNK):
            # On a GPU index_add_ would add in another order each time.
            logs = logits[rows].cpu().double().log_softmax(dim=1)
            probabilities = logs.exp()
            shares.index_add_(0, place[rows], probabilities)
            # A class of probability 0 counts 0, where its logarithm overflows to -infinity.
            each = torch.where(probabilities > 0, probabilities * logs, torch.where(logs.isnan(), logs, 0.0))
            negative_entropies.index_add_(0, place[rows], each.sum(dim=1))
        return _ClassSums(
            np.bincount(where, minlength=parts * BLOCKS).reshape(parts, BLOCKS),
            shares.reshape(parts, BLOCKS, classes).numpy(),
            negative_entropies.reshape(parts, BLOCKS).numpy(),
        )


@dataclass(frozen=True)
class _ClassSums:
    """Sums over the samples of each part and block.

    Args:
        counts: ``[parts, BLOCKS]``.
        shares: ``[parts, BLOCKS, classes]`` float64 sums of p(y|x).
        negative_entropies: ``[parts, BLOCKS]`` float64 sums of sum_y p(y|x) log p(y|x), in nats.
    """

    counts: NDArray[np.int64]
    shares: FloatArray
    negative_entropies: FloatArray

    def value(self, without: int | None = None) -> float:
        """Mean over the parts of exp(mean of p log p - marginal's p log p), of all blocks or of all but one."""
        keep = np.arange(BLOCKS) != (-1 if without is None else without)
        counts = self.counts[:, keep].sum(axis=1)
        filled = counts > 0
        if not filled.any():
            return float("nan")
        marginal = self.shares[filled][:, keep].sum(axis=1) / counts[filled, None]
        conditional = self.negative_entropies[filled][:, keep].sum(axis=1) / counts[filled]
        logs = np.log(marginal, where=marginal > 0, out=np.zeros_like(marginal))
        gain = conditional - (marginal * logs).sum(axis=1)
        return float(np.exp(gain).mean())
