"""Reference statistics made from real images in memory."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from wsopt.objectives._base import FeatureExtractor
from wsopt.objectives._quantize import Quantize, to_grey_levels
from wsopt.objectives.references import DerivedCache, Reference, extracting, moments_of, shuffled

_BATCH = 500


def extract(images: NDArray[np.float32], extractor: FeatureExtractor, quantize: Quantize) -> torch.Tensor:
    """Features ``[N, d]`` float32 of images ``[N, C, H, W]`` in [-1, 1]."""
    rows = []
    for at in range(0, len(images), _BATCH):
        # As generated samples lie in memory: other strides make a convolution round otherwise.
        batch = torch.from_numpy(images[at : at + _BATCH]).clone(memory_format=torch.contiguous_format)
        with extracting(extractor.name):
            rows.append(extractor(to_grey_levels(batch, quantize)).float().cpu())
    return torch.cat(rows)


def reference_from_images(
    name: str,
    images: NDArray[np.float32],
    extractor: FeatureExtractor,
    quantize: Quantize,
    *,
    vectors: bool = False,
    cache: DerivedCache | None = None,
) -> Reference:
    """The reference of real images.

    Args:
        name: what the reference is called in results, such as ``digits/train``.
        images: ``[N, C, H, W]`` float32 in [-1, 1]; `Reference.images` gives them again.
        extractor: the feature space.
        quantize: applied to the real images as it is to the generated ones.
        vectors: whether their feature vectors are kept.
        cache: where what is derived from the reference is kept.

    Raises:
        InputError: where there are fewer than two images, or features are not finite.
    """
    rows = extract(images, extractor, quantize).numpy()
    mean, covariance, count = moments_of(f"reference {name}", "features", [rows])
    return Reference(
        name=name,
        features=extractor.name,
        extractor_digest=extractor.digest,
        quantize=quantize,
        mean=mean,
        covariance=covariance,
        samples=count,
        vectors=shuffled(rows) if vectors else None,
        images=lambda: images,
        cache=cache,
    )
