"""Reference statistics: real data, reduced to what a metric needs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsopt.objectives.references._cache import DerivedCache
from wsopt.types import FloatArray

WHOLE_LEVELS = "uint8"
"""`Reference.quantize` of real images that are whole grey levels on disk: every quantisation leaves them alone."""


@dataclass(frozen=True)
class ReferenceFacts:
    """What a file says of how its statistics came about, besides what `Reference` has. Plain data.

    Args:
        layout: what kind of file it was read from, in words; empty before it is written.
        source: the images (or statistics) that it was made from; no folders.
        params: parameters of the feature extractor.
        resize: how images were brought to the extractor's size; None where the extractor has no such parameter.
        image_shape: ``(C, H, W)`` of the images; None where unknown.
        made_by: program and version.
    """

    layout: str = ""
    source: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    resize: str | None = None
    image_shape: tuple[int, int, int] | None = None
    made_by: str = ""


@dataclass(frozen=True, eq=False)
class Reference:
    """Real data, reduced to what a metric needs.

    Args:
        name: the data set and split it was made from (``digits/train``), or a file's name.
        features: registered name of the extractor; empty where the file it was read from does not say.
        extractor_digest: digest of the extractor's weights and preprocessing; empty where the file does not say.
        quantize: how pixels were quantised before the features were taken; ``uint8`` for images that were whole grey
            levels already, which is so under every quantisation; empty where the file does not say.
        mean: ``[d]`` float64.
        covariance: ``[d, d]`` float64, divisor samples - 1.
        samples: number of real samples; 0 where the file does not say.
        vectors: ``[n, d]`` float32 feature vectors, of all samples or of some, evenly spaced; in a fixed shuffled
            order, so that every stretch is a fair sample of them (folders of images are often sorted by class). None
            where they are not kept.
        images: gives ``[n, C, H, W]`` float32 real images in [-1, 1]; None where there are none.
        cache: where what is derived from it is kept; None keeps it nowhere.
        output: which of the extractor's outputs (`FeatureExtractor.outputs`).
        facts: what its file says besides; None where it comes from no file.
    """

    name: str
    features: str
    extractor_digest: str
    quantize: str
    mean: FloatArray
    covariance: FloatArray
    samples: int
    vectors: NDArray[np.float32] | None = None
    images: Callable[[], NDArray[np.float32]] | None = field(default=None, repr=False)
    cache: DerivedCache | None = None
    output: str = "features"
    facts: ReferenceFacts | None = None

    @property
    def dimension(self) -> int:
        """Length of a feature vector."""
        return int(self.mean.size)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the numbers: mean, covariance and, where they are kept, the vectors."""
        total = hashlib.sha256()
        for array in (self.mean, self.covariance, self.vectors):
            if array is not None:
                total.update(f"{array.dtype} {array.shape}\n".encode())
                total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()

    def derived(self, key: str, compute: Callable[[], FloatArray]) -> FloatArray:
        """An array that follows from this reference: from the cache, or computed and put there.

        Args:
            key: what it is, with every setting that it depends on and a version of the formula (``radii-3-v1``).
            compute: gives it.
        """
        return compute() if self.cache is None else self.cache.array(self.digest, key, compute)
