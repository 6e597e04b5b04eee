"""wsopt's own file of reference statistics: safetensors with the numbers, and JSON that says how they came about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

import wsopt
from wsopt.errors import InputError
from wsopt.files import write_bytes
from wsopt.objectives.references._base import Reference, ReferenceFacts
from wsopt.objectives.references._cache import DerivedCache
from wsopt.objectives.references._checks import checked_moments

KEY: Final = "wsopt-reference"
LAYOUT: Final = "wsopt reference statistics"
_VERSION: Final = 1
_AGAIN: Final = "Make it again: wsopt reference make SOURCE --features NAME --out FILE."


class _Metadata(BaseModel):
    """The JSON below the key ``wsopt-reference`` of the file's metadata."""

    model_config = ConfigDict(frozen=True, strict=True)

    version: int
    name: str
    features: str
    params: dict[str, Any]
    extractor_digest: str
    output: str
    resize: str | None
    quantize: str
    samples: int
    ddof: int
    image_shape: tuple[int, int, int] | None
    source: str
    made_by: str
    digest: str


def cache_beside(path: Path) -> DerivedCache:
    """The cache of what is derived from a file of statistics: the folder ``NAME.derived`` beside it."""
    return DerivedCache(path.with_name(f"{path.name}.derived"))


def write_reference(path: Path, reference: Reference, facts: ReferenceFacts) -> None:
    """Write a reference to a file; it is there whole or not at all, and an older file of that name is replaced.

    Args:
        path: the file, ``NAME.safetensors``.
        reference: what to write. Images and cache are not kept.
        facts: how it came about; an empty `made_by` is filled in.

    Raises:
        OSError: where the file cannot be written.
    """
    tensors: dict[str, NDArray[Any]] = {
        "mean": np.asarray(reference.mean, dtype=np.float64),
        "covariance": np.asarray(reference.covariance, dtype=np.float64),
    }
    if reference.vectors is not None:
        tensors["vectors"] = np.asarray(reference.vectors, dtype=np.float32)
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    # Of the numbers as they are written, whatever their types were.
    written = replace(reference, mean=tensors["mean"], covariance=tensors["covariance"], vectors=tensors.get("vectors"))
    metadata = _Metadata(
        version=_VERSION,
        name=reference.name,
        features=reference.features,
        params=dict(facts.params),
        extractor_digest=reference.extractor_digest,
        output=reference.output,
        resize=facts.resize,
        quantize=reference.quantize,
        samples=reference.samples,
        ddof=1,
        image_shape=facts.image_shape,
        source=facts.source,
        made_by=facts.made_by or f"wsopt {wsopt.__version__}",
        digest=written.digest,
    )
    write_bytes(path, save(tensors, {KEY: metadata.model_dump_json()}))


def read_own(path: Path) -> Reference:
    """Read a file of `write_reference`.

    Raises:
        InputError: where it is torn, changed since it was written, of a later version, or another safetensors file.
    """
    tensors, metadata = _contents(path)
    if metadata is None:
        names = ", ".join(sorted(tensors)[:6]) or "none"
        raise InputError(
            f"{path} is a safetensors file without reference statistics (its tensors: {names}). Give a file of "
            f"wsopt reference make, or public statistics."
        )
    said = _said(path, metadata)
    wrong = [name for name in ("mean", "covariance") if name not in tensors]
    if wrong:
        raise InputError(f"{path} has no tensor {wrong[0]!r}. {_AGAIN}")
    mean, covariance = checked_moments(str(path), ("mean", "covariance"), tensors["mean"], tensors["covariance"])
    vectors = tensors.get("vectors")
    if vectors is not None and (vectors.dtype != np.float32 or vectors.shape[1:] != mean.shape):
        raise InputError(
            f"{path}: vectors are {vectors.dtype}{list(vectors.shape)}, expected float32[n, {mean.size}]. {_AGAIN}"
        )
    reference = Reference(
        name=said.name,
        features=said.features,
        extractor_digest=said.extractor_digest,
        quantize=said.quantize,
        mean=mean,
        covariance=covariance,
        samples=said.samples,
        vectors=vectors,
        cache=cache_beside(path),
        output=said.output,
        facts=ReferenceFacts(LAYOUT, said.source, said.params, said.resize, said.image_shape, said.made_by),
    )
    if reference.digest != said.digest:
        raise InputError(f"{path} was changed or damaged since it was written: its digest differs. {_AGAIN}")
    return reference


def _contents(path: Path) -> tuple[Mapping[str, NDArray[Any]], str | None]:
    """The tensors that statistics have and, for a foreign file, the names of what is there."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = (file.metadata() or {}).get(KEY)
            wanted = [name for name in file.keys() if name in ("mean", "covariance", "vectors")]  # noqa: SIM118
            if metadata is None:
                return dict.fromkeys(file.keys(), np.empty(0)), None
            return {name: file.get_tensor(name) for name in wanted}, metadata
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    except SafetensorError as error:
        raise InputError(f"{path} is torn or no safetensors file ({error}). {_AGAIN}") from error


def _said(path: Path, metadata: str) -> _Metadata:
    try:
        version = json.loads(metadata)["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: its metadata {KEY!r} cannot be read ({error}). {_AGAIN}") from error
    if version != _VERSION:
        raise InputError(
            f"{path} is of version {version} of the format, this wsopt reads version {_VERSION}. Update wsopt. {_AGAIN}"
        )
    try:
        return _Metadata.model_validate_json(metadata)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: its metadata {KEY!r} is damaged ({key}: {first['msg']}). {_AGAIN}") from error
