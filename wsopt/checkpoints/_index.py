"""One set of weights in a file, or split into shards with an index that says which tensor lies in which.

The index is a JSON file ``NAME.safetensors.index.json`` with ``weight_map``, tensor name -> shard's file name, and
optional ``metadata`` (huggingface_hub, ``save_torch_state_dict``). diffusers puts a variant before the last suffix:
``NAME.safetensors.index.fp16.json``. The index of torch files is called ``NAME.bin.index.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from wsopt.checkpoints._base import Snapshot, TensorSpec
from wsopt.checkpoints._pointer import refuse_pointer
from wsopt.checkpoints._safetensors import in_order, load_tensors
from wsopt.checkpoints._safetensors_header import read_header, step_of
from wsopt.checkpoints._torch import TorchReader
from wsopt.errors import CheckpointError

INDEX: Final = re.compile(r"(?P<name>.+)\.(?P<kind>safetensors|bin)\.index(?:\.(?P<variant>[A-Za-z0-9_]+))?\.json")

_MAX_JSON_BYTES = 100_000_000


@dataclass(frozen=True)
class Weights:
    """The header of one file, or of an index and all its shards.

    Args:
        tensors: by name; of an index, shard by shard.
        metadata: JSON values that the file holds besides.
        step: training step that the content tells, else None.
    """

    tensors: Mapping[str, TensorSpec]
    metadata: Mapping[str, Any]
    step: int | None


def indices(folder: Path) -> list[Path]:
    """The index files in `folder`, sorted by name."""
    return sorted(entry for entry in folder.iterdir() if INDEX.fullmatch(entry.name) and entry.is_file())


def shard_names(index: Path) -> Collection[str]:
    """The shards that `index` names, and the files beside it that are called like its shards."""
    match = INDEX.fullmatch(index.name)
    if match is None:
        return ()
    own = re.compile(rf"{re.escape(match['name'])}(\.\w+)?-[0-9]+-of-[0-9]+(\.\w+)?\.{match['kind']}")
    called = {entry.name for entry in index.parent.iterdir() if own.fullmatch(entry.name)}
    try:
        return called | _read_index(index)[0].keys()
    except CheckpointError:  # told when it is read
        return called


def read_weights(path: Path) -> Weights:
    """The header of a safetensors file, a torch file, or an index with its shards.

    Raises:
        CheckpointError: where a file is missing or torn, or index and shards contradict each other; the message names
            the file and the tensor.
    """
    if not INDEX.fullmatch(path.name):
        return _read_file(path)
    shards, metadata = _read_index(path)
    tensors: dict[str, TensorSpec] = {}
    for shard, names in shards.items():
        held = _read_file(_existing(path, shard)).tensors
        for name in names:
            if name not in held:
                raise CheckpointError(
                    f"{path} says that tensor {name} is in {shard}, which has none of that name. "
                    f"Restore both from one save."
                )
            tensors[name] = held[name]
        for name in held:
            if name not in names:
                raise CheckpointError(
                    f"{path.with_name(shard)} holds tensor {name}, which {path.name} does not place there. "
                    f"Restore both from one save."
                )
    return Weights(tensors, metadata, step_of(path, metadata))


def load_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, a torch file, or an index with its shards, on the CPU.

    Raises:
        CheckpointError: where one cannot be read.
    """
    if not INDEX.fullmatch(path.name):
        return _load_file(path)
    shards, _ = _read_index(path)
    tensors: dict[str, Tensor] = {}
    for shard, names in shards.items():
        held = _load_file(_existing(path, shard))
        tensors |= in_order(path.with_name(shard), held, names)
    return tensors


def read_json(path: Path, limit: int = _MAX_JSON_BYTES) -> dict[str, Any]:
    """A JSON object, read strictly.

    Args:
        path: the file.
        limit: largest size, in bytes.

    Raises:
        CheckpointError: where it cannot be read, is larger, or is no JSON object.
    """
    refuse_pointer(path)
    try:
        size = path.stat().st_size
        value = json.loads(path.read_bytes()) if size <= limit else None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is torn or damaged: it is no JSON. Restore it, or save it again.") from error
    if not isinstance(value, dict):
        what = "is no JSON object" if size <= limit else f"has {size:,} bytes, too many for its kind"
        raise CheckpointError(f"{path} is damaged: it {what}. Restore it, or save it again.")
    return value


def _read_index(path: Path) -> tuple[dict[str, dict[str, None]], dict[str, Any]]:
    """Shard -> names of its tensors, as an ordered set, and the metadata."""
    content = read_json(path)
    places, metadata = content.get("weight_map"), content.get("metadata") or {}
    if not isinstance(places, dict) or not places or not isinstance(metadata, dict):
        raise CheckpointError(
            f"{path} is no index of a sharded checkpoint: it has no table weight_map of tensors and files. "
            f"Restore it, or save that checkpoint again."
        )
    shards: dict[str, dict[str, None]] = {}
    for name, shard in places.items():
        if not isinstance(shard, str) or Path(shard).name != shard or shard in ("", "..") or "\0" in shard:
            raise CheckpointError(
                f"{path} places tensor {name} in {shard!r}, which is no file name beside it. Save or copy it again."
            )
        shards.setdefault(shard, {})[name] = None
    return shards, metadata


def _existing(index: Path, shard: str) -> Path:
    path = index.with_name(shard)
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing: {index.name} names it as a shard. Restore it, or save that checkpoint again."
        )
    return path


def _read_file(path: Path) -> Weights:
    if path.suffix == ".safetensors":
        header = read_header(path)
        return Weights(header.tensors, header.metadata, header.step)
    found = _torch_snapshot(path)
    return Weights(found.tensors, found.config, None)


def _load_file(path: Path) -> dict[str, Tensor]:
    return load_tensors(path) if path.suffix == ".safetensors" else _torch_snapshot(path).load()


def _torch_snapshot(path: Path) -> Snapshot:
    refuse_pointer(path)
    reader = TorchReader()
    if not reader.recognises(path):
        raise CheckpointError(f"{path} is torn, or was not written by torch.save. Restore it, or save it again.")
    found = reader.scan(path)
    if len(found) != 1:
        raise CheckpointError(f"{path} holds {len(found)} sets of weights, expected one. Save or copy it again.")
    return found[0]
