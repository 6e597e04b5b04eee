"""Checkpoints in safetensors files.

Format: 8 bytes little-endian header length, the header as JSON, then the tensors' bytes
(https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from wsopt.checkpoints._base import CheckpointReader, Snapshot, TensorSpec
from wsopt.checkpoints._names import identify
from wsopt.errors import CheckpointError
from wsopt.files import write_bytes

_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_MAX_HEADER_BYTES = 100_000_000
_STEP = re.compile(r"[0-9]{1,15}")


class SafetensorsReader(CheckpointReader):
    """Single safetensors files."""

    name = "safetensors"

    def recognises(self, path: Path) -> bool:
        """See `CheckpointReader.recognises`."""
        if not path.is_file():
            return False
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(9)
        if len(start) < 9:
            return path.suffix == ".safetensors"
        (length,) = struct.unpack("<Q", start[:8])
        return start[8:9] == b"{" and 2 <= length <= _MAX_HEADER_BYTES and (length + 8 <= size or size < 1 << 20)

    def scan(self, path: Path) -> list[Snapshot]:
        """See `CheckpointReader.scan`."""
        raw, entries = _read_header(path)
        metadata = entries.pop("__metadata__", {})
        tensors: dict[str, TensorSpec] = {}
        end = 0
        for name, entry in entries.items():
            if entry["dtype"] not in _DTYPES:
                raise CheckpointError(f"{path}: tensor {name} has dtype {entry['dtype']}, which wsopt cannot combine.")
            tensors[name] = TensorSpec(tuple(entry["shape"]), _DTYPES[entry["dtype"]])
            end = max(end, entry["data_offsets"][1])
        expected = 8 + len(raw) + end
        found = path.stat().st_size
        if found != expected:
            raise CheckpointError(
                f"{path} is torn: its header announces {expected:,} bytes, the file has {found:,}. "
                f"Restore that file, or save that checkpoint again."
            )
        stream, step = identify(path)
        told = _step_of(path, metadata)
        return [Snapshot(path, "", stream, step if told is None else told, tensors, self, dict(metadata))]

    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        """See `CheckpointReader.load`."""
        path = snapshot.path
        try:
            return safetensors.torch.load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read as safetensors: {error}. Save or copy it again.") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically; the same tensors and metadata always give the same bytes.

    Args:
        path: the file.
        tensors: contiguous, on the CPU.
        metadata: text entries of the header. The library writes several in the order of a hash table that differs
            between processes, so the header is written here, sorted.
    """
    data = safetensors.torch.save(dict(tensors))
    (length,) = struct.unpack_from("<Q", data)
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8 : 8 + length])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    write_bytes(path, struct.pack("<Q", len(text)) + text + data[8 + length :])


def _read_header(path: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else None
            raw = file.read(length) if length is not None and length <= _MAX_HEADER_BYTES else b""
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    if length is None or len(raw) < length:
        raise CheckpointError(
            f"{path} is torn: it ends within its header. Restore that file, or save that checkpoint again."
        )
    try:
        entries = json.loads(raw)
        for name, entry in entries.items():
            _check_entry(name, entry)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file: its header is damaged. Save or copy it again."
        ) from error
    return raw, entries


def _check_entry(name: str, entry: dict[str, Any]) -> None:
    """Raise ValueError, KeyError, TypeError or AttributeError for an entry of the header that is of a wrong type."""
    if name == "__metadata__":
        for value in entry.values():
            # A step is told apart later, with a message of its own.
            if not isinstance(value, str | int | float):
                raise TypeError(name)
        return
    start, end = entry["data_offsets"]
    if not isinstance(entry["dtype"], str) or not isinstance(entry["shape"], list):
        raise TypeError(name)
    for number in (*entry["shape"], start, end):
        if type(number) is not int or not 0 <= number < 1 << 63:
            raise ValueError(name)


def _step_of(path: Path, metadata: Mapping[str, object]) -> int | None:
    if "step" not in metadata:
        return None
    step = metadata["step"]
    if not isinstance(step, str) or not _STEP.fullmatch(step):
        shown = repr(step) if len(repr(step)) <= 40 else f"{repr(step)[:37]}..."
        raise CheckpointError(
            f"{path}: its metadata give the training step as {shown}, which is not a text of 1 to 15 digits. "
            f"Save it again with the step, or without the key step and with the step in its name."
        )
    return int(step)
