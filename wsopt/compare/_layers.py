"""Layers of config keys: what the tables of a comparison say, laid over each other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

from wsopt.config import expanded
from wsopt.config.sections import PLAIN, Section, TopSection


@dataclass(frozen=True)
class Entry:
    """A config key with the text of its value.

    Args:
        key: dotted.
        text: of the value, as ``--set`` takes it.
        written: where it is in the comparison's file, from its top; empty for an option of the command line.
        owner: what it belongs to, for messages: ``method 'lcsc'``.
    """

    key: str
    text: str
    written: tuple[str, ...] = ()
    owner: str = ""


Layer = Sequence[Entry]


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Dotted key, path in the table and value of everything in it that is no table."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            for dotted, path, inner in flat(value, f"{prefix}{key}."):
                yield dotted, (key, *path), inner
        else:
            yield f"{prefix}{key}", (key,), value


def entry(key: str, value: object, written: tuple[str, ...], owner: str, folder: Path) -> Entry:
    """An entry of a TOML value; a relative path starts from `folder`, as in a config file."""
    if key in _paths() and isinstance(value, str):
        value = _from(folder, value)
    elif key in _paths() and isinstance(value, list):
        value = [_from(folder, item) if isinstance(item, str) else item for item in value]
    return Entry(key, toml_text(value), written, owner)


def layered(layers: Sequence[Layer], names: Mapping[str, str]) -> tuple[Entry, ...]:
    """All layers as one, each key once: a later layer wins, names of components first.

    A layer that gives a section another ``name`` drops what earlier layers said of the former component.

    Args:
        layers: from the lowest up.
        names: the components that the base config names, by section.
    """
    kept: dict[str, Entry] = {}
    current = {section: toml_text(name) for section, name in names.items()}
    for layer in layers:
        for one in layer:
            section, _, last = one.key.partition(".")
            if last == "name" and current.get(section, one.text) != one.text:
                kept = {key: old for key, old in kept.items() if not key.startswith(f"{section}.")}
            if last == "name":
                current[section] = one.text
        for one in layer:
            kept[one.key] = one
    return tuple(sorted(kept.values(), key=lambda one: not one.key.endswith(".name")))


def toml_text(value: object) -> str:
    """A value as TOML text that holds on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_text(item) for item in value)}]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{json.dumps(key, ensure_ascii=False)} = {toml_text(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return repr(value)


def plain_text(value: object) -> str:
    """A value as it stands in the name of a method: text without quotes."""
    return value if isinstance(value, str) else toml_text(value)


def _paths() -> frozenset[str]:
    """Keys whose values are paths that start from the folder of their file."""
    models: dict[str, type[Section]] = {"": TopSection, **{f"{name}.": model for name, model in PLAIN.items()}}
    found = {
        f"{prefix}{key}"
        for prefix, model in models.items()
        for key, field in model.model_fields.items()
        if "Path" in str(field.annotation)
    }
    return frozenset(found - {"output"})


def _from(folder: Path, path: str) -> str:
    return str((Path.cwd() / folder / expanded(path)).resolve())
