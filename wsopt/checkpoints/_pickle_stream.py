"""The opcodes of a pickle, walked without running any, so that an unpickler gets a short and harmless stream.

A pickle is a program for a small stack machine (Python's module pickletools describes it). The walk copies the opcodes
that savers of weights use and refuses all others. It takes out what would cost memory: long byte strings, which hold
the tensors, become references to their place in the file, and lengths are held against the bytes there are before
anything is read.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Final, TypeAlias

from wsopt.checkpoints._pickle_sealed import Sealed

Data: TypeAlias = bytes | mmap.mmap

MAX_OPCODE_BYTES: Final = 1 << 25
"""Bytes of a pickle besides its long byte strings; more is no header of weights."""
_INLINE_BYTES = 64  # a numpy scalar's value stays inline; a storage's smallest header is longer
_MAX_NAME_BYTES = 1024
_MAX_INTEGER_BYTES = 64

_STOP, _FRAME, _GLOBAL, _PERSISTENT, _LONG_BINPUT = b".\x95cQr"
_COUNTED: dict[int, struct.Struct] = {
    code: struct.Struct(layout)
    for codes, layout in ((b"U\x8cC\x8a", "<B"), (b"T\x8b", "<i"), (b"XB", "<I"), (b"\x8d\x8e\x96", "<Q"))
    for code in codes
}
_BYTES = frozenset(b"BC\x8e\x96")
_INTEGERS = frozenset(b"\x8a\x8b")


def _lengths() -> list[int]:
    """By opcode: bytes of it and its argument; 0 where they need a closer look."""
    lengths = [0] * 256
    for codes, length in ((b"(012NRabde}])lstu\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94", 1), (b"Khq\x80", 2),
                          (b"M", 3), (b"Jj", 5), (b"G", 9)):  # fmt: skip
        for code in codes:
            lengths[code] = length
    return lengths


_LENGTHS: Final = _lengths()


@dataclass(frozen=True)
class Blob(Sealed):
    """A byte string left in the file."""

    start: int
    length: int


@dataclass(frozen=True)
class Stream:
    """A pickle without its long byte strings.

    Args:
        opcodes: the pickle; blob i stands in it as the persistent id i.
        blobs: where the long byte strings are.
        end: where the pickle ended.
    """

    opcodes: bytes
    blobs: tuple[Blob, ...]
    end: int


def shorten(data: Data, start: int = 0, *, persistent: bool = False) -> Stream:
    """Walk one pickle of `data`, from `start` on.

    Args:
        data: the bytes, or a mapped file, of which long byte strings are not touched.
        start: where the pickle begins.
        persistent: whether the pickle may have persistent ids of its own (torch's pickles beside the storages); its
            byte strings are refused then.

    Raises:
        EOFError: it does not end.
        UnpicklingError: an opcode, a length or a memo index that no saver of weights writes.
    """
    parts: list[bytes] = []
    blobs: list[Blob] = []
    here = kept = start
    size = len(data)
    limit = start + MAX_OPCODE_BYTES
    while here < size and here <= limit:
        code = data[here]
        if length := _LENGTHS[code]:
            here += length
            continue
        if code == _STOP:
            parts.append(data[kept : here + 1])
            return Stream(b"".join(parts), tuple(blobs), here + 1)
        if code == _LONG_BINPUT:
            here = _memo(data, here, start)
        elif code in _COUNTED:
            after, length = _counted(data, here)
            if code in _BYTES and length > _INLINE_BYTES:
                if persistent:
                    raise UnpicklingError(f"a byte string of {length:,} bytes where none belongs")
                parts += (data[kept:here], b"J" + struct.pack("<i", len(blobs)) + b"Q")
                blobs.append(Blob(after, length))
                kept = after + length
                limit += length
            here = after + length
        elif code == _FRAME:  # a length of what the original had; without frames a pickle is as valid
            parts.append(data[kept:here])
            here = kept = here + 9
        elif code == _GLOBAL:
            here = _line(data, _line(data, here + 1))
        elif code == _PERSISTENT and persistent:
            here += 1
        else:
            raise UnpicklingError(f"opcode 0x{code:02x}, which no saver of weights writes")
    if here > limit:
        raise UnpicklingError(f"more than {MAX_OPCODE_BYTES:,} bytes besides its tensors")
    raise EOFError


def _memo(data: Data, here: int, start: int) -> int:
    index = int.from_bytes(data[here + 1 : here + 5], "little")
    if index > here - start:  # the unpickler would allocate a table up to that index
        raise UnpicklingError(f"memo index {index:,} after {here - start:,} bytes")
    return here + 5


def _counted(data: Data, here: int) -> tuple[int, int]:
    """Where the text, bytes or integer of the opcode at `here` begins, and its length."""
    code = data[here]
    layout = _COUNTED[code]
    after = here + 1 + layout.size
    if after > len(data):
        raise EOFError
    (length,) = layout.unpack(data[here + 1 : after])
    if length < 0 or (code in _INTEGERS and length > _MAX_INTEGER_BYTES):
        raise UnpicklingError(f"a text, byte string or integer of {length:,} bytes")
    if length > len(data) - after:
        raise EOFError
    return after, length


def _line(data: Data, here: int) -> int:
    end = data.find(b"\n", here, here + _MAX_NAME_BYTES)
    if end < 0:
        raise EOFError if here + _MAX_NAME_BYTES > len(data) else UnpicklingError("a name that does not end")
    return end + 1
