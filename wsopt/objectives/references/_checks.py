"""What makes statistics usable: moments that belong together, and conventions that fit the generated samples'."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wsopt.errors import InputError
from wsopt.objectives.references._base import WHOLE_LEVELS, Reference
from wsopt.types import FloatArray

_ASYMMETRY = 1e-5  # of the largest entry; statistics that went through float32 are off by 1e-7
_AGAIN = "Compute the statistics again, or fetch the file again."


def checked_moments(
    where: str, names: tuple[str, str], mean: NDArray[np.generic], covariance: NDArray[np.generic]
) -> tuple[FloatArray, FloatArray]:
    """Mean and covariance in float64.

    Args:
        where: the file, for messages.
        names: what the two are called in it.
        mean: ``[d]`` of any real type.
        covariance: ``[d, d]`` of any real type.

    Raises:
        InputError: where shapes do not fit together, or numbers are not finite, not symmetric or no variances.
    """
    mu, sigma = names
    for name, array in ((mu, mean), (sigma, covariance)):
        if array.dtype.kind not in "fiu":
            raise InputError(f"{where}: {name} holds {array.dtype}, expected real numbers. {_AGAIN}")
    if mean.ndim != 1 or mean.size == 0:
        raise InputError(f"{where}: {mu} has shape {list(mean.shape)}, expected [d]. {_AGAIN}")
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        raise InputError(f"{where}: {sigma} has shape {list(covariance.shape)}, expected a square [d, d]. {_AGAIN}")
    if len(covariance) != mean.size:
        raise InputError(
            f"{where}: {mu} has {mean.size} entries and {sigma} is for {len(covariance)} dimensions. They are of two "
            f"feature spaces; {_AGAIN[0].lower()}{_AGAIN[1:]}"
        )
    means, square = np.asarray(mean, dtype=np.float64), np.asarray(covariance, dtype=np.float64)
    for name, numbers in ((mu, means), (sigma, square)):
        if not np.isfinite(numbers).all():
            raise InputError(f"{where}: {name} holds NaN or infinite values. {_AGAIN}")
    largest = float(np.abs(square).max())
    apart = float(np.abs(square - square.T).max())
    if apart > _ASYMMETRY * largest:
        raise InputError(
            f"{where}: {sigma} is not symmetric (entries differ by up to {apart:.3g}, the largest is {largest:.3g}), "
            f"so it is no covariance. {_AGAIN}"
        )
    if float(np.diagonal(square).min()) < 0:
        raise InputError(f"{where}: {sigma} has negative variances on its diagonal, so it is no covariance. {_AGAIN}")
    return means, square


def check_fits(
    reference: Reference,
    extractor_name: str,
    extractor_digest: str,
    dimension: int,
    quantize: str,
    output: str = "features",
) -> str:
    """Refuse to compare samples with a reference that was made by another extractor or convention.

    Args:
        reference: the real data.
        extractor_name: what the samples' features are called.
        extractor_digest: `FeatureExtractor.digest` of the samples' features.
        dimension: d of the samples' features.
        quantize: how the samples' pixels are quantised.
        output: which output of the extractor the samples' features are.

    Returns:
        What cannot be checked, because the reference's file does not say, and how to label it; empty where all is
        known to fit.

    Raises:
        InputError: with the reason, where they do not fit.
    """
    labelled = bool(reference.extractor_digest)
    whose = f"of features {reference.features!r}" if reference.features else "of unknown features"
    if reference.dimension != dimension:
        raise InputError(
            f"reference {reference.name} ({whose}) has d = {reference.dimension}, features {extractor_name!r} have "
            f"d = {dimension}: a distance between two feature spaces means nothing. {_remake(extractor_name)}"
        )
    if labelled and reference.output != output:
        raise InputError(
            f"reference {reference.name} holds the output {reference.output!r} {whose}, here {output!r} is measured. "
            f"{_remake(extractor_name)}"
        )
    if labelled and reference.extractor_digest != extractor_digest:
        same = reference.features == extractor_name
        raise InputError(
            f"reference {reference.name} was made with "
            f"{'other weights or another preprocessing of ' if same else ''}features {reference.features!r} (digest "
            f"{reference.extractor_digest[:12]}), the samples are measured with {extractor_name!r} (digest "
            f"{extractor_digest[:12]}): their distance means nothing. {_remake(extractor_name)}"
        )
    if reference.quantize not in ("", WHOLE_LEVELS, quantize):
        raise InputError(
            f"the real images of reference {reference.name} were quantised by {reference.quantize!r}, the samples are "
            f"by {quantize!r}, so a perfect model would not score 0. Set objective.quantize = {reference.quantize!r}, "
            f"or make the reference with --quantize {quantize}."
        )
    return _unchecked(reference, extractor_name)


def _unchecked(reference: Reference, extractor_name: str) -> str:
    unknown = []
    if not reference.extractor_digest:
        unknown.append(f"that its features are {extractor_name!r}")
    if not reference.quantize:
        unknown.append("how its pixels were quantised")
    if not unknown:
        return ""
    return (
        f"reference {reference.name} does not say what it was made with, so nothing checks {' and '.join(unknown)}. To "
        f"label it: wsopt reference make FILE --features {extractor_name} --out LABELLED.safetensors"
    )


def _remake(extractor_name: str) -> str:
    return f"Make one of the same data: wsopt reference make SOURCE --features {extractor_name} --out FILE."
