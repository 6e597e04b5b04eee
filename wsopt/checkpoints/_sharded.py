"""Checkpoints split into shards, where an index file tells them: see `wsopt.checkpoints._index`."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from wsopt.checkpoints._base import CheckpointReader, Snapshot, Stream
from wsopt.checkpoints._index import INDEX, indices, load_weights, read_weights, shard_names
from wsopt.checkpoints._library_names import is_foreign_weights
from wsopt.checkpoints._lora_keys import looks_like_lora
from wsopt.checkpoints._names import identify
from wsopt.checkpoints._safetensors import in_order
from wsopt.errors import CheckpointError

_SHARD = re.compile(r".+[0-9]{5,}-of-[0-9]{5,}.*\.(safetensors|bin)")


class ShardedReader(CheckpointReader):
    """Sharded checkpoints: an index file, or a folder where every weights file belongs to one.

    Shards beside their index are recognised and give nothing by themselves, so that each is told once.
    """

    name = "safetensors-sharded"

    def recognises(self, path: Path) -> bool:
        """See `CheckpointReader.recognises`."""
        if path.is_dir():
            return _only_shards(path)
        if not path.is_file():
            return False
        if INDEX.fullmatch(path.name):
            with path.open("rb") as file:
                return file.read(64).lstrip()[:1] in (b"{", b"")
        return _SHARD.fullmatch(path.name) is not None and any(
            path.name in shard_names(index) for index in indices(path.parent)
        )

    def scan(self, path: Path) -> list[Snapshot]:
        """See `CheckpointReader.scan`; one entry per index, and none for a shard."""
        if path.is_file():
            return [self._snapshot(path, path, "")] if INDEX.fullmatch(path.name) else []
        found = indices(path)
        return [self._snapshot(path, index, index.name if len(found) > 1 else "") for index in found]

    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        """See `CheckpointReader.load`."""
        path = snapshot.path
        if path.is_dir():
            found = indices(path)
            if not snapshot.part and len(found) != 1:
                raise CheckpointError(f"{path} holds {len(found)} index files, expected one. Restore the folder.")
            path = path / snapshot.part if snapshot.part else found[0]
        return in_order(path, load_weights(path), snapshot.tensors)

    def _snapshot(self, path: Path, index: Path, part: str) -> Snapshot:
        weights = read_weights(index)
        name = INDEX.fullmatch(index.name)
        stream, step = identify(index.with_name(f"{name['name']}.{name['kind']}")) if name else (Stream(), None)
        if step is None and path.is_dir():
            step = identify(path)[1]
        if looks_like_lora(weights.tensors):
            stream = Stream("lora")
        told = step if weights.step is None else weights.step
        return Snapshot(path, part, stream, told, weights.tensors, self, weights.metadata)


def _only_shards(folder: Path) -> bool:
    """True where `folder` holds an index and no weights file that belongs to none."""
    found = indices(folder)
    if not found:
        return False
    named = set().union(*(shard_names(index) for index in found))
    return not any(is_foreign_weights(entry) and entry.name not in named for entry in folder.iterdir())
