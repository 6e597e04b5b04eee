"""What `wsopt inspect` prints: a table of streams, and below it what should be known before they are combined."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from wsopt.report import amount

if TYPE_CHECKING:
    from wsopt.checkpoints import DeepFacts, Inspection, LoraFacts, Snapshot, StreamSummary

_WIDE: Final = 100
_LISTED: Final = 6
_MISFITS: Final = 3
_RED: Final = "red"
_YELLOW: Final = "yellow"
_DIM: Final = "dim"
_UNTOLD: Final = frozenset({"step", "format"})
_Remark: TypeAlias = tuple[str, str, str]
"""Whom it is about, the text, and its colour."""


def view(found: Inspection, deep: Sequence[DeepFacts] | None, *, tensors: bool, width: int) -> RenderableType:
    """Everything, as a rich renderable.

    Args:
        found: what there is.
        deep: of each stream, where it was asked for.
        tensors: whether every tensor is listed.
        width: of the terminal, in characters; below 100 some columns are told below the table.
    """
    wide = width >= _WIDE
    parts: list[RenderableType] = []
    facts = dict(zip(map(id, found.streams), deep or (), strict=False))
    for folder, streams in _by_folder(found).items():
        parts.append(Text(f"{folder}/", style="bold", overflow="fold"))
        parts.append(_table(streams, wide=wide))
        remarks = [remark for one in streams for remark in _remarks(one, facts.get(id(one)), wide=wide)]
        remarks += _prefixes(streams)
        parts += [_listing(remarks), Text()] if remarks else [Text()]
    parts.append(_listing(list(_findings(found))))
    if tensors:
        parts += [_tensor_table(one) for one in found.streams]
    if not found.streams:
        parts.append(Text("No checkpoint could be read.", style=_RED))
    return Group(*parts)


def count(values: float) -> str:
    """A large number in three digits: ``296M``."""
    units, power = ("", "k", "M", "G", "T"), 0
    while values >= 999.5 and power < len(units) - 1:
        values /= 1000
        power += 1
    text = f"{values:.0f}" if power == 0 or values >= 99.95 else f"{values:.3g}"
    return f"{text}{units[power]}"


def stream_name(one: StreamSummary) -> str:
    """``raw``, ``ema 0.9999``, ``ema width 0.1``, with the component behind it."""
    return f"{one.stream} ({one.part})" if one.part else str(one.stream)


def _by_folder(found: Inspection) -> dict[Path, list[StreamSummary]]:
    folders: dict[Path, list[StreamSummary]] = {}
    for one in found.streams:
        folders.setdefault(one.folder, []).append(one)
    return folders


def _table(streams: Sequence[StreamSummary], *, wide: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column("stream", overflow="fold", no_wrap=True)
    table.add_column("steps", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    if wide:
        table.add_column("every", justify="right", no_wrap=True)
        table.add_column("tensors", justify="right", no_wrap=True)
    table.add_column("values", justify="right", no_wrap=True)
    table.add_column("dtype", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    if wide:
        table.add_column("format")
    for one in streams:
        more = [_number(one.interval), f"{len(one.tensors):,}"] if wide else []
        formats = [", ".join(one.formats)] if wide else []
        facts = [count(one.values), _dtypes(one), amount(one.nbytes)]
        table.add_row(stream_name(one), _steps(one.steps), str(len(one.snapshots)), *more, *facts, *formats)
    return table


def _steps(steps: Sequence[int]) -> str:
    if not steps:
        return "untold"
    return f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} .. {steps[-1]:,}"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _dtypes(one: StreamSummary) -> str:
    found = one.dtypes
    if len(found) < 2 or not one.values:
        return next(iter(found), "-")
    return ", ".join(f"{dtype}{_share(values / one.values)}" for dtype, values in found.items())


def _share(part: float) -> str:
    """A part of a whole in percent; nothing where it is nearly all."""
    if part < 0.01:
        return " <1%"
    return f" {100 * part:.0f}%" if part < 0.99 else ""


def _remarks(one: StreamSummary, deep: DeepFacts | None, *, wide: bool) -> Iterator[_Remark]:
    """What is to be said of a stream."""
    name = stream_name(one)
    if not wide:
        every = f", every {one.interval:,} steps" if one.interval else ""
        yield name, f"{', '.join(one.formats)}, {len(one.tensors):,} tensors{every}", ""
    if one.missing_count:
        yield name, f"{one.missing_count:,} missing: {_list([f'{step:,}' for step in one.missing])}", _YELLOW
    if one.without_step:
        names = _list([snapshot.path.name for snapshot in one.without_step])
        yield name, f"no step told, neither by name nor content: {names}", _YELLOW
    for misfit in one.misfits[:_MISFITS]:
        yield name, misfit, _RED
    if len(one.misfits) > _MISFITS:
        yield name, f"{len(one.misfits) - _MISFITS} more do not fit", _RED
    if one.lora is not None:
        yield from _lora(name, one.lora)
    elif config := _config(one.config):
        yield name, config, ""
    if deep is not None:
        yield from _deep_remarks(name, deep)


def _prefixes(streams: Sequence[StreamSummary]) -> list[_Remark]:
    found = sorted({prefix for one in streams for prefix in one.prefixes})
    return [("prefix", f"{', '.join(found)} left out of the names of tensors", "")] if found else []


def _lora(name: str, facts: LoraFacts) -> Iterator[_Remark]:
    ranks = ", ".join(map(str, facts.ranks))
    scales = f", scale {', '.join(f'{scale:g}' for scale in facts.scales)}" if facts.scales else ""
    yield name, f"{facts.modules} adapted weights, rank {ranks}{scales}", ""
    if facts.unknown_alpha:
        yield name, f"alpha is not told for {facts.unknown_alpha} of them: alpha = rank (scale 1) is assumed", _YELLOW


def _config(config: Mapping[str, object]) -> str:
    """Some of the scalars and lists that a file tells of its network, on one line."""
    flat: dict[str, object] = {}
    for key, value in config.items():
        inside = value.items() if isinstance(value, Mapping) else [(key, value)]
        # What the network says of itself comes before what its loss does.
        flat = {str(name): one for name, one in inside if isinstance(one, str | int | float | list | tuple)} | flat
    told = {key: value for key, value in flat.items() if key not in _UNTOLD and not isinstance(value, bool)}
    shown = [
        f"{key.removeprefix('_')} {value}"
        for key, value in told.items()
        if len(str(value)) <= 40 and (key == "_class_name" or not key.startswith("_"))
    ]
    return ", ".join(shown[:_LISTED]) + (", ..." if len(shown) > _LISTED else "")


def _findings(found: Inspection) -> Iterator[_Remark]:
    for group in found.duplicates[:_LISTED]:
        folders = {one.path.parent for one in group}
        steps = {one.step for one in group if one.step is not None}
        text = " = ".join(str(one) if len(folders) > 1 else _name(one) for one in group)
        yield "copies", f"{text}{', although their steps differ' if len(steps) > 1 else ''}", _YELLOW
    if len(found.duplicates) > _LISTED:
        yield "copies", f"{len(found.duplicates) - _LISTED} more groups", _YELLOW
    for problem in found.problems:
        yield problem.kind, problem.text, _RED
    kinds: dict[str, list[str]] = {}
    for path, kind in found.others:
        kinds.setdefault(kind, []).append(path.name)
    for kind, names in kinds.items():
        yield "other", f"{len(names)} x {kind}: {_list(names, 3)}", _DIM
    if found.passed_over:
        yield "other", f"folders without checkpoints: {_list([f'{path.name}/' for path in found.passed_over])}", _DIM


def _deep_remarks(name: str, facts: DeepFacts) -> Iterator[_Remark]:
    for text in facts.unreadable:
        yield "torn", text, _RED
    for broken in facts.broken[:_LISTED]:
        what = f"{broken.nan:,} NaN and {broken.infinite:,} infinite of {broken.values:,} values"
        yield name, f"{broken.snapshot}: tensor {broken.tensor} has {what}", _RED
    if len(facts.broken) > _LISTED:
        yield name, f"{len(facts.broken) - _LISTED} more tensors with NaN or infinite values", _RED
    if not facts.distances:
        return
    constant = f" ({_list(facts.constant, 3)})" if facts.constant else ""
    yield (
        name,
        f"to combine: {len(facts.combined)} tensors; to copy, the same in all: {len(facts.constant)}{constant}",
        "",
    )
    if facts.clashing:
        yield name, f"not floating, yet different (weightspace.copy_from): {_list(facts.clashing)}", _RED
    yield name, f"moves {_span([pair.distance for pair in facts.distances])} of its norm between two checkpoints", ""
    for pair in facts.near[:_LISTED]:
        moved = "nothing at all" if pair.distance == 0 else f"{pair.distance:.2g}"
        yield name, f"hardly differ: {pair.earlier.path.name} and {pair.later.path.name} ({moved})", _YELLOW
    if len(facts.near) > _LISTED:
        yield name, f"{len(facts.near) - _LISTED} more neighbours that hardly differ", _YELLOW


def _span(distances: Sequence[float]) -> str:
    finite = sorted(one for one in distances if math.isfinite(one))
    if not finite:
        return "not measurably"
    if len(finite) == 1:
        return f"{finite[0]:.2g}"
    middle = finite[len(finite) // 2]
    return f"{finite[0]:.2g} to {finite[-1]:.2g} (median {middle:.2g})"


def _list(names: Sequence[str], most: int = _LISTED) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _name(snapshot: Snapshot) -> str:
    return f"{snapshot.path.name} ({snapshot.part})" if snapshot.part else snapshot.path.name


def _tensor_table(one: StreamSummary) -> RenderableType:
    table = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column(f"tensors of {stream_name(one)}", overflow="fold")
    table.add_column("shape")
    table.add_column("dtype", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for name, spec in one.tensors.items():
        shape = " x ".join(map(str, spec.shape)) or "scalar"
        table.add_row(Text(name), shape, str(spec.dtype).removeprefix("torch."), amount(spec.nbytes))
    return Padding(table, (1, 0, 0, 0), expand=False)


def _listing(remarks: Sequence[_Remark]) -> RenderableType:
    """Remarks below each other, each label told once."""
    grid = Table.grid(padding=(0, 2), pad_edge=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    previous = ""
    for label, text, style in remarks:
        grid.add_row(Text("" if label == previous else label, style=style), Text(text, style=style))
        previous = label
    return Padding(grid, (0, 0, 0, 2), expand=False)
