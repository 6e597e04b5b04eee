"""CLIP: image features, and how well an image fits a text. Needs the extra ``clip`` (the package transformers)."""

from wsopt.objectives.clip._hub import frozen, load_network, model_folder, network_digest, transformers_package
from wsopt.objectives.clip._preprocess import Preprocessing, as_rgb, check_size, normalised, resized
from wsopt.objectives.clip.features import ClipFeatures, VisionFeatures
from wsopt.objectives.clip.similarity import ClipSimilarity, load_tokenizer

__all__ = [
    "ClipFeatures",
    "ClipSimilarity",
    "Preprocessing",
    "VisionFeatures",
    "as_rgb",
    "check_size",
    "frozen",
    "load_network",
    "load_tokenizer",
    "model_folder",
    "network_digest",
    "normalised",
    "resized",
    "transformers_package",
]
