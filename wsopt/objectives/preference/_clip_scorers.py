"""PickScore and CLIP score: both are a CLIP model's cosine of image and prompt, on different scales."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from wsopt.config.params import ClipScoreParams, PickScoreParams
from wsopt.objectives.clip import ClipSimilarity
from wsopt.objectives.preference._base import Scorer, shared
from wsopt.objectives.preference._mean import MeanScore

_WORDS = {
    "cosine": "cosine",
    "torchmetrics": "100 cosine, mean at least 0",
    "hessel": "2.5 max(cosine, 0)",
    "logit": "exp(logit_scale) cosine",
}


class PickScorer(Scorer):
    """PickScore (Kirstain et al. 2023): exp(logit_scale) times the cosine of image and prompt; raw scores are near 20.

    Of two images of one prompt the first is preferred with probability sigmoid(s_1 - s_0).

    Args:
        params: model, processor and resizing.

    Raises:
        InputError: where the model cannot be found or loaded.
        MissingDependencyError: without transformers.
    """

    name: ClassVar[str] = "pickscore"
    scale = _WORDS["logit"]

    def __init__(self, params: PickScoreParams) -> None:
        key = ("clip similarity", params.model, params.processor, params.resize)
        self._clip = shared(key, lambda: ClipSimilarity(params.model, params.processor, params.resize, "pickscore"))

    @property
    def digest(self) -> str:
        """SHA-256 over weights and preprocessing."""
        return self._clip.digest

    def scores(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """See `Scorer.scores`."""
        return self._clip.logit_scale * self._clip.cosines(images, prompts)


class ClipScorer(Scorer):
    """CLIP score: the cosine of image and prompt on one of the four scales in use.

    ====================  ==========================================================================================
    ``cosine``            the cosine; a set's score is the mean
    ``torchmetrics``      100 times the cosine; a set's score is the mean, or 0 where the mean is negative: the mean
                          is clamped, not each sample (torchmetrics 1.9)
    ``hessel``            2.5 max(cosine, 0): each sample is clamped (Hessel et al. 2021, section 3)
    ``logit``             exp(logit_scale) times the cosine (consistency_models' evaluator); nothing is clamped
    ====================  ==========================================================================================

    Args:
        params: model, scale and resizing.

    Raises:
        InputError: where the model cannot be found or loaded.
        MissingDependencyError: without transformers.
    """

    name: ClassVar[str] = "clip-score"

    def __init__(self, params: ClipScoreParams) -> None:
        self._params = params
        key = ("clip similarity", params.model, params.model, params.resize)
        self._clip = shared(key, lambda: ClipSimilarity(params.model, params.model, params.resize, "clip-score"))

    @property
    def digest(self) -> str:
        """SHA-256 over weights, preprocessing and scale."""
        return hashlib.sha256(f"{self._clip.digest} {self._params.scale}".encode()).hexdigest()

    @property
    def scale(self) -> str:
        """What the numbers are."""
        return _WORDS[self._params.scale]

    def scores(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """See `Scorer.scores`."""
        cosines = self._clip.cosines(images, prompts)
        if self._params.scale == "hessel":
            return 2.5 * cosines.clamp(min=0)
        return {"cosine": 1.0, "torchmetrics": 100.0, "logit": self._clip.logit_scale}[self._params.scale] * cosines

    def of_mean(self, mean: float) -> float:
        """See `Scorer.of_mean`: ``torchmetrics`` clamps here. NaN stays NaN."""
        return 0.0 if self._params.scale == "torchmetrics" and mean < 0 else mean


class PickScore(MeanScore):
    """Mean PickScore of the samples (`PickScorer`)."""

    name = "pickscore"
    scorer_class = PickScorer


class ClipScore(MeanScore):
    """Mean CLIP score of the samples (`ClipScorer`)."""

    name = "clip-score"
    scorer_class = ClipScorer
