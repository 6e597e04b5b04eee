"""Arrays and scalars as `flax.serialization` packs them into msgpack.

Extension 1 is an array and 3 a numpy scalar: both hold msgpack of (shape, dtype name, bytes). Above a limit (1 GiB) an
array becomes a map with the key ``__msgpack_chunked_array__``, its shape, and one-dimensional chunks.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

import torch
from torch import Tensor

from wsopt.checkpoints._msgpack import Bytes, Span, StructureError, Value, parse

_ARRAY, _SCALAR = 1, 3
_CHUNKED: Final = "__msgpack_chunked_array__"
_DTYPES: Final = {
    name: getattr(torch, name)
    for name in (
        "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
        "float8_e5m2fnuz", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool",
    )
}  # fmt: skip
_MAX_AXES = 32


@dataclass(frozen=True)
class Array:
    """Where an array lies in its file.

    Args:
        shape: as stored.
        dtype: as stored.
        spans: first byte and one after the last, of every chunk, in order.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    spans: tuple[tuple[int, int], ...]


def is_array(value: Value) -> bool:
    """True for what stands for an array in the structure that `parse` gives."""
    if isinstance(value, dict):
        return value.get(_CHUNKED) is True
    return isinstance(value, Span) and value.code in (_ARRAY, _SCALAR)


def array_of(data: Bytes, value: Value) -> Array:
    """The array that `value` stands for.

    Raises:
        StructureError: where shape, dtype and bytes do not fit each other, or torch has no such dtype.
    """
    if isinstance(value, Span):
        return _plain(data, value)
    if not isinstance(value, dict):
        raise StructureError("it is no array")
    shape = _shape(_values(value.get("shape")))
    chunks = [_plain(data, chunk) for chunk in _values(value.get("chunks"))]
    dtypes = {chunk.dtype for chunk in chunks}
    if len(dtypes) != 1 or math.prod(shape) != sum(math.prod(chunk.shape) for chunk in chunks):
        raise StructureError(f"the {len(chunks)} chunks of an array of shape {list(shape)} do not fit together")
    return Array(shape, dtypes.pop(), tuple(span for chunk in chunks for span in chunk.spans))


def read_array(file: BinaryIO, array: Array) -> Tensor:
    """The array as a tensor of its own memory, axes as stored.

    Raises:
        StructureError: where the file ends within it.
    """
    data = bytearray(sum(stop - start for start, stop in array.spans))
    view, position = memoryview(data), 0
    for start, stop in array.spans:
        file.seek(start)
        if file.readinto(view[position : position + stop - start]) != stop - start:  # type: ignore[attr-defined]
            raise StructureError(f"it is cut off: fewer than {stop:,} bytes are there")
        position += stop - start
    if not data:
        return torch.empty(array.shape, dtype=array.dtype)
    return torch.frombuffer(data, dtype=array.dtype).reshape(array.shape)


def scalar_of(data: Bytes, value: Value) -> int | float | None:
    """A finite number: of msgpack, a numpy scalar, or an array of one value; None for everything else.

    A float32 becomes the shortest decimal that stands for it: 0.9999, not 0.9998999834.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if math.isfinite(value) else None
    if not is_array(value):
        return None
    try:
        array = array_of(data, value)
    except StructureError:  # of a dtype that is none of weights
        return None
    if math.prod(array.shape) != 1 or array.dtype == torch.bool:
        return None
    raw = bytearray(b"".join(data[start:stop] for start, stop in array.spans))
    number: int | float = torch.frombuffer(raw, dtype=array.dtype).to(_wide(array.dtype)).item()
    if not math.isfinite(number):
        return None
    return _shortest(number) if array.dtype == torch.float32 else number


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype.is_floating_point else torch.int64


def _plain(data: Bytes, value: Value) -> Array:
    if not isinstance(value, Span) or value.code not in (_ARRAY, _SCALAR):
        raise StructureError("a chunk of an array is none")
    content = parse(data, value.start, value.stop)
    if not isinstance(content, list) or len(content) != 3 or not isinstance(content[2], Span):
        raise StructureError(f"the array at byte {value.start:,} is no triple of shape, dtype and bytes")
    shape, name, held = _shape(content[0]), content[1], content[2]
    dtype = _DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None:
        raise StructureError(f"it has dtype {str(name)[:40]}, which wsopt cannot combine")
    if held.code is not None or math.prod(shape) * dtype.itemsize != held.stop - held.start:
        raise StructureError(
            f"an array of shape {list(shape)} and dtype {name} takes {math.prod(shape) * dtype.itemsize:,} bytes, "
            f"{held.stop - held.start:,} are there"
        )
    return Array(shape, dtype, ((held.start, held.stop),))


def _values(numbered: Value) -> list[Value]:
    """A tuple as Flax packs it: a map with the keys "0", "1", ..."""
    if not isinstance(numbered, dict) or set(numbered) != {str(index) for index in range(len(numbered))}:
        raise StructureError("a chunked array lacks its shape or its chunks")
    return [numbered[str(index)] for index in range(len(numbered))]


def _shape(sizes: Value) -> tuple[int, ...]:
    if not isinstance(sizes, list) or len(sizes) > _MAX_AXES:
        raise StructureError("an array has no shape")
    shape = tuple(size for size in sizes if type(size) is int and 0 <= size < 1 << 48)
    if len(shape) < len(sizes):
        raise StructureError(f"an array has the shape {repr(sizes)[:80]}")
    return shape


def _shortest(number: float) -> float:
    packed = struct.pack("<f", number)
    candidates = (float(f"{number:.{digits}g}") for digits in range(1, 10))
    return next((one for one in candidates if struct.pack("<f", one) == packed), number)
