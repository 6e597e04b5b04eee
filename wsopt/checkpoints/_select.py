"""Which of the weights found are combined: one stream, a window of steps, thinned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from wsopt.checkpoints._base import CheckpointReader, Snapshot, StreamKind
from wsopt.checkpoints._scan import Inventory, scan
from wsopt.checkpoints._set import CheckpointSet, make_set
from wsopt.errors import CheckpointError


@dataclass(frozen=True)
class Selection:
    """What to take of what is there.

    Args:
        kind: stream to take; None takes raw weights, or the only kind there is.
        rate: of the EMA stream to take; None where there is one only.
        width: of the power-function EMA stream to take; None where there is one only.
        window: first and last step, both included.
        interval: smallest distance in steps between two taken, counted back from the last.
        steps: exactly these steps.
        include: patterns (globs) of file names to take; empty takes all.
        exclude: patterns of file names to leave.
        unreadable: what to do about torn and foreign files: ``error`` or ``skip``.
    """

    kind: StreamKind | None = None
    rate: float | None = None
    width: float | None = None
    window: tuple[int, int] | None = None
    interval: int | None = None
    steps: tuple[int, ...] | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    unreadable: Literal["error", "skip"] = "error"


def open_checkpoints(
    folder: Path, readers: Sequence[CheckpointReader], selection: Selection | None = None
) -> CheckpointSet:
    """Open the checkpoints in `folder`, reading headers only.

    Args:
        folder: a folder with one file or subfolder per checkpoint.
        readers: the formats to try, in order.
        selection: what to take; None takes everything.

    Raises:
        CheckpointError: nothing there, fewer than two checkpoints, a torn or foreign file, several streams and none
            named, two files of one step, or a tensor whose name, shape or dtype differs between checkpoints.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a folder. Set checkpoints.path to the folder that holds the checkpoints."
        )
    return select(folder, scan([folder], readers), selection or Selection())


def select(folder: Path, inventory: Inventory, selection: Selection) -> CheckpointSet:
    """The set that `selection` takes of `inventory`; `folder` names it in messages. See `open_checkpoints`."""
    if inventory.problems and selection.unreadable == "error":
        more = f" ({len(inventory.problems) - 1} more files cannot be read)" if len(inventory.problems) > 1 else ""
        raise CheckpointError(f"{inventory.problems[0].text}{more}")
    if not inventory.snapshots:
        raise CheckpointError(
            f"{folder} holds no checkpoint files. Set checkpoints.path to the folder that holds them."
        )
    stream = _stream(folder, [one for one in inventory.snapshots if _named(one, selection)], selection)
    found: dict[int, Snapshot] = {}
    for snapshot in stream:
        step = _step(snapshot)
        if step in found:
            raise CheckpointError(
                f"{found[step]} and {snapshot} are both of step {step}. Move one of them out of the folder."
            )
        found[step] = snapshot
    steps = _steps(sorted(found), selection)
    if len(steps) < 2:
        raise CheckpointError(
            f"{folder} has {len(steps)} checkpoints in the window, a combination needs at least 2 "
            f"(steps found: {_span(sorted(found))}). Widen checkpoints.window or lower checkpoints.interval."
        )
    taken = [found[step] for step in steps]
    emas = [one for one in inventory.snapshots if one.stream.kind == "ema" and one.stream != taken[0].stream]
    return make_set(taken, steps, emas)


def _named(snapshot: Snapshot, selection: Selection) -> bool:
    name = snapshot.path.name
    wanted = not selection.include or any(fnmatchcase(name, pattern) for pattern in selection.include)
    return wanted and not any(fnmatchcase(name, pattern) for pattern in selection.exclude)


def _stream(folder: Path, snapshots: Sequence[Snapshot], selection: Selection) -> list[Snapshot]:
    streams = sorted({snapshot.stream for snapshot in snapshots}, key=str)
    kinds = {stream.kind for stream in streams}
    kind = selection.kind or ("raw" if "raw" in kinds else next(iter(kinds)) if len(kinds) == 1 else None)
    fitting = [
        stream
        for stream in streams
        if stream.kind == kind and selection.rate in (None, stream.rate) and selection.width in (None, stream.width)
    ]
    if len(fitting) != 1:
        keys = ("kind", "rate", "width")
        asked = [f"{key} = {getattr(selection, key)}" for key in keys if getattr(selection, key) is not None]
        raise CheckpointError(
            f"{folder} holds {len(fitting) or 'no'} streams that fit {', '.join(asked) or 'no choice'} (found: "
            f"{', '.join(map(str, streams))}). Set checkpoints.kind, .rate or .width to one of them."
        )
    return [snapshot for snapshot in snapshots if snapshot.stream == fitting[0]]


def _step(snapshot: Snapshot) -> int:
    if snapshot.step is None:
        raise CheckpointError(
            f"{snapshot} names no training step, neither in its content (key step) nor as a number in its name. "
            f"Rename it like step-001000{snapshot.path.suffix}."
        )
    return snapshot.step


def _steps(steps: list[int], selection: Selection) -> list[int]:
    window = selection.window
    inside = [step for step in steps if window is None or window[0] <= step <= window[1]]
    if selection.steps is not None:
        inside = [step for step in inside if step in selection.steps]
    if selection.interval is None:
        return inside
    taken: list[int] = []
    for step in reversed(inside):
        if not taken or taken[-1] - step >= selection.interval:
            taken.append(step)
    return taken[::-1]


def _span(steps: Sequence[int]) -> str:
    return f"{steps[0]} to {steps[-1]}" if steps else "none"
