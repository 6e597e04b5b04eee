"""Files of a training folder: written whole or not at all, by one process at a time."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from safetensors import safe_open
from torch import Tensor

from wsopt.errors import CheckpointError, WsoptError


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to a temporary name in the same folder, sync it, and rename it to `path`."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically; the same tensors and metadata always give the same bytes."""
    data = safetensors.torch.save(dict(tensors))
    # The library writes metadata in the order of a hash table that differs between calls.
    (length,) = struct.unpack_from("<Q", data)
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8 : 8 + length])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_bytes(path, struct.pack("<Q", len(text)) + text + data[8 + length :])


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


def write_json(path: Path, value: object) -> None:
    """Write a JSON file atomically."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of this training.

    Raises:
        CheckpointError: the file holds something else.
    """
    try:
        value = json.loads(path.read_text())
        if not isinstance(value, dict):
            raise ValueError(f"{type(value).__name__} instead of an object")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}). Delete the folder {path.parent} to train again."
        ) from error
    return value


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes; the system releases it when this one dies.

    Raises:
        WsoptError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system: nothing to hold it with
        yield
        return
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise WsoptError(
                f"another process is training in {folder}. Wait for it, then give the command again."
            ) from error
        yield
