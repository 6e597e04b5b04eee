"""The restricted unpickler: a fixed list of names, none of which runs code; everything else is refused by name.

What the names become are passive objects (`_pickle_passive`) and tensors that stay in the file (`_pickle_storage`).
"""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from wsopt.checkpoints._pickle_ids import ForeignGlobal, HeaderUnpickler, StorageId, storage_id
from wsopt.checkpoints._pickle_passive import stand_in
from wsopt.checkpoints._pickle_sealed import Call
from wsopt.checkpoints._pickle_storage import Storage, StoredTensor, read_storage
from wsopt.checkpoints._pickle_stream import Blob, Data, shorten

Locate = Callable[[StorageId], Storage]
_BUILTIN: dict[str, object] = {
    "builtins.set": set,
    "__builtin__.set": set,
    "collections.OrderedDict": OrderedDict,
}


class _Restricted(HeaderUnpickler):
    """Knows a fixed list of names, none of which runs code."""

    def __init__(self, opcodes: bytes, storage: Callable[[Any], Storage], persistent: Callable[[Any], Any]) -> None:
        super().__init__(opcodes)
        self._persistent = persistent
        self._known: dict[str, object] = {
            **_BUILTIN,
            "torch.storage._load_from_bytes": Call(storage),
            "torch._utils._rebuild_tensor_v2": Call(_tensor),
            "torch._utils._rebuild_parameter": Call(_parameter),
            "torch.Size": Call(_size),
            "_codecs.encode": Call(_latin1),
        }

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """What stands for a name of the list, or a kind of storage."""
        dotted = f"{module}.{name}"
        found = self._known.get(dotted)
        if found is None:
            found = stand_in(dotted)
            if found is None:
                return super().find_class(module, name)
            self._known[dotted] = found
        return found

    def persistent_load(self, pid: Any) -> Any:  # noqa: ANN401
        """What a persistent id stands for."""
        return self._persistent(pid)


def unpickle(path: Path) -> Any:  # noqa: ANN401
    """The value of a pickle in a file of its own; tensors stay in the file.

    Raises:
        ForeignGlobal: it names what is on no list.
        Exception: of many kinds, where it is damaged.
    """
    with path.open("rb") as file:
        if not file.read(1):
            raise EOFError
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            stream = shorten(data)
            # Only `shorten` writes persistent ids: those of the file itself are refused there.
            return _Restricted(stream.opcodes, lambda blob: _storage(data, blob), lambda pid: stream.blobs[pid]).load()


def unpickle_torch(opcodes: bytes, locate: Locate) -> Any:  # noqa: ANN401
    """The value of the pickle in a zip file of torch; tensors stay in the file.

    Args:
        opcodes: the pickle.
        locate: where the values of a storage are.

    Raises:
        ForeignGlobal: it names what is on no list.
        Exception: of many kinds, where it is damaged.
    """
    checked = shorten(opcodes, persistent=True).opcodes
    return _Restricted(checked, _no_storage, lambda pid: locate(storage_id(pid))).load()


def _storage(data: Data, blob: object) -> Storage:
    if not isinstance(blob, Blob):
        raise UnpicklingError("a storage that is no byte string")
    return read_storage(data, blob)


def _no_storage(_: object) -> Storage:
    raise UnpicklingError("a storage inside the list of objects")


def _tensor(storage: object, offset: object, shape: object, strides: object, *rest: object) -> StoredTensor:
    if len(rest) > 2 and rest[2]:  # the values are to be conjugated or negated
        raise ForeignGlobal("torch._utils._rebuild_tensor_v2 with metadata")
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise UnpicklingError("a tensor without a storage")
    return StoredTensor(storage, offset, shape, strides)  # type: ignore[arg-type]


def _parameter(data: object, *_: object) -> StoredTensor:
    if not isinstance(data, StoredTensor):
        raise UnpicklingError("a parameter that is no tensor")
    return data


def _size(values: object) -> tuple[Any, ...]:
    if not isinstance(values, tuple | list):
        raise UnpicklingError("a size that is no tuple")
    return tuple(values)


def _latin1(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise UnpicklingError("a text in a foreign encoding")
    return text.encode("latin1")
