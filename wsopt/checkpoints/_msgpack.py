"""The structure of a msgpack file, without its payloads: binary and extension values are told by where they lie.

Only what `flax.serialization.to_bytes` writes is kept as a value: maps with text keys, lists, numbers, short texts
(https://github.com/msgpack/msgpack/blob/master/spec.md). Every length is held against the bytes that are there, and
depth and number of values are bounded, so that no file costs more than its structure.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

_MAX_DEPTH: Final = 64
_MAX_VALUES: Final = 200_000
_MAX_TEXT: Final = 65_536
_NUMBERS: Final = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_ ./:-]*")
_CONSTANTS: Final = {0xC0: None, 0xC2: False, 0xC3: True}
_LENGTHS: Final = {1: ">B", 2: ">H", 4: ">I"}


class Bytes(Protocol):
    """bytes, or a memory map of a file."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice, /) -> bytes: ...


@dataclass(frozen=True)
class Span:
    """A binary or extension value, or a text too long for a name.

    Args:
        code: of an extension; None otherwise.
        start: its first byte in the file.
        stop: one after its last.
    """

    code: int | None
    start: int
    stop: int


Value: TypeAlias = "dict[str, Value] | list[Value] | int | float | str | Span | None"


class StructureError(ValueError):
    """What is wrong, without the file's name."""


def parse(data: Bytes, start: int = 0, stop: int | None = None) -> Value:
    """The one value in ``data[start:stop]``: dict, list, int, float, bool, None, str or `Span`.

    Raises:
        StructureError: where it is cut off, followed by other bytes, nested too deeply, too large, not msgpack, or has
            a key that is no text or comes twice in one map.
    """
    parser = _Parser(data, start, len(data) if stop is None else stop)
    value = parser.value(0)
    if parser.position != parser.stop:
        raise StructureError(f"{parser.stop - parser.position:,} bytes follow its end")
    return value


def begins_with_names(head: bytes) -> bool:
    """True where `head`, the first bytes of a file, begins a map whose first keys, level by level, are plain names.

    Few other files do: a pickle begins like an empty map, and a name of letters follows by chance only.
    """
    position, named = 0, False
    try:
        for _ in range(_MAX_DEPTH):
            code = head[position]
            if not (0x81 <= code <= 0x8F or code in (0xDE, 0xDF)):
                return named and code != 0xC1
            position += {0xDE: 3, 0xDF: 5}.get(code, 1)
            code = head[position]
            if not (0xA1 <= code <= 0xBF or code == 0xD9):
                return False
            length, position = (head[position + 1], position + 2) if code == 0xD9 else (code & 0x1F, position + 1)
            if not _NAME.fullmatch(head[position : position + length]):
                return False
            position, named = position + length, True
    except IndexError:
        return named
    return False


class _Parser:
    def __init__(self, data: Bytes, start: int, stop: int) -> None:
        self.data, self.position, self.stop = data, start, stop
        self._left = _MAX_VALUES

    def value(self, depth: int) -> Value:
        self._left -= 1
        if depth > _MAX_DEPTH:
            raise StructureError(f"it is nested deeper than {_MAX_DEPTH} levels")
        if self._left < 0:
            raise StructureError(f"it holds more than {_MAX_VALUES:,} values")
        code = self._integer(">B")
        if code < 0x80 or code >= 0xE0:
            return code if code < 0x80 else code - 0x100
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        if code in _NUMBERS:
            return self._number(_NUMBERS[code])
        read, length = self._kind(code)
        return read(length, depth)

    def _kind(self, code: int) -> tuple[Callable[[int, int], Value], int]:
        """How to read what `code` announces, and its length."""
        if code < 0xC0:
            if code < 0xA0:
                return (self._map if code < 0x90 else self._list), code & 0x0F
            return self._text, code & 0x1F
        if 0xD4 <= code <= 0xD8:
            return self._extension, 1 << (code - 0xD4)
        for first, width, read in (
            (0xC4, 1, self._binary), (0xC7, 1, self._extension), (0xD9, 1, self._text),
            (0xDC, 2, self._list), (0xDE, 2, self._map),
        ):  # fmt: skip
            # Each kind has one code per width: 1, 2 and 4 bytes, or 2 and 4.
            widths = [one for one in (1, 2, 4) if one >= width]
            if first <= code < first + len(widths):
                return read, self._integer(_LENGTHS[widths[code - first]])
        raise StructureError(f"byte {self.position - 1:,} is {code:#x}, which begins no value")

    def _take(self, count: int) -> bytes:
        self._skip(count)
        return self.data[self.position - count : self.position]

    def _skip(self, count: int) -> int:
        """The position before; raises where fewer bytes are left."""
        before = self.position
        if count > self.stop - before:
            raise StructureError(
                f"it is cut off: {count:,} bytes should follow byte {before:,}, {self.stop - before:,} are there"
            )
        self.position += count
        return before

    def _number(self, form: str) -> int | float:
        number: int | float = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return number

    def _integer(self, form: str) -> int:
        return int(self._number(form))

    def _binary(self, length: int, depth: int) -> Span:
        return Span(None, self._skip(length), self.position)

    def _extension(self, length: int, depth: int) -> Span:
        code = self._integer(">b")
        return Span(code, self._skip(length), self.position)

    def _text(self, length: int, depth: int) -> str | Span:
        if length > _MAX_TEXT:
            return self._binary(length, depth)
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise StructureError(f"the text before byte {self.position:,} is not UTF-8") from error

    def _list(self, length: int, depth: int) -> list[Value]:
        self._fits(length)
        return [self.value(depth + 1) for _ in range(length)]

    def _map(self, length: int, depth: int) -> dict[str, Value]:
        self._fits(2 * length)
        found: dict[str, Value] = {}
        for _ in range(length):
            key = self.value(depth + 1)
            if not isinstance(key, str):
                raise StructureError(f"the key before byte {self.position:,} is no text")
            if key in found:
                raise StructureError(f"the key {key!r} comes twice in one map")
            found[key] = self.value(depth + 1)
        return found

    def _fits(self, count: int) -> None:
        """A value takes a byte at least: a count beyond the end is told before anything is read."""
        if count > self.stop - self.position:
            raise StructureError(f"it is cut off: {count:,} values should follow byte {self.position:,}")
