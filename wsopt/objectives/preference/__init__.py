"""Scores of images for their prompts: PickScore, CLIP score, win rates. Networks need the extra ``clip``."""

from wsopt.objectives.preference._base import Scorer, prompts_of, shared
from wsopt.objectives.preference._baseline import Baseline, open_baseline
from wsopt.objectives.preference._clip_scorers import ClipScore, ClipScorer, PickScore, PickScorer
from wsopt.objectives.preference._mean import MeanScore, SampleMean, SampleValues
from wsopt.objectives.preference._wilson import wilson_interval
from wsopt.objectives.preference._win_rate import WinRate, preferences, wins

__all__ = [
    "Baseline",
    "ClipScore",
    "ClipScorer",
    "MeanScore",
    "PickScore",
    "PickScorer",
    "SampleMean",
    "SampleValues",
    "Scorer",
    "WinRate",
    "open_baseline",
    "preferences",
    "prompts_of",
    "shared",
    "wilson_interval",
    "wins",
]
