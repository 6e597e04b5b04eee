"""Line numbers of the keys of a TOML text that `tomllib` has accepted (which reports none itself)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import TypeAlias

Key: TypeAlias = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\n#]+")
# Order matters: a long string begins with the same quote as a short one.
_STRING = re.compile(r'"""(?:\\.|[^\\])*?"""+|' r"'''.*?'''+|" r'"(?:\\.|[^"\\\n])*"|' r"'[^'\n]*'", re.DOTALL)


def key_lines(text: str) -> dict[Key, int]:
    """Key path -> line (from 1) of its first mention.

    Paths hold strings, and numbers for the elements of arrays. Tables that dotted keys imply have the line of the
    first such key.

    Args:
        text: valid TOML.
    """
    return _Scanner(text).lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Key, int] = {}
        self._scan()

    def _scan(self) -> None:
        table: Key = ()
        counts: dict[Key, int] = {}
        self._blank()
        while self.at < len(self.text):
            start = self.at
            if self.text.startswith("[", start):
                double = self.text.startswith("[[", start)
                self.at += 2 if double else 1
                table = _inside(counts, self._dotted(), whole=not double)
                self.at += 2 if double else 1
                if double:
                    counts[table] = counts.get(table, -1) + 1
                    self._mention(table, start)
                    table = (*table, counts[table])
                self._mention(table, start)
            else:
                self._pair(table)
            self._blank()

    def _pair(self, table: Key) -> None:
        start = self.at
        key = (*table, *self._dotted())
        self._mention(key, start)
        self.at += 1  # the equals sign
        self._value(key)

    def _dotted(self) -> Key:
        parts: list[str | int] = []
        while True:
            self._blank()
            match = _BARE.match(self.text, self.at)
            if match:
                parts.append(match.group())
            else:
                match = self._match(_STRING)
                parts.append(next(iter(tomllib.loads(f"{match.group()} = 0"))))
            self.at = match.end()
            self._blank()
            if not self.text.startswith(".", self.at):
                return tuple(parts)
            self.at += 1

    def _value(self, key: Key) -> None:
        self._blank()
        opening = self.text[self.at]
        if opening in "[{":
            self._items(key, "]" if opening == "[" else "}")
        else:
            self.at = self._match(_STRING if opening in "\"'" else _SCALAR).end()

    def _items(self, key: Key, closing: str) -> None:
        self.at += 1
        index = 0
        self._blank()
        while not self.text.startswith(closing, self.at):
            if closing == "]":
                self._mention((*key, index), self.at)
                self._value((*key, index))
            else:
                self._pair(key)
            index += 1
            self._blank()
            if self.text.startswith(",", self.at):
                self.at += 1
                self._blank()
        self.at += 1

    def _mention(self, key: Key, start: int) -> None:
        line = self.text.count("\n", 0, start) + 1
        for length in range(1, len(key) + 1):
            self.lines.setdefault(key[:length], line)

    def _blank(self) -> None:
        match = _BLANK.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(f"not valid TOML at character {self.at}")
        return match


def _inside(counts: Mapping[Key, int], header: Key, whole: bool) -> Key:
    """The path of a table header, which means the latest element of every array of tables that it passes."""
    path: Key = ()
    for depth, part in enumerate(header, start=1):
        path = (*path, part)
        if path in counts and (whole or depth < len(header)):
            path = (*path, counts[path])
    return path
