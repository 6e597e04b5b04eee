"""Making reference statistics of images, or labelling public statistics, with one pass and bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsopt.errors import InputError
from wsopt.objectives import FeatureExtractor, Quantize, to_grey_levels
from wsopt.objectives.references._base import WHOLE_LEVELS, Reference, ReferenceFacts
from wsopt.objectives.references._collect import check_finite_rows, extracting, moments_of, shuffled
from wsopt.objectives.references._images import ArrayImages, FolderImages, ImageSource
from wsopt.objectives.references._npz import ArrayFile
from wsopt.objectives.references._public import holds_statistics
from wsopt.objectives.references._read import layout_of, read_reference, split_part
from wsopt.progress import Progress
from wsopt.types import FloatArray

_FAR: Final = 10.0  # the mean squared standard score of a right label is at most about 1


@dataclass(frozen=True)
class MakeOptions:
    """How a reference is made.

    Args:
        features: registered name of the extractor.
        params: its parameters as plain data.
        resize: its resizing convention, where it has one.
        quantize: how images that are no whole grey levels are quantised; for public statistics, how theirs were; None
            is ``round`` for the former and whole grey levels for the latter. Images of files are whole already.
        limit: number of images to use, evenly spaced over all; None uses all.
        vectors: number of feature vectors to keep, evenly spaced; 0 keeps none.
        batch_size: images per pass.
        device: where the extractor runs.
        samples: for public statistics that do not say: number of samples they are of.
    """

    features: str
    params: Mapping[str, Any] = field(default_factory=dict)
    resize: str | None = None
    quantize: Quantize | None = None
    limit: int | None = None
    vectors: int = 10_000
    batch_size: int = 250
    device: str = "cpu"
    samples: int | None = None


@dataclass(frozen=True)
class Made:
    """A reference that was made, the facts to write with it, and what the user should know."""

    reference: Reference
    facts: ReferenceFacts
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Images:
    """Images on their way to an extractor: `batches` gives grey levels of the numbers asked for."""

    name: str
    count: int
    shape: tuple[int, int, int]
    quantize: str
    batches: Callable[[NDArray[np.int64], int], Iterator[Tensor]]


def make_from_path(source: str, extractor: FeatureExtractor, options: MakeOptions, progress: Progress) -> Made:
    """A reference of a folder of images, an array of images, or public statistics.

    Args:
        source: folder; .npy or .npz of uint8 images; or any file of `read_reference` (``FILE#clip`` too), which is
            then labelled with the extractor. Where such a file brings images, vectors are taken from them.
        extractor: the feature space.
        options: how.
        progress: where the pass is shown.

    Raises:
        InputError: where the source is missing, torn or of no known kind, or does not fit the extractor or options.
        MissingDependencyError: where image files cannot be read without a package that is not installed.
    """
    _check_device(options.device)
    path, _ = split_part(source)
    if path.is_dir():
        return _of_images(_from_source(FolderImages(path)), extractor, options, progress)
    layout = layout_of(path)
    if layout in ("npz", "npy"):
        file = ArrayFile(path)
        if not holds_statistics(file.headers):
            return _of_images(_from_source(ArrayImages(file)), extractor, options, progress)
    return _labelled(source, extractor, options, progress)


def make_from_dataset(
    name: str, images: NDArray[np.float32], extractor: FeatureExtractor, options: MakeOptions, progress: Progress
) -> Made:
    """A reference of images in memory.

    Args:
        name: of the data set and split, ``digits/train``.
        images: ``[N, C, H, W]`` float32 in [-1, 1].
        extractor: the feature space.
        options: how.
        progress: where the pass is shown.

    Raises:
        InputError: where images and extractor do not fit.
    """
    _check_device(options.device)
    quantize: Quantize = options.quantize or "round"

    def batches(wanted: NDArray[np.int64], size: int) -> Iterator[Tensor]:
        for at in range(0, len(wanted), size):
            yield to_grey_levels(torch.from_numpy(images[wanted[at : at + size]]), quantize)

    channels, height, width = images.shape[1:]
    found = _Images(name, len(images), (channels, height, width), quantize, batches)
    return _of_images(found, extractor, options, progress)


def _from_source(source: ImageSource) -> _Images:
    def batches(wanted: NDArray[np.int64], size: int) -> Iterator[Tensor]:
        for batch in source.read(wanted, size):
            yield torch.from_numpy(batch).to(torch.float32)

    return _Images(source.name, source.count, source.shape, WHOLE_LEVELS, batches)


def _of_images(images: _Images, extractor: FeatureExtractor, options: MakeOptions, progress: Progress) -> Made:
    if options.samples is not None:
        raise InputError("--samples is for statistics that do not say it; images are counted. Leave it out.")
    wanted = _spaced(images.count, options.limit)
    kept: list[NDArray[np.float32]] = []
    batches = _features(images, wanted, extractor, options, progress)
    mean, covariance, count = moments_of(images.name, "features", _kept(batches, len(wanted), options, kept))
    reference = Reference(
        name=images.name,
        features=options.features,
        extractor_digest=extractor.digest,
        quantize=images.quantize,
        mean=mean,
        covariance=covariance,
        samples=count,
        vectors=shuffled(np.concatenate(kept)) if kept else None,
    )
    return Made(reference, _facts(images.name, options, images.shape), _few(reference))


def _labelled(source: str, extractor: FeatureExtractor, options: MakeOptions, progress: Progress) -> Made:
    """Public statistics, with what the user says of them."""
    found = read_reference(source)
    if found.extractor_digest:
        raise InputError(f"{source} is labelled already, with features {found.features!r}. Copy it, or give images.")
    if options.limit is not None:
        raise InputError(f"{source} holds statistics, which cannot be limited to some images. Leave --limit out.")
    if found.output not in extractor.outputs:
        raise InputError(
            f"{source} holds statistics of the output {found.output!r}, which features {options.features!r} do not "
            f"have (theirs: {', '.join(extractor.outputs)}). Choose the features that it was made with."
        )
    if found.output == "features" and found.dimension != extractor.dimension:
        raise InputError(
            f"{source} has d = {found.dimension}, features {options.features!r} have d = {extractor.dimension}: it was "
            f"not made with them. Choose the features that it was made with."
        )
    notes: tuple[str, ...] = ()
    vectors, shape = found.vectors, None
    if vectors is not None:
        vectors = vectors[: options.vectors] if options.vectors else None
    elif found.images is not None and found.output == "features" and options.vectors:
        images = _from_source(ArrayImages(ArrayFile(split_part(source)[0]), "arr_0"))
        wanted = _spaced(images.count, options.vectors)
        rows = list(_features(images, wanted, extractor, options, progress))
        vectors, shape = shuffled(np.concatenate(rows)), images.shape
        check_finite_rows(source, "features", vectors, 0)
        notes = _far_off(source, options.features, vectors, found.mean, found.covariance)
    reference = replace(
        found,
        features=options.features,
        extractor_digest=extractor.digest,
        quantize=options.quantize or WHOLE_LEVELS,
        samples=options.samples or found.samples,
        vectors=vectors,
        images=None,
        cache=None,
    )
    return Made(reference, _facts(found.name, options, shape), notes)


def _features(
    images: _Images,
    wanted: NDArray[np.int64],
    extractor: FeatureExtractor,
    options: MakeOptions,
    progress: Progress,
) -> Iterator[NDArray[np.float32]]:
    """``[N, d]`` float32 of one batch of the wanted images after the other."""
    done = 0
    with progress.stage(f"features of {images.name}", len(wanted)) as stage:
        for batch in images.batches(wanted, options.batch_size):
            # As generated samples lie in memory: other strides make a convolution round otherwise.
            levels = batch.to(options.device).clone(memory_format=torch.contiguous_format)
            with extracting(options.features):
                try:
                    features = extractor(levels).to(torch.float32).cpu().numpy()
                except torch.OutOfMemoryError as error:
                    raise InputError(
                        f"{options.device} has not enough memory for features of {len(batch)} images at once. Give a "
                        f"smaller --batch-size."
                    ) from error
            if features.shape != (len(batch), extractor.dimension):
                raise InputError(
                    f"features {options.features!r} gave shape {list(features.shape)} for {len(batch)} images, "
                    f"expected [{len(batch)}, {extractor.dimension}]. Mend the extractor."
                )
            yield features
            done += len(batch)
            stage.update(done)


def _kept(
    batches: Iterator[NDArray[np.float32]], count: int, options: MakeOptions, kept: list[NDArray[np.float32]]
) -> Iterator[NDArray[np.float32]]:
    """Pass the batches on, and put the rows to keep aside."""
    chosen = _spaced(count, options.vectors) if options.vectors else np.zeros(0, dtype=np.int64)
    first = 0
    for batch in batches:
        here = chosen[(chosen >= first) & (chosen < first + len(batch))] - first
        if len(here):
            kept.append(batch[here])
        first += len(batch)
        yield batch


def _spaced(count: int, number: int | None) -> NDArray[np.int64]:
    """`number` of `count` positions, evenly spaced, ascending; all where there are not more."""
    if number is None or number >= count:
        return np.arange(count, dtype=np.int64)
    return np.arange(number, dtype=np.int64) * count // number


def _facts(source: str, options: MakeOptions, shape: tuple[int, int, int] | None) -> ReferenceFacts:
    return ReferenceFacts(source=source, params=options.params, resize=options.resize, image_shape=shape)


def _few(reference: Reference) -> tuple[str, ...]:
    if reference.samples > reference.dimension:
        return ()
    return (
        f"{reference.samples} images for d = {reference.dimension}: the covariance has no full rank, and distances "
        f"from it are dominated by how few there are.",
    )


def _far_off(
    source: str, features: str, vectors: NDArray[np.float32], mean: FloatArray, covariance: FloatArray
) -> tuple[str, ...]:
    """A note where the features of a file's images are not those that its mean is of."""
    variances = np.diagonal(covariance)
    alive = variances > 1e-6 * variances.max()
    shift = vectors.mean(axis=0, dtype=np.float64) - mean
    squared = float(np.mean(shift[alive] ** 2 / variances[alive])) * len(vectors)
    if squared <= _FAR:
        return ()
    return (
        f"the features {features!r} of the images in {source} have a mean {np.sqrt(squared):.3g} standard errors away "
        f"from its mu (root mean square; a right label gives about 1): it was made with other features or another "
        f"resize.",
    )


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # an AssertionError is torch's without CUDA
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {device}: {reason}. Give a device that is there, as cpu.") from error
