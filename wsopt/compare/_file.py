"""The file of a comparison: its schema, and where each of its keys was written."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from wsopt.config import expanded, parse_toml
from wsopt.errors import ConfigError, InputError, Problem
from wsopt.registry import did_you_mean

Path_ = tuple[str, ...]
"""Keys from the top of the file down."""

_MOST_LINES: Final = 3000
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TAKEN: Final = ("cache", "scores", "trained")
"""Folders that runs have beside them."""
_MUST_BE = {
    "string_type": "must be text in quotes",
    "path_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "tuple_type": "must be a list in square brackets",
    "dict_type": "must be a section",
}


class ComparisonFile(BaseModel):
    """What a file of ``wsopt compare`` holds; the tables are looked into by `wsopt.compare.load_cells`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="name of the comparison, and of its folder")
    base: Path = Field(description="config that every cell begins with, from this file's folder")
    jobs: int = Field(default=1, ge=1, le=1024, description="cells that run at a time")
    reference: str | None = Field(
        default=None, description="method that the others are compared with; the first where not given"
    )
    comparisons: tuple[tuple[str, str], ...] | None = Field(
        default=None, description="pairs of methods to test; every other one against the reference where not given"
    )
    tuning: dict[str, str] = Field(default={}, description="how each method's settings were chosen, by method")
    force: tuple[str, ...] = Field(default=(), description="kinds of differences between runs that are allowed")
    common: dict[str, Any] = Field(default={}, description="keys of every cell's config")
    instances: dict[str, Any] = Field(
        default={}, description="lists of equal length, zipped: what methods are paired on"
    )
    methods: dict[str, dict[str, Any]] = Field(default={}, description="what is compared: a section of keys for each")
    sweep: dict[str, Any] = Field(default={}, description="lists of values, one key at a time: a method for each value")
    matrix: dict[str, Any] = Field(default={}, description="lists of values, all combinations: a method for each")

    @field_validator("name")
    @classmethod
    def _slug(cls, value: str) -> str:
        if not _SLUG.fullmatch(value):
            raise ValueError(
                f"must be letters, digits, '.', '_' and '-', beginning with a letter or digit, not {value!r}"
            )
        if value in _TAKEN:
            raise ValueError(f"{value!r} is a folder of the runs themselves; give another name")
        return value

    @field_validator("methods")
    @classmethod
    def _named(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name != name.strip() or not name.isprintable() or not 1 <= len(name) <= 60:
                raise ValueError(f"{name!r} is no name of a method: give 1 to 60 printable characters on one line")
        return value


@dataclass(frozen=True, eq=False)
class Written:
    """A comparison as it was written.

    Args:
        path: its file, as the user wrote it.
        text: what it holds.
        raw: the same as plain values.
        file: the same, validated.
    """

    path: Path
    text: str
    raw: Mapping[str, Any]
    file: ComparisonFile = field(repr=False)

    @property
    def base(self) -> Path:
        """The base config, from the current directory."""
        return self.path.parent / expanded(self.file.base)

    @cached_property
    def lines(self) -> dict[Path_, int]:
        """Keys -> the line, from 1, that they are first mentioned in."""
        return _lines(self.text)

    def problem(self, key: Path_, text: str, name: str | None = None) -> Problem:
        """A problem of the value at `key`; `name` is said in the place of the dotted key."""
        return _problem(self.path, self.lines, key, text, name)


def read_file(path: Path) -> Written:
    """Read the file of a comparison.

    Raises:
        InputError: where it cannot be read.
        ConfigError: with everything that is wrong with its own keys.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the comparison {path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise InputError(
            f"the comparison {path} {reason}. Give a TOML file, or the folders of finished runs."
        ) from error
    raw = parse_toml(path, text)
    try:
        # JSON mode takes a list for a tuple and text for a path, and nothing else for anything.
        file = ComparisonFile.model_validate_json(json.dumps(raw, default=str), strict=True)
    except ValidationError as error:
        lines = _lines(text)
        raise ConfigError(
            [_translate(path, lines, raw, detail) for detail in error.errors(include_url=False)]
        ) from error
    return Written(path, text, raw, file)


def _translate(path: Path, lines: Mapping[Path_, int], raw: Mapping[str, Any], detail: ErrorDetails) -> Problem:
    """A mistake that pydantic found, in the words of the config's messages."""
    loc, kind = detail["loc"], detail["type"]
    key = tuple(str(part) for part in loc if not isinstance(part, int))
    if kind == "missing" and len(loc) == 1:
        return _problem(path, lines, key, f"missing: give the {ComparisonFile.model_fields[key[0]].description}")
    if kind == "extra_forbidden":
        known = sorted(ComparisonFile.model_fields)
        near = did_you_mean(key[-1], known).rstrip() or f"known here: {', '.join(known)}"
        return _problem(path, lines, key, f"unknown key; {near}")
    if kind == "value_error":
        return _problem(path, lines, key, str(detail["ctx"]["error"]))
    if key[:1] == ("comparisons",) and len(loc) > 1:
        return _problem(path, lines, key, 'must be pairs of methods, [["one-plus-one", "lcsc"], ...]')
    words = _MUST_BE.get(kind, detail["msg"].replace("Input should be", "must be"))
    words = words.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    return _problem(path, lines, key, f"{words}, not {json.dumps(_at(raw, key), default=str)[:60]}")


def _at(raw: Any, key: Path_) -> Any:  # noqa: ANN401 - any TOML value
    for part in key:
        raw = raw[part]
    return raw


def _problem(path: Path, lines: Mapping[Path_, int], key: Path_, text: str, name: str | None = None) -> Problem:
    line = next((lines[key[:length]] for length in range(len(key), 0, -1) if key[:length] in lines), None)
    return Problem(str(path) if line is None else f"{path}:{line}", ".".join(key) if name is None else name, text)


def _lines(text: str) -> dict[Path_, int]:
    """The line of every key, found by the parser itself: that after which the text above it is whole.

    A text of n lines is parsed n times, so this is for messages only, and gives up on texts of thousands of lines.
    """
    found: dict[Path_, int] = {}
    lines = text.splitlines(keepends=True)
    whole = 0
    for count in range(1, min(len(lines), _MOST_LINES) + 1):
        try:
            values = tomllib.loads("".join(lines[:count]))
        except (ValueError, RecursionError):
            continue
        for key in _keys(values, ()):
            found.setdefault(key, whole + 1)
        whole = count
    return found


def _keys(values: Mapping[str, Any], prefix: Path_) -> Sequence[Path_]:
    out: list[Path_] = []
    for key, value in values.items():
        out.append((*prefix, key))
        if isinstance(value, dict):
            out += _keys(value, (*prefix, key))
    return out
