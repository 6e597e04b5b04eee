"""One set of weights per step: which stream, which component, which of several copies, which EMAs beside."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from wsopt.checkpoints._base import Snapshot, Stream, StreamKind
from wsopt.checkpoints._duplicates import duplicate_groups
from wsopt.checkpoints._names import identify
from wsopt.checkpoints._prefix import unwrapped
from wsopt.errors import CheckpointError


def choose_stream(
    folder: Path,
    snapshots: Sequence[Snapshot],
    kind: StreamKind | None,
    rate: float | None,
    width: float | None,
) -> list[Snapshot]:
    """Those of the one stream that fits; raw weights where nothing is asked for and they are there.

    Raises:
        CheckpointError: where none fits, or several, with the streams there are and the keys that name them.
    """
    counts = Counter(snapshot.stream for snapshot in snapshots)
    kinds = {stream.kind for stream in counts}
    if kind is None and (rate is not None or width is not None):
        kind = "ema"
    if kind is None:
        kind = "raw" if "raw" in kinds else next(iter(kinds)) if len(kinds) == 1 else None
    fitting = [
        stream for stream in counts if stream.kind == kind and _close(rate, stream.rate) and _close(width, stream.width)
    ]
    if len(fitting) == 1:
        return [snapshot for snapshot in snapshots if snapshot.stream == fitting[0]]
    values = {"kind": kind, "rate": rate, "width": width}
    asked = ", ".join(f"{key} = {value}" for key, value in values.items() if value is not None)
    what = f"{len(fitting) or 'no'} streams that fit {asked}" if asked else f"{len(counts)} streams, none of them raw"
    ordered = sorted(fitting or counts, key=_order)
    found = ", ".join(f"{stream} ({counts[stream]} checkpoints)" for stream in ordered)
    of_kind = [stream for stream in ordered if stream.kind == kind] or ordered
    nearest = min(reversed(of_kind), key=lambda stream: _distance(stream, rate, width))
    raise CheckpointError(f"{folder} holds {what} (found: {found}). Set {_keys(nearest)}, or the like.")


def choose_part(folder: Path, snapshots: Sequence[Snapshot], part: str | None) -> list[Snapshot]:
    """Those of one component, where a file or folder holds several of this stream.

    Raises:
        CheckpointError: where `part` is not there, or there are several and it is None.
    """
    parts = Counter(snapshot.part for snapshot in snapshots)
    listed = ", ".join(f'"{name}" ({count} checkpoints)' for name, count in sorted(parts.items()))
    if part is not None:
        found = [snapshot for snapshot in snapshots if snapshot.part == part]
        if not found:
            raise CheckpointError(
                f'{folder} holds no component "{part}" of stream {snapshots[0].stream} (found: {listed}). '
                f"Set checkpoints.part to one of them."
            )
        return found
    paths = Counter(snapshot.path for snapshot in snapshots)
    several = next((path for path, count in paths.items() if count > 1), None)
    if several is not None:
        raise CheckpointError(
            f"{several} holds {paths[several]} components of stream {snapshots[0].stream} (found in {folder}: "
            f"{listed}). Set checkpoints.part to one of them."
        )
    return list(snapshots)


def one_per_step(snapshots: Sequence[Snapshot]) -> tuple[dict[int, Snapshot], list[str]]:
    """Step -> the weights of that step, and a note for every copy that was passed over.

    Raises:
        CheckpointError: where two of one step hold different weights, or none tells its step.
    """
    notes: list[str] = []
    numbered: dict[int, list[Snapshot]] = defaultdict(list)
    for snapshot in snapshots:
        if snapshot.step is not None:
            numbered[snapshot.step].append(snapshot)
    found = {step: _one_of(step, group, notes) for step, group in numbered.items()}
    untold = [snapshot for snapshot in snapshots if snapshot.step is None]
    groups = duplicate_groups([*untold, *found.values()]) if untold else []
    same_as = {id(one): group for group in groups for one in group}
    for snapshot in untold:
        kept = next((one for one in same_as.get(id(snapshot), ()) if one.step is not None), None)
        if kept is None and not found:
            raise CheckpointError(
                f"{snapshot} names no training step, neither in its content (key step) nor as a number in its name. "
                f"Rename it like step-001000{snapshot.path.suffix}, or leave it out with "
                f'checkpoints.exclude = ["{snapshot.path.name}"].'
            )
        if kept is None:
            notes.append(f"{snapshot} names no training step, as the others do, and was passed over.")
        else:
            notes.append(_note(snapshot, kept))
    return found, notes


def choose_emas(snapshots: Sequence[Snapshot], anchor: Snapshot, last: int) -> tuple[list[Snapshot], list[str]]:
    """The EMAs of the same network that lie beside the stream of `anchor`, and notes on those passed over.

    Args:
        snapshots: all there are.
        anchor: one of the checkpoints that are combined.
        last: step of the last of these; EMAs of this step are baselines, and one per stream is wanted of them.

    Raises:
        CheckpointError: where two EMAs of one stream at step `last` hold different weights.
    """
    notes: list[str] = []
    shapes = _shapes(anchor)
    kept: list[Snapshot] = []
    at_last: dict[Stream, list[Snapshot]] = defaultdict(list)
    for snapshot in snapshots:
        if snapshot.stream.kind != "ema" or snapshot.stream == anchor.stream:
            continue
        if _shapes(snapshot) != shapes:
            notes.append(f"{snapshot} has other tensors than the checkpoints and is no EMA of them: passed over.")
        elif snapshot.step == last:
            at_last[snapshot.stream].append(snapshot)
        else:
            kept.append(snapshot)
    return [*kept, *(_one_of(last, group, notes) for group in at_last.values())], notes


def _one_of(step: int, group: Sequence[Snapshot], notes: list[str]) -> Snapshot:
    if len(group) == 1:
        return group[0]
    same = duplicate_groups(group)
    alike = same[0] if same else []
    different = next((one for one in group[1:] if one not in alike or group[0] not in alike), None)
    if different is not None:
        raise CheckpointError(
            f"{group[0]} and {different} are both of step {step} and stream {group[0].stream}, and hold different "
            f'weights. Leave one of them out with checkpoints.exclude = ["{_pattern(different.path, group[0].path)}"].'
        )
    kept = next((one for one in group if identify(one.path)[1] == step), group[0])
    notes += [_note(one, kept) for one in group if one is not kept]
    return kept


def _pattern(path: Path, other: Path) -> str:
    """What leaves out `path` and its like: all ``training-state-*.pt`` beside ``network-snapshot-*-*.pkl``."""
    own, others = (re.sub("[0-9]+", "*", one.name) for one in (path, other))
    apart = "*" in own and "*" in others and not fnmatchcase(other.name, own)
    return own if apart else path.name


def _note(dropped: Snapshot, kept: Snapshot) -> str:
    return f"{dropped} holds the same weights as {kept} and was passed over."


def _shapes(snapshot: Snapshot) -> dict[str, tuple[int, ...]]:
    return {name: spec.shape for name, spec in unwrapped(snapshot.tensors).items()}


def _close(asked: float | None, found: float | None) -> bool:
    """True where nothing is asked for, or the numbers agree; of a rate near 1 it is the rest that counts."""
    if asked is None:
        return True
    return found is not None and math.isclose(1 - asked, 1 - found, rel_tol=1e-6)


def _distance(stream: Stream, rate: float | None, width: float | None) -> float:
    """How far a stream is from what was asked for: of a rate near 1 it is the rest that counts."""
    asked = [(1 - rate, 1 - (stream.rate or 0.0))] if rate is not None else []
    asked += [(width, stream.width or 1.0)] if width is not None else []
    return sum(abs(math.log(one / other)) for one, other in asked)


def _order(stream: Stream) -> tuple[str, float, float]:
    return stream.kind, stream.rate or 0.0, stream.width or 0.0


def _keys(stream: Stream) -> str:
    keys = [f'checkpoints.kind = "{stream.kind}"']
    keys += [f"checkpoints.rate = {stream.rate!r}"] if stream.rate is not None else []
    keys += [f"checkpoints.width = {stream.width!r}"] if stream.width is not None else []
    return " and ".join(keys)
