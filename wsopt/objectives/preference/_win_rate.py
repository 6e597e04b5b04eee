"""`win-rate`: how often a scorer prefers the samples to a baseline's."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from importlib import import_module

import numpy as np

from wsopt.config.params import WinRateParams
from wsopt.objectives.preference._base import Scorer, prompts_of, shared
from wsopt.objectives.preference._baseline import Baseline, open_baseline
from wsopt.objectives.preference._mean import SampleMean, SampleValues
from wsopt.objectives.preference._wilson import wilson_interval
from wsopt.objectives.references import Reference
from wsopt.types import Batch, FloatArray, Score

_SCORERS = {
    "pickscore": ("wsopt.objectives.preference._clip_scorers", "PickScorer"),
    "clip-score": ("wsopt.objectives.preference._clip_scorers", "ClipScorer"),
    "image-reward": ("wsopt.objectives.preference.image_reward", "ImageRewardScorer"),
}


class WinRate(SampleMean):
    """The samples against baseline images of the same prompts and sample indices.

    With g the sample's score minus the baseline image's and p = sigmoid(g) the probability that the sample is preferred
    (Kirstain et al. 2023, section 4), the value is the mean over samples of

    ===============  ==============================================================================================
    ``rate``         1 where the sample wins, 1/2 for a tie, else 0; a tie is abs(p - (1 - p)) <= threshold
                     (LCSC's WR@PKS and WR@IR). `wilson_interval` gives its interval
    ``preference``   p; the preferences of two methods for each other sum to 1 (LCSC's PKS, table 6)
    ``gap``          g: no two candidates tie, so it is the one to search with
    ===============  ==============================================================================================

    The probability is that of the scorer's own training for PickScore, ImageReward and the scale ``logit`` of the CLIP
    score; ``cosine`` and ``hessel`` make every p close to 1/2.

    Args:
        params: scorer, baseline and value.
    """

    name = "win-rate"

    def __init__(self, params: WinRateParams) -> None:
        self._params = params
        self._scorer: Scorer | None = None
        self._baseline: Baseline | None = None

    def prepare(self, reference: Reference | None) -> None:
        """Loads the scorer and looks the baseline's files up; a reference is not looked at.

        Raises:
            InputError: where one of them cannot be found or loaded.
            MissingDependencyError: where the scorer needs a package that is not installed.
        """
        path = self._params.baseline
        self._baseline = shared(("baseline", path), lambda: open_baseline(path))
        module, name = _SCORERS[self._params.scorer]
        params = getattr(self._params, self._params.scorer.replace("-", "_"))
        self._scorer = shared((name, params), lambda: getattr(import_module(module), name)(params))

    @property
    def digest(self) -> str:
        """SHA-256 over the scorer's digest and the baseline's images."""
        scorer, baseline = self._ready()
        return hashlib.sha256(f"{scorer.digest} {baseline.digest}".encode()).hexdigest()

    def values(self, batch: Batch) -> FloatArray:
        """See `SampleMean.values`."""
        scorer, baseline = self._ready()
        prompts = prompts_of(batch, self.name)
        own = scorer.scores(batch.images, prompts).double().cpu().numpy()
        others = baseline.scores(scorer, batch.indices, prompts, batch.images.device)
        gaps = own - np.asarray(others, dtype=np.float64)
        if self._params.value == "gap":
            return gaps
        return preferences(gaps) if self._params.value == "preference" else wins(gaps, self._params.threshold)

    def score(self, acc: SampleValues, stderr: bool = True) -> Score:
        """See `Objective.score`; a rate has its Wilson interval with it (95 %)."""
        found = super().score(acc, stderr)
        if not stderr or self._params.value != "rate" or not math.isfinite(found.value):
            return found
        return replace(found, interval=wilson_interval(found.value, found.samples))

    def _ready(self) -> tuple[Scorer, Baseline]:
        if self._scorer is None or self._baseline is None:
            raise RuntimeError("prepare() must be called before samples are added")
        return self._scorer, self._baseline


def preferences(gaps: FloatArray) -> FloatArray:
    """Probability that the first of two images is preferred, sigmoid(gap), from the gaps of their scores."""
    # This form of the sigmoid overflows nowhere.
    return 0.5 * (1 + np.tanh(gaps / 2))


def wins(gaps: FloatArray, threshold: float = 0.0) -> FloatArray:
    """1 where the first of two images wins, 0.5 for a tie, 0 where it loses; NaN for a gap that is NaN.

    Args:
        gaps: ``[N]`` first score minus second.
        threshold: the two probabilities of being preferred tie where they differ by no more.
    """
    differences = np.tanh(gaps / 2)
    won = np.where(np.abs(differences) <= threshold, 0.5, (gaps > 0).astype(np.float64))
    return np.where(np.isnan(gaps), np.nan, won)
