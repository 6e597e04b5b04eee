"""Reading back the files of a training folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
from safetensors import safe_open
from torch import Tensor

from wsopt.errors import CheckpointError


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file of this training.

    Raises:
        CheckpointError: the file is missing or torn.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}). Delete the folder {path.parent} to train again."
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of this training.

    Raises:
        CheckpointError: the file holds something else.
    """
    try:
        value = json.loads(path.read_text())
        if not isinstance(value, dict):
            raise ValueError(f"{type(value).__name__} instead of an object")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}). Delete the folder {path.parent} to train again."
        ) from error
    return value
