"""Storages as torch's pickles state them, by persistent ids."""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any, Final

import torch

from wsopt.checkpoints._pickle_sealed import Sealed

STORAGE_DTYPES: Final[dict[str, torch.dtype]] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
_MAX_STORAGE_BYTES = 1 << 62


class ForeignGlobal(UnpicklingError):
    """A pickle names what is on no list; the message is the name."""


@dataclass(frozen=True)
class StorageId(Sealed):
    """A storage as a persistent id states it.

    Args:
        key: its record's name in a zip file, or its number in a legacy file.
        dtype: of its values.
        numel: number of them.
        view: key, first value and number of values of a part of it; None for the whole (legacy format).
    """

    key: str
    dtype: torch.dtype
    numel: int
    view: tuple[Any, int, int] | None

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return self.numel * self.dtype.itemsize


class StorageKind:
    """A class of storages, by name."""

    name = ""


class HeaderUnpickler(pickle.Unpickler):
    """Makes storages of persistent ids and knows the names of storages; all others are refused."""

    def __init__(self, opcodes: bytes) -> None:
        super().__init__(io.BytesIO(opcodes))

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """A kind of storage.

        Raises:
            UnpicklingError: for every other name.
        """
        if module in ("torch", "torch.storage", "torch.cuda") and name in STORAGE_DTYPES:
            return type("StorageKind", (StorageKind,), {"name": name})
        raise ForeignGlobal(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:  # noqa: ANN401
        """See `storage_id`."""
        return storage_id(pid)


def storage_id(pid: Any) -> StorageId:  # noqa: ANN401
    """The storage that a persistent id of torch states.

    Raises:
        UnpicklingError: it is no storage of a plain dtype.
    """
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
        raise UnpicklingError("a persistent id that is no storage")
    kind, key, _, numel, *view = pid[1:]
    name = kind.name if isinstance(kind, type) and issubclass(kind, StorageKind) else ""
    if name not in STORAGE_DTYPES or type(numel) is not int or not 0 <= numel <= _MAX_STORAGE_BYTES:
        raise UnpicklingError("a storage of an unknown kind")
    return StorageId(str(key), STORAGE_DTYPES[name], numel, view[0] if view else None)
