"""Features `callable`: any Python function of images as a feature extractor."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from wsopt.config.params import CallableFeaturesParams, FunctionRef
from wsopt.errors import InputError
from wsopt.objectives._base import FeatureExtractor
from wsopt.objectives._global_state import fixed_random_state
from wsopt.objectives.callable import check_arguments


def source_digest(ref: FunctionRef) -> str:
    """SHA-256 over the function's name and the bytes of the file that it is in.

    What that file imports or reads is not in it. Of a module without a source file only the name is.

    Raises:
        InputError: where the file cannot be read.
    """
    total = hashlib.sha256(f"{ref.name}\0".encode())
    path = ref.file or _source_of(ref.where)
    if path is None:
        total.update(ref.where.encode())
        return total.hexdigest()
    try:
        total.update(path.read_bytes())
    except OSError as error:
        raise InputError(f"{ref}: {path} cannot be read ({error.strerror}). Give a Python file.") from error
    return total.hexdigest()


def _source_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin is not None else None


class CallableFeatures(FeatureExtractor):
    """What a function gives for images.

    ``function(images, **arguments)`` gets ``[N, C, H, W]`` float32 grey levels in [0, 255], on the device where they
    were made and without gradients, and returns ``[N, d]`` numbers as a tensor or array. It must give every image the
    same features in whatever batch it comes. The global random generators are in the same state at every call, and are
    put back afterwards.

    Args:
        params: the function and its arguments.
    """

    name: ClassVar[str] = "callable"

    def __init__(self, params: CallableFeaturesParams) -> None:
        self._params = params
        self._dimension: int | None = None

    @property
    def dimension(self) -> int:
        """d, known from the first call on.

        Raises:
            RuntimeError: before it.
        """
        if self._dimension is None:
            raise RuntimeError(f"how many features {self._params.function} gives is known after its first call")
        return self._dimension

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the source (`source_digest`) and the arguments."""
        arguments = json.dumps(self._params.arguments, sort_keys=True)
        return hashlib.sha256(f"{source_digest(self._params.function)} {arguments}".encode()).hexdigest()

    def __call__(self, images: Tensor) -> Tensor:
        """Features of images: ``[N, d]`` float32 on the device of `images`.

        Raises:
            InputError: where the function does not return ``[N, d]`` numbers, or not as many per image as before.
        """
        with fixed_random_state(images.device), torch.no_grad():
            # A copy: what it changes in place, other extractors would see.
            result = self._function(images.clone(), **self._params.arguments)
        found = torch.from_numpy(result) if isinstance(result, np.ndarray) else result
        if not isinstance(found, Tensor):
            raise self._wrong(f"a {type(result).__name__}", len(images))
        if found.is_complex():
            raise self._wrong("complex numbers", len(images))
        if found.ndim != 2 or len(found) != len(images):
            raise self._wrong(f"shape {list(found.shape)}", len(images))
        if self._dimension not in (None, found.shape[1]):
            raise self._wrong(f"shape {list(found.shape)}, before that {self._dimension} per image", len(images))
        self._dimension = found.shape[1]
        return found.detach().to(images.device, torch.float32)

    def _wrong(self, what: str, count: int) -> InputError:
        return InputError(
            f"{self._params.function} returned {what} for {count} images; features must be real numbers of shape "
            f"[{count}, d], with the same d for all images."
        )

    @cached_property
    def _function(self) -> Callable[..., Any]:
        function = self._params.function.load()
        check_arguments(function, self._params.function, "images", self._params.arguments)
        return function
