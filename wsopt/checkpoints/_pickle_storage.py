"""Tensors that are still in the file, inside a pickle's byte strings.

A storage inside a plain pickle is a byte string in torch's legacy format: five pickles (a magic number, a protocol
version, the system's integer sizes, the storage as a persistent id, a list of keys), the number of values, the values.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO, Final

import torch
from torch import Tensor

from wsopt.checkpoints._base import TensorSpec
from wsopt.checkpoints._pickle_ids import HeaderUnpickler, StorageId
from wsopt.checkpoints._pickle_passive import Array, Dtype
from wsopt.checkpoints._pickle_sealed import Sealed
from wsopt.checkpoints._pickle_stream import Blob, Data, shorten
from wsopt.errors import CheckpointError

MAGIC: Final = 0x1950A86A20F9469CFC6C
LEGACY_START: Final = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""`MAGIC` as it stands pickled at the beginning of a legacy file of torch.save, behind the protocol."""

_NUMPY_DTYPES: dict[str, torch.dtype] = {
    **{"f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "b1": torch.bool, "u1": torch.uint8},
    **{"i1": torch.int8, "i2": torch.int16, "i4": torch.int32, "i8": torch.int64},
}
_MAX_HEADER_BYTES = 1 << 16
_MAX_REPEATED = 1 << 20
_MAX_AXES = 64
_MAX_INFLATION = 16
ZIP_START: Final = b"PK\x03\x04"
ZIP_HEADER_BYTES: Final = 30


@dataclass(frozen=True)
class Storage(Sealed):
    """Values of one dtype.

    Args:
        start: the byte of the file where they begin, or where the header of their zip record does.
        numel: number of values.
        dtype: of the values.
        zipped: whether `start` is a zip record's.
        inline: the values themselves, where they are too few to be left in the file.
    """

    start: int
    numel: int
    dtype: torch.dtype
    zipped: bool = False
    inline: bytes = b""

    def seek(self, file: BinaryIO, offset: int) -> None:
        """Go to value `offset`."""
        start = self.start
        if self.zipped:
            file.seek(start)
            header = file.read(ZIP_HEADER_BYTES)
            if len(header) < ZIP_HEADER_BYTES or not header.startswith(ZIP_START):
                raise EOFError
            start += ZIP_HEADER_BYTES + sum(struct.unpack_from("<HH", header, 26))
        file.seek(start + offset * self.dtype.itemsize)


@dataclass(frozen=True)
class StoredTensor(Sealed):
    """A view of a storage; `offset` and `strides` count values.

    Raises:
        UnpicklingError: it reaches beyond its storage.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        if not _possible(self.shape) or not _possible(self.strides) or not _possible((self.offset,)):
            raise UnpicklingError("a tensor of an impossible shape")
        if len(self.shape) != len(self.strides):
            raise UnpicklingError(f"a tensor of {len(self.shape)} axes with {len(self.strides)} strides")
        numel = math.prod(self.shape)
        # A view may repeat values (stride 0), within reason: nobody saves a network of one value.
        if numel and (self.offset + self._span > self.storage.numel or numel > self.storage.numel + _MAX_REPEATED):
            raise UnpicklingError(f"a tensor of shape {list(self.shape)} in a storage of {self.storage.numel} values")

    @property
    def _span(self) -> int:
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))

    @property
    def dtype(self) -> torch.dtype:
        """Of its values."""
        return self.storage.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def is_floating_point(self) -> bool:
        """As of a tensor."""
        return self.dtype.is_floating_point

    @property
    def spec(self) -> TensorSpec:
        """Shape and dtype."""
        return TensorSpec(self.shape, self.storage.dtype)

    def read(self, file: BinaryIO) -> Tensor:
        """Its values, contiguous, in memory of their own.

        Raises:
            EOFError: the file has become shorter.
        """
        dtype = self.storage.dtype
        if not math.prod(self.shape):
            return torch.empty(self.shape, dtype=dtype)
        source: Any = io.BytesIO(self.storage.inline) if self.storage.inline else file
        self.storage.seek(source, self.offset)
        data = bytearray(self._span * dtype.itemsize)
        if source.readinto(data) < len(data):
            raise EOFError
        return torch.frombuffer(data, dtype=dtype).as_strided(self.shape, self.strides).contiguous()


def refuse_inflated(path: Path, specs: Iterable[TensorSpec]) -> None:
    """Raise CheckpointError where tensors would take far more memory than the file `path` has bytes."""
    size, total = path.stat().st_size, sum(spec.nbytes for spec in specs)
    if total > _MAX_INFLATION * size + _MAX_REPEATED * _MAX_AXES:
        raise CheckpointError(
            f"{path} has {size:,} bytes, and its tensors would take {total:,}: they repeat the same values, or "
            f"are compressed. Save copies of them: torch.save({{name: tensor.clone() for ...}}, ...)."
        )


def read_storage(data: Data, blob: Blob) -> Storage:
    """The storage in `blob`, by its header alone.

    Raises:
        Exception: of many kinds, where it is damaged or no storage of a plain dtype.
    """
    header = data[blob.start : blob.start + min(blob.length, _MAX_HEADER_BYTES)]
    end = 0
    values: list[Any] = []
    for _ in range(5):
        stream = shorten(header, end, persistent=True)
        values.append(HeaderUnpickler(stream.opcodes).load())
        end = stream.end
    magic, _, system, one, _ = values
    if magic != MAGIC or not isinstance(one, StorageId) or not isinstance(system, dict):
        raise UnpicklingError("a byte string that is no storage of torch")
    if system.get("little_endian", True) is not True:
        raise UnpicklingError("a storage that was saved on a big-endian machine")
    (numel,) = struct.unpack_from("<q", header, end)
    if numel != one.numel or end + 8 + one.nbytes != blob.length:
        raise UnpicklingError(f"a storage of {one.numel:,} values whose byte string has another length")
    start = blob.start + end + 8
    if one.view is None:
        return Storage(start, numel, one.dtype)
    _, first, count = one.view
    if type(first) is not int or type(count) is not int or not 0 <= first <= first + count <= numel:
        raise UnpicklingError("a part of a storage that is not inside it")
    return Storage(start + first * one.dtype.itemsize, count, one.dtype)


def stored_array(array: Array) -> StoredTensor | None:
    """A numpy array as a tensor; None where torch has no such dtype.

    Raises:
        UnpicklingError: its bytes do not fit its shape.
    """
    dtype = _NUMPY_DTYPES.get(array.dtype.name) if isinstance(array.dtype, Dtype) else None
    if dtype is None or not isinstance(array.data, Blob | bytes | bytearray) or not isinstance(array.shape, tuple):
        return None
    if not _possible(array.shape):
        raise UnpicklingError("an array of an impossible shape")
    numel = math.prod(array.shape)
    length = array.data.length if isinstance(array.data, Blob) else len(array.data)
    if length != numel * dtype.itemsize:
        raise UnpicklingError(f"an array of shape {list(array.shape)} that has {length} bytes")
    if isinstance(array.data, Blob):
        storage = Storage(array.data.start, numel, dtype)
    else:
        storage = Storage(0, numel, dtype, inline=bytes(array.data))
    return StoredTensor(storage, 0, array.shape, _strides(array.shape, array.fortran is True))


def _possible(sizes: tuple[Any, ...]) -> bool:
    """True for few enough whole numbers that their product takes no time."""
    return len(sizes) <= _MAX_AXES and all(type(size) is int and 0 <= size < 1 << 63 for size in sizes)


def _strides(shape: tuple[int, ...], fortran: bool) -> tuple[int, ...]:
    strides: list[int] = []
    step = 1
    for size in shape if fortran else reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(strides if fortran else reversed(strides))
