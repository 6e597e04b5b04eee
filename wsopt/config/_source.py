"""The text of a config file and its overrides: raw values, and where each one was written."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from wsopt.config._locate import Key, key_lines
from wsopt.errors import ConfigError, InputError, Problem

_MAX_DEPTH = 100
"""Levels of nesting that a config may have; what reads it further on is recursive."""

_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


class Source:
    """Raw values of a file with `--set` overrides applied.

    Args:
        path: the file, as the user wrote it: TOML, or the resolved.json of a run.
        text: its contents.
        overrides: pairs of dotted key and value text.

    Raises:
        ConfigError: for text that is not TOML.
    """

    def __init__(self, path: Path, text: str, overrides: Sequence[tuple[str, str]] = ()) -> None:
        self.path = path
        self.text = text
        self._written = _parse(path, text)
        self._overrides = tuple(overrides)
        self._lines = {} if path.suffix == ".json" else key_lines(text)
        self._apply()

    @classmethod
    def read(cls, path: Path, overrides: Sequence[tuple[str, str]] = ()) -> Source:
        """Read `path`.

        Raises:
            InputError: where it cannot be read.
            ConfigError: where it is not TOML.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                f"the config file {path} is not UTF-8 text (byte {error.start}). Save it as UTF-8."
            ) from error
        except OSError as error:
            reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise InputError(f"the config file {path} {reason}. Give the path of a TOML file.") from error
        return cls(path, text, overrides)

    def problem(self, key: Key, text: str) -> Problem:
        """A problem of the value at `key`, or of its absence, with the place where it was written."""
        option = self.option(key) or self._option_below(key)
        if option is not None:
            return Problem(option, "" if self._options.get(key) == option else dotted(key), text)
        lengths = range(len(key), 0, -1)
        line = next((self._lines[key[:length]] for length in lengths if key[:length] in self._lines), None)
        return Problem(str(self.path) if line is None else f"{self.path}:{line}", dotted(key), text)

    def order(self, problem: Problem) -> tuple[int, int]:
        """Sort key of problems: those of the file as a whole, those of its lines from the top, those of options."""
        if problem.where.startswith("--"):
            return 2, 0
        line = problem.where.rpartition(":")[2]
        return (1, int(line)) if line.isdigit() and problem.where != str(self.path) else (0, 0)

    def option(self, key: Key) -> str | None:
        """The `--set` option that gave the value at `key`; None where the file did."""
        lengths = range(len(key), 0, -1)
        return next((self._options[key[:length]] for length in lengths if key[:length] in self._options), None)

    def _option_below(self, key: Key) -> str | None:
        """The option that made the section `key`, which the file does not have."""
        if key in self._lines:
            return None
        return next((option for path, option in self._options.items() if path[: len(key)] == key), None)

    def folder(self, key: Key) -> Path:
        """The folder that a relative path at `key` starts from: the file's, or the current one for an option."""
        return Path.cwd() if self.option(key) is not None else self.path.parent

    def given(self, key: Key) -> bool:
        """True where the file or an option has a value at `key`."""
        value: Any = self.values
        for part in key:
            if not isinstance(value, dict) or part not in value:
                return False
            value = value[part]
        return True

    def written(self, section: str) -> dict[str, Any]:
        """A section of the file alone; empty where it has none."""
        table = self._written.get(section)
        return table if isinstance(table, dict) else {}

    def writes(self, section: str) -> bool:
        """True where the file itself has the section."""
        return section in self._written

    def replaced(self, section: str) -> Any:  # noqa: ANN401 - any TOML value
        """The name that an override gives to the component of `section`; None where none does.

        An override of the section as a whole leaves nothing of the file's, and does not count.
        """
        if (section, "name") not in self._options or (section,) in self._options:
            return None
        return self.values[section]["name"]

    def leave_out(self, section: str, keys: Collection[str] | None = None) -> None:
        """Take keys of a section, or all of it, out of what the file says; overrides stay as they are."""
        rest = {name: value for name, value in self._written.items() if name != section}
        if keys is not None and section in self._written:
            rest[section] = {key: value for key, value in self.written(section).items() if key not in keys}
        self._written = rest
        self._apply()

    def _apply(self) -> None:
        self.values = self._written
        self.problems: list[Problem] = []
        self._options: dict[Key, str] = {}
        for key, value in self._overrides:
            self._override(key, value)

    def _override(self, key: str, value: str) -> None:
        option = f"--set {key}={value}"
        parts = tuple(key.split("."))
        if not all(part.strip() for part in parts):
            self.problems.append(Problem(option, "", "is not of the form section.key=value"))
            return
        if any("[" in part for part in parts):
            text = "elements of a list cannot be set one by one: give the whole list, as in key=[...]"
            self.problems.append(Problem(option, "", text))
            return
        if len(parts) > _MAX_DEPTH:
            self.problems.append(Problem(option, "", f"is nested more than {_MAX_DEPTH} levels deep"))
            return
        values = deepcopy(self.values)
        table = values
        for depth, part in enumerate(parts[:-1], start=1):
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                name = dotted(parts[:depth])
                self.problems.append(Problem(option, "", f"{name} is a value, not a section that could have keys"))
                return
        table[parts[-1]] = _parse_value(value)
        if _too_deep(values):
            self.problems.append(Problem(option, "", f"is nested more than {_MAX_DEPTH} levels deep"))
            return
        self.values = values
        self._options[parts] = option


def dotted(key: Key) -> str:
    """``("a", "b", 2)`` as ``a.b[2]``."""
    out = ""
    for part in key:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def expanded(path: str | Path) -> Path:
    """A path with ``~`` and ``~user`` as the folders that they mean; a user that does not exist stays as written."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _parse(path: Path, text: str) -> dict[str, Any]:
    return _parse_resolved(path, text) if path.suffix == ".json" else parse_toml(path, text)


def parse_toml(path: Path, text: str) -> dict[str, Any]:
    """The values of a TOML file.

    Raises:
        ConfigError: for text that is not TOML, or that nothing further on could show or walk through.
    """
    try:
        values = tomllib.loads(text)
        if _too_deep(values):
            raise RecursionError
        json.dumps(values, default=str)  # a number in hexadecimal digits can be too long to be shown
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _PLACE.search(message)
        reason = message[: place.start()] if place else message
        where, column = str(path), ""
        if place and place.group(1):
            where, column = f"{path}:{place.group(1)}", f" at column {place.group(2)}"
        elif place:
            where, column = f"{path}:{len(text.splitlines()) or 1}", " at the end of the file"
        problem = Problem(where, "", f"not valid TOML{column}: {reason[:1].lower()}{reason[1:]}")
        raise ConfigError([problem]) from error
    except RecursionError as error:
        raise ConfigError([Problem(str(path), "", f"is nested more than {_MAX_DEPTH} levels deep")]) from error
    except ValueError as error:  # Python's limit on the digits of a whole number
        raise ConfigError([Problem(str(path), "", "has a number with thousands of digits")]) from error
    return values


def _too_deep(values: dict[str, Any]) -> bool:
    level: list[Any] = [values]
    for _ in range(_MAX_DEPTH):
        level = [
            item
            for value in level
            if isinstance(value, dict | list)
            for item in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return False
    return True


def _parse_resolved(path: Path, text: str) -> dict[str, Any]:
    """The values of a run's resolved.json, as a TOML file would have given them."""
    try:
        values = json.loads(text)
        # A plugin file that has moved is given again with --plugin; its content is compared by digest.
        plugins = [plugin["path"] for plugin in values["plugins"] if Path(plugin["path"]).exists()]
        if _too_deep(values):
            raise ValueError("nested too deep")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError([Problem(str(path), "", "is no resolved config of a run; give the TOML file")]) from error
    values.pop("functions", None)  # made anew from the keys that name them
    kept: dict[str, Any] = _without_nulls(values)
    return kept | {"plugins": plugins}


def _without_nulls(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """TOML has no null: what is not set is left out."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _parse_value(text: str) -> Any:  # noqa: ANN401 - any TOML value
    try:
        parsed = tomllib.loads(f"value = {text}")
        json.dumps(parsed, default=str)  # as in parse_toml
    except (ValueError, RecursionError):
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text
