"""Checkpoints in single safetensors files."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Collection, Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from wsopt.checkpoints._base import CheckpointReader, Snapshot, Stream, TensorSpec
from wsopt.checkpoints._lora_keys import looks_like_lora
from wsopt.checkpoints._names import identify
from wsopt.checkpoints._safetensors_header import MAX_HEADER_BYTES, pack_header, read_header
from wsopt.errors import CheckpointError
from wsopt.files import write_bytes

_SHARD = re.compile(r".*-([0-9]{5,})-of-([0-9]{5,})(\.[A-Za-z0-9_]+)?\.safetensors")


class SafetensorsReader(CheckpointReader):
    """Single safetensors files. LoRA files are told by their tensors' names."""

    name = "safetensors"

    def recognises(self, path: Path) -> bool:
        """See `CheckpointReader.recognises`."""
        if not path.is_file():
            return False
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
        if len(start) < 9:
            return path.suffix == ".safetensors"
        (length,) = struct.unpack("<Q", start[:8])
        return start[8:9] == b"{" and 2 <= length <= MAX_HEADER_BYTES and (length + 8 <= size or size < 1 << 20)

    def scan(self, path: Path) -> list[Snapshot]:
        """See `CheckpointReader.scan`."""
        header = read_header(path)
        shard = _SHARD.fullmatch(path.name)
        if shard and int(shard[2]) > 1:
            raise CheckpointError(
                f"{path} is one of {int(shard[2])} shards of a checkpoint, and no index beside it names it. "
                f"Restore the .safetensors.index.json that was saved with it."
            )
        stream, step = identify(path)
        if looks_like_lora(header.tensors):
            stream = Stream("lora")
        told = step if header.step is None else header.step
        if not header.tensors:
            return []
        return [Snapshot(path, "", stream, told, header.tensors, self, header.metadata)]

    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        """See `CheckpointReader.load`."""
        return in_order(snapshot.path, load_tensors(snapshot.path), snapshot.tensors)


def in_order(path: Path, tensors: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """`tensors` of the file `path` in the order of `names`; the library gives them in an order of its own.

    Raises:
        CheckpointError: where the names differ.
    """
    if tensors.keys() != set(names):
        raise CheckpointError(f"{path} holds other tensors than before: it was changed meanwhile. Start again.")
    return {name: tensors[name] for name in names}


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU.

    Raises:
        CheckpointError: where it cannot be read.
    """
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
    names = json.loads(data[8 : 8 + length])  # in the order of their bytes
    specs = {name: TensorSpec(tuple(tensors[name].shape), tensors[name].dtype) for name in names}
    write_bytes(path, pack_header(path, specs, metadata) + data[8 + length :])
