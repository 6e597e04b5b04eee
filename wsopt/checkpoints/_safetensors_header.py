"""The header of a safetensors file: read and checked without touching a tensor, and written.

Format: 8 bytes little-endian header length, the header as JSON, then the tensors' bytes, without gaps and overlaps
(https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from wsopt.checkpoints._base import TensorSpec
from wsopt.checkpoints._pointer import refuse_pointer
from wsopt.errors import CheckpointError, InputError

MAX_HEADER_BYTES: Final = 100_000_000

_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}
_CODES: Final[Mapping[torch.dtype, str]] = {dtype: code for code, dtype in _DTYPES.items()}

_MAX_AXES = 64
_STEP = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True)
class Header:
    """What the header tells.

    Args:
        tensors: by name, in the order of the header.
        metadata: its text entries.
        step: the training step that the metadata give under the key ``step``, else None.
    """

    tensors: Mapping[str, TensorSpec]
    metadata: Mapping[str, Any]
    step: int | None


def read_header(path: Path) -> Header:
    """Read and check the header of `path`.

    Raises:
        CheckpointError: where the file is torn, a Git LFS pointer, or its header is damaged or contradicts itself;
            the message names the file and, where there is one, the tensor.
    """
    refuse_pointer(path)
    raw, entries = _read_entries(path)
    metadata = entries.pop("__metadata__", {})
    ends: list[tuple[int, int, str]] = []
    tensors: dict[str, TensorSpec] = {}
    for name, entry in entries.items():
        tensors[name] = _spec(path, name, entry)
        start, end = entry["data_offsets"]
        ends.append((start, end, name))
    ends.sort()
    _check_layout(path, ends)
    expected = 8 + len(raw) + (ends[-1][1] if ends else 0)
    found = path.stat().st_size
    if found != expected:
        cut = next((f"The first tensor cut off is {name}. " for _, end, name in ends if 8 + len(raw) + end > found), "")
        raise CheckpointError(
            f"{path} is torn: its header announces {expected:,} bytes, the file has {found:,}. "
            f"{cut}Restore that file, or save that checkpoint again."
        )
    return Header(tensors, dict(metadata), step_of(path, metadata))


def pack_header(path: Path, tensors: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> bytes:
    """The beginning of a safetensors file, a multiple of 8 bytes long; the same arguments give the same bytes.

    Args:
        path: of the file, for messages.
        tensors: by name, in the order in which their bytes follow.
        metadata: text entries; they are sorted.

    Raises:
        InputError: for a dtype that the format lacks.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    at = 0
    for name, spec in tensors.items():
        if spec.dtype not in _CODES:
            raise InputError(f"{path}: tensor {name} is {spec}, which safetensors cannot hold.")
        offsets = [at, at + spec.nbytes]
        header[name] = {"dtype": _CODES[spec.dtype], "shape": list(spec.shape), "data_offsets": offsets}
        at += spec.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def step_of(path: Path, metadata: Mapping[str, object]) -> int | None:
    """The training step under the key ``step`` of text metadata, or None where there is no such key.

    Raises:
        CheckpointError: where the entry is not a text of 1 to 15 digits.
    """
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


def _read_entries(path: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else None
            raw = file.read(length) if length is not None and length <= MAX_HEADER_BYTES else b""
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    if length is None or len(raw) < length:
        raise CheckpointError(
            f"{path} is torn: it ends within its header. Restore that file, or save that checkpoint again."
        )
    twice: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            twice.append(counts.most_common(1)[0][0])
        return found

    try:
        entries = json.loads(raw, object_pairs_hook=unique)
        for name, entry in entries.items():
            _check_entry(name, entry)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file: its header is damaged. Save or copy it again."
        ) from error
    if twice:
        raise CheckpointError(f"{path} is damaged: its header names {twice[0]} twice. Save or copy it again.")
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
    if len(entry["shape"]) > _MAX_AXES:  # or else the product of its sizes alone could take hours
        raise ValueError(name)
    for number in (*entry["shape"], start, end):
        if type(number) is not int or not 0 <= number < 1 << 63:
            raise ValueError(name)


def _spec(path: Path, name: str, entry: Mapping[str, Any]) -> TensorSpec:
    if entry["dtype"] not in _DTYPES:
        raise CheckpointError(f"{path}: tensor {name} has dtype {entry['dtype']}, which wsopt cannot combine.")
    dtype = _DTYPES[entry["dtype"]]
    start, end = entry["data_offsets"]
    needed = math.prod(entry["shape"]) * dtype.itemsize
    if end - start != needed:
        raise CheckpointError(
            f"{path} is damaged: tensor {name} of shape {entry['shape']} and dtype {entry['dtype']} takes {needed:,} "
            f"bytes, its data_offsets [{start}, {end}] hold {end - start:,}. Save or copy it again."
        )
    return TensorSpec(tuple(entry["shape"]), dtype)


def _check_layout(path: Path, ends: list[tuple[int, int, str]]) -> None:
    position, before = 0, ""
    for start, end, name in ends:
        if start < position:
            raise CheckpointError(
                f"{path} is damaged: tensors {before} and {name} overlap (their data_offsets share bytes). "
                f"Save or copy it again."
            )
        if start > position:
            raise CheckpointError(
                f"{path} is damaged: the {start - position:,} bytes before tensor {name} belong to no tensor. "
                f"Save or copy it again."
            )
        position, before = end, name
