"""Objectives that are the mean of one number per sample: the accumulator, the jackknife, and the mean of a scorer."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from wsopt.config.params import Params
from wsopt.objectives import Needs, Objective
from wsopt.objectives.jackknife import blocks_of, stderr_of
from wsopt.objectives.preference._base import Scorer, prompts_of, shared
from wsopt.objectives.references import Reference
from wsopt.types import Batch, Direction, FloatArray, Score


@dataclass
class SampleValues:
    """One number per sample: `indices` of the samples, and `values` of the same length."""

    indices: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def ordered(self) -> tuple[FloatArray, FloatArray]:
        """Indices and values ``[N]`` in the order of the indices, so that a sum does not depend on the batches."""
        order = np.argsort(np.asarray(self.indices, dtype=np.int64), kind="stable")
        return np.asarray(self.indices, dtype=np.float64)[order], np.asarray(self.values, dtype=np.float64)[order]


class SampleMean(Objective[SampleValues]):
    """The mean over samples of a number that each has by itself; higher is better.

    The mean has no bias in the number of samples. Its standard error is the delete-a-block jackknife.
    """

    direction: Direction = "maximize"
    needs: Needs = "images"

    @abstractmethod
    def values(self, batch: Batch) -> FloatArray:
        """``[N]`` numbers of the samples of a batch."""

    def of_mean(self, mean: float) -> float:
        """The objective's value where the mean is `mean`."""
        return mean

    def new(self) -> SampleValues:
        """See `Objective.new`."""
        return SampleValues()

    def add(self, acc: SampleValues, batch: Batch) -> SampleValues:
        """See `Objective.add`.

        Raises:
            InputError: where the samples have no prompts.
        """
        acc.values.extend(self.values(batch).tolist())
        acc.indices.extend(int(index) for index in batch.indices)
        return acc

    def merge(self, first: SampleValues, second: SampleValues) -> SampleValues:
        """See `Objective.merge`."""
        return SampleValues(first.indices + second.indices, first.values + second.values)

    def score(self, acc: SampleValues, stderr: bool = True) -> Score:
        """See `Objective.score`; NaN without samples."""
        if not acc.values:
            return Score(float("nan"), None, 0)
        with np.errstate(all="ignore"):
            value = self.of_mean(float(acc.ordered()[1].mean()))
        replicates = self.replicates(acc) if stderr else None
        listed = () if replicates is None else tuple(replicates.tolist())
        return Score(value, stderr_of(replicates), len(acc.values), replicates=listed)

    def replicates(self, acc: SampleValues) -> FloatArray | None:
        """See `Objective.replicates`."""
        indices, values = acc.ordered()
        blocks = blocks_of(indices.astype(np.int64))
        filled = np.unique(blocks)
        if len(filled) < 2:
            return None
        with np.errstate(all="ignore"):
            return np.array([self.of_mean(float(values[blocks != block].mean())) for block in filled])


class MeanScore(SampleMean):
    """The mean score of a scorer over the samples, each with the prompt that it was generated from.

    A subclass names its scorer, which `prepare` loads.

    Args:
        params: of the scorer.
    """

    name: ClassVar[str]
    scorer_class: ClassVar[type[Scorer]]
    _scorer: Scorer | None = None

    def __init__(self, params: Params) -> None:
        self._params = params

    @property
    def scorer(self) -> Scorer:
        """The scorer, once `prepare` was called."""
        if self._scorer is None:
            raise RuntimeError("prepare() must be called before samples are added")
        return self._scorer

    @property
    def digest(self) -> str:
        """Of the scorer."""
        return self.scorer.digest

    def prepare(self, reference: Reference | None) -> None:
        """Loads the scorer, or takes the one that is loaded already; a reference is not looked at.

        Raises:
            InputError: where its files cannot be found or loaded.
            MissingDependencyError: where it needs a package that is not installed.
        """
        made, params = self.scorer_class, self._params
        # The key that a win rate uses.
        self._scorer = shared((made.__name__, params), lambda: made(params))

    def values(self, batch: Batch) -> FloatArray:
        """See `SampleMean.values`."""
        prompts = prompts_of(batch, self.name)
        return np.asarray(self.scorer.scores(batch.images, prompts).double().cpu().numpy(), dtype=np.float64)

    def of_mean(self, mean: float) -> float:
        """See `Scorer.of_mean`."""
        return self.scorer.of_mean(mean)
