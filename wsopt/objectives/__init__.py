"""Objectives, feature extractors and reference statistics."""

from wsopt.objectives._base import AnyObjective, FeatureExtractor, Needs, Objective, Reference
from wsopt.objectives._extractors import DigitsClassifier, DigitsMlp, MnistClassifier, MnistMlp, Pixels
from wsopt.objectives._fid import FrechetDistance
from wsopt.objectives._quantize import Quantize, to_grey_levels
from wsopt.objectives._reference import extract, reference_from_images

__all__ = [
    "AnyObjective",
    "DigitsClassifier",
    "DigitsMlp",
    "FeatureExtractor",
    "FrechetDistance",
    "MnistClassifier",
    "MnistMlp",
    "Needs",
    "Objective",
    "Pixels",
    "Quantize",
    "Reference",
    "extract",
    "reference_from_images",
    "to_grey_levels",
]
