"""Reference statistics made from real images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from wsopt.objectives._base import FeatureExtractor, Reference
from wsopt.objectives._quantize import Quantize, to_grey_levels
from wsopt.objectives.frechet import Moments

_BATCH = 500


def extract(images: NDArray[np.float32], extractor: FeatureExtractor, quantize: Quantize) -> torch.Tensor:
    """Features ``[N, d]`` float32 of images ``[N, C, H, W]`` in [-1, 1]."""
    batches = [torch.from_numpy(images[at : at + _BATCH]) for at in range(0, len(images), _BATCH)]
    return torch.cat([extractor(to_grey_levels(batch, quantize)).float().cpu() for batch in batches])


def reference_from_images(
    name: str, images: NDArray[np.float32], extractor: FeatureExtractor, quantize: Quantize
) -> Reference:
    """Mean and covariance of the features of real images.

    Args:
        name: what the reference is called in results, such as ``digits/train``.
        images: ``[N, C, H, W]`` float32 in [-1, 1].
        extractor: the feature space.
        quantize: applied to the real images as it is to the generated ones.
    """
    features = extract(images, extractor, quantize).double().numpy()
    moments = Moments.empty(np.zeros(features.shape[1]), 1)
    moments.add(features - features.mean(axis=0), [0] * len(features))
    _, covariance = moments.mean_covariance()
    return Reference(
        name=name,
        features=extractor.name,
        extractor_digest=extractor.digest,
        quantize=quantize,
        mean=features.mean(axis=0),
        covariance=covariance,
        samples=len(features),
    )
