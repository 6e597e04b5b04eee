"""What the tables of a comparison span: its methods and its instances, each as layers of config keys."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wsopt.compare._file import Written
from wsopt.compare._layers import Entry, Layer, entry, flat, plain_text, toml_text
from wsopt.errors import Problem

Axis = tuple[str, tuple[str, ...], list[Any]]
"""A dotted key, where it was written, and its values."""


@dataclass(frozen=True, eq=False)
class Method:
    """A method as it was written.

    Args:
        name: what it is called; empty for the base alone, which is named by its optimizer.
        layers: its keys, from the lowest layer up.
        written: where, for messages.
        parent: the method that it differs from in one value of ``[sweep]``; None for the others.
    """

    name: str
    layers: tuple[Layer, ...] = ()
    written: tuple[str, ...] = ()
    parent: Method | None = None

    @property
    def label(self) -> str:
        """The method, for messages."""
        return f"method {self.name!r}" if self.name else "the base"


@dataclass(frozen=True)
class Instance:
    """An instance as it was written; without a name where there is no table of them."""

    name: str = ""
    layer: Layer = ()


def common(written: Written, problems: list[Problem]) -> Layer:
    """The layer of every cell."""
    return _layer(written, ("common",), written.raw.get("common", {}), "[common]", problems)


def methods(written: Written, problems: list[Problem]) -> list[Method]:
    """All methods, in the order of the file: those of ``[methods]``, each with ``[matrix]``, then with ``[sweep]``.

    Args:
        written: the comparison.
        problems: gets what is wrong with the tables.
    """
    found = [
        Method(name, (_layer(written, ("methods", name), keys, f"method {name!r}", problems),), ("methods", name))
        for name, keys in written.file.methods.items()
    ] or [Method("")]
    crossed = [one for method in found for one in _crossed(written, method, problems)]
    swept = [one for method in crossed for one in _swept(written, method, problems)]
    return [*crossed, *swept]


def instances(written: Written, problems: list[Problem]) -> list[Instance]:
    """All instances, in the order of the file; one without a name where the file has none."""
    axes = list(_axes(written, "instances", problems))
    if not axes:
        return [Instance()]
    counts = {key: len(values) for key, _, values in axes}
    if len(set(counts.values())) > 1:
        lengths = ", ".join(f"{key} has {count}" for key, count in counts.items())
        problems.append(written.problem(("instances",), f"the lists must be of equal length, but {lengths}"))
        return []
    telling = [axis for axis in axes if len({toml_text(value) for value in axis[2]}) == len(axis[2])][:1] or axes
    folder = written.path.parent
    return [
        Instance(
            ", ".join(f"{key}={plain_text(values[at])}" for key, _, values in telling),
            tuple(entry(key, values[at], where, "[instances]", folder) for key, where, values in axes),
        )
        for at in range(len(axes[0][2]))
    ]


def _crossed(written: Written, method: Method, problems: list[Problem]) -> Iterator[Method]:
    axes = list(_axes(written, "matrix", problems))
    for values in itertools.product(*(values for _, _, values in axes)):
        pairs = [(key, where, value) for (key, where, _), value in zip(axes, values, strict=True)]
        name = ", ".join([*([method.name] if method.name else []), *(_setting(key, value) for key, _, value in pairs)])
        layer = [entry(key, value, where, f"method {name!r}", written.path.parent) for key, where, value in pairs]
        yield Method(name, (*method.layers, layer), method.written or (("matrix",) if pairs else ()))


def _swept(written: Written, method: Method, problems: list[Problem]) -> Iterator[Method]:
    for key, where, values in _axes(written, "sweep", problems):
        for value in values:
            name = ", ".join([*([method.name] if method.name else []), _setting(key, value)])
            one: Entry = entry(key, value, where, f"method {name!r}", written.path.parent)
            yield Method(name, (*method.layers, [one]), where, method)


def _setting(key: str, value: object) -> str:
    return f"{key} = {plain_text(value)}"


def _layer(
    written: Written, at: tuple[str, ...], table: Mapping[str, Any], owner: str, problems: list[Problem]
) -> Layer:
    entries = []
    for key, path, value in flat(table):
        if value == {}:
            problems.append(written.problem((*at, *path), "is an empty section: give it keys, or leave it out"))
        else:
            entries.append(entry(key, value, (*at, *path), owner, written.path.parent))
    return entries


def _axes(written: Written, table: str, problems: list[Problem]) -> Iterator[Axis]:
    for key, path, values in flat(written.raw.get(table, {})):
        where = (table, *path)
        if isinstance(values, list) and values:
            yield key, where, values
        else:
            problems.append(written.problem(where, f"must be a list of values, not {toml_text(values)}"))
