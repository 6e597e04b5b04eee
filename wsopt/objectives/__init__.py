"""Objectives, feature extractors and reference statistics.

What needs transformers or torchmetrics has modules of its own (`clip`, `dinov2`, `preference`, `any_metric`), so that
importing this package stays quick.
"""

from wsopt.objectives._base import AnyObjective, FeatureExtractor, Needs, Objective, Reference
from wsopt.objectives._extractors import DigitsClassifier, DigitsMlp, MnistClassifier, MnistMlp, Pixels
from wsopt.objectives._fid import FrechetClip, FrechetDistance
from wsopt.objectives._inception_score import InceptionScore
from wsopt.objectives._kid import KernelDistance
from wsopt.objectives._precision_recall import Precision, Recall
from wsopt.objectives._quantize import Quantize, to_grey_levels
from wsopt.objectives._reference import extract, reference_from_images
from wsopt.objectives.weighted import Part, Weighted

__all__ = [
    "AnyObjective",
    "DigitsClassifier",
    "DigitsMlp",
    "FeatureExtractor",
    "FrechetClip",
    "FrechetDistance",
    "InceptionScore",
    "KernelDistance",
    "MnistClassifier",
    "MnistMlp",
    "Needs",
    "Objective",
    "Part",
    "Pixels",
    "Precision",
    "Quantize",
    "Recall",
    "Reference",
    "Weighted",
    "extract",
    "reference_from_images",
    "to_grey_levels",
]
