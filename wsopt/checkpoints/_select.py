"""Which of the weights found are combined: one stream, a window of steps, thinned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from wsopt.checkpoints._base import CheckpointReader, StreamKind
from wsopt.checkpoints._choose import choose_emas, choose_part, choose_stream, one_per_step
from wsopt.checkpoints._scan import Inventory, Problem, below_with_checkpoints, scan
from wsopt.checkpoints._set import CheckpointSet, make_set
from wsopt.errors import CheckpointError


@dataclass(frozen=True)
class Selection:
    """What to take of what is there.

    Args:
        kind: stream to take; None takes raw weights, or the only kind there is.
        rate: of the EMA stream to take; None where there is one only. Rates are compared as numbers.
        width: of the power-function EMA stream to take; None where there is one only.
        part: component to take where files hold several of one stream (``unet``, ``text_encoder``).
        window: first and last step, both included.
        interval: smallest distance in steps between two taken, counted back from the last; `steps` is not thinned.
        steps: exactly these steps; one that is not there is an error.
        include: patterns (globs) of the names of files, or of folders that are one checkpoint, to take; empty takes
            all. EMAs beside the checkpoints are not subject to it.
        exclude: patterns of names to leave: no error either where they are torn or foreign.
        unreadable: what to do about torn and foreign files: ``error`` or ``skip``.
    """

    kind: StreamKind | None = None
    rate: float | None = None
    width: float | None = None
    part: str | None = None
    window: tuple[int, int] | None = None
    interval: int | None = None
    steps: tuple[int, ...] | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    unreadable: Literal["error", "skip"] = "error"

    def takes(self, path: Path) -> bool:
        """True for a name that `include` has and `exclude` has not."""
        wanted = not self.include or any(fnmatchcase(path.name, pattern) for pattern in self.include)
        return wanted and not self.leaves(path)

    def leaves(self, path: Path) -> bool:
        """True for a name that `exclude` has."""
        return any(fnmatchcase(path.name, pattern) for pattern in self.exclude)


def open_checkpoints(
    folder: Path, readers: Sequence[CheckpointReader], selection: Selection | None = None
) -> CheckpointSet:
    """Open the checkpoints in `folder`, reading headers only.

    Args:
        folder: a folder with one file or subfolder per checkpoint.
        readers: the formats to try, in order.
        selection: what to take; None takes everything.

    Raises:
        CheckpointError: nothing there, fewer than two checkpoints, a torn or foreign file, several streams or parts and
            none named, a step that is asked for and not there, two files of one step with different weights, or a
            tensor whose name, shape or dtype differs between checkpoints.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a folder. Set checkpoints.path to the folder that holds the checkpoints."
        )
    return select(folder, scan([folder], readers), selection or Selection())


def select(folder: Path, inventory: Inventory, selection: Selection) -> CheckpointSet:
    """The set that `selection` takes of `inventory`; `folder` names it in messages. See `open_checkpoints`."""
    problems = tuple(one for one in inventory.problems if selection.takes(one.path))
    if problems and selection.unreadable == "error":
        raise CheckpointError(_unreadable(problems))
    named = [one for one in inventory.snapshots if selection.takes(one.path)]
    if not named:
        raise CheckpointError(_nothing(folder, inventory, problems))
    stream = choose_part(
        folder,
        choose_stream(folder, named, selection.kind, selection.rate, selection.width),
        selection.part,
    )
    found, notes = one_per_step(stream)
    steps = select_steps(folder, sorted(found), selection)
    if len(steps) < 2:
        passed = f" {len(problems)} files that cannot be read were passed over." if problems else ""
        raise CheckpointError(_too_few(folder, steps, sorted(found), selection) + passed)
    beside = [one for one in inventory.snapshots if not selection.leaves(one.path)]
    emas, ema_notes = choose_emas(beside, found[steps[0]], steps[-1])
    return make_set(
        [found[step] for step in steps],
        steps,
        emas,
        readers=inventory.readers,
        skipped=problems,
        notes=[*notes, *ema_notes],
    )


def select_steps(folder: Path, steps: Sequence[int], selection: Selection) -> list[int]:
    """The steps that `selection` takes.

    Args:
        folder: as messages name it.
        steps: those there are, ascending.
        selection: of which window, interval and steps are used.

    Returns:
        Ascending.

    Raises:
        CheckpointError: where one of `selection.steps` is not there, or outside of the window.
    """
    first, last = selection.window or (0, float("inf"))
    inside = [step for step in steps if first <= step <= last]
    if selection.steps is not None:
        absent = sorted(set(selection.steps) - set(inside))
        if absent:
            raise CheckpointError(_absent(folder, absent, steps, selection))
        return sorted(set(selection.steps))
    if selection.interval is None:
        return inside
    taken: list[int] = []
    for step in reversed(inside):
        if not taken or taken[-1] - step >= selection.interval:
            taken.append(step)
    return taken[::-1]


def _unreadable(problems: Sequence[Problem]) -> str:
    first, *others = problems
    more = ""
    if others:
        names = ", ".join(one.path.name for one in others[:5]) + (", ..." if len(others) > 5 else "")
        more = f" {len(others)} more cannot be read: {names}."
    return (
        f'{first.text}{more} To go on without: checkpoints.exclude = ["{first.path.name}"], or '
        f'checkpoints.unreadable = "skip".'
    )


def _nothing(folder: Path, inventory: Inventory, skipped: Sequence[Problem]) -> str:
    if inventory.snapshots:
        names = [one.path.name for one in inventory.snapshots]
        return (
            f"{folder}: checkpoints.include and checkpoints.exclude leave none of {len(names)} checkpoint files "
            f"({names[0]} to {names[-1]}). Patterns are compared with the whole name, as in model*.pt."
        )
    inside = [below for below, _ in below_with_checkpoints(inventory)]
    if len(inside) == 1:
        return f"{folder} holds no checkpoint files, but its subfolder {inside[0]} does: set checkpoints.path to it."
    if inside:
        listed = ", ".join(str(one) for one in inside[:5]) + (", ..." if len(inside) > 5 else "")
        return (
            f"{folder} holds no checkpoint files, but {len(inside)} of its subfolders do ({listed}). "
            f"Set checkpoints.path to one of them."
        )
    torn = f" ({len(skipped)} that cannot be read were passed over)" if skipped else ""
    return f"{folder} holds no checkpoint files{torn}. Set checkpoints.path to the folder that holds them."


def _absent(folder: Path, absent: Sequence[int], steps: Sequence[int], selection: Selection) -> str:
    outside = [step for step in absent if step in steps]
    if outside:
        return (
            f"{folder}: step {outside[0]} of checkpoints.steps is outside of checkpoints.window = "
            f"{list(selection.window or ())}. Leave one of the two keys out."
        )
    nearest = sorted(sorted(steps, key=lambda step: abs(step - absent[0]))[:2])
    more = f", nor of {len(absent) - 1} more of checkpoints.steps" if len(absent) > 1 else ""
    return (
        f"{folder} holds no checkpoint of step {absent[0]}{more}; the nearest are {' and '.join(map(str, nearest))} "
        f"(steps found: {_span(steps)}). Mend checkpoints.steps; wsopt inspect {folder} lists what is there."
    )


def _too_few(folder: Path, taken: Sequence[int], steps: Sequence[int], selection: Selection) -> str:
    keys = [key for key in ("window", "interval", "steps") if getattr(selection, key) is not None]
    asked = ", ".join(f"checkpoints.{key} = {_shown(getattr(selection, key))}" for key in keys)
    count = f"{len(taken)} checkpoint{'' if len(taken) == 1 else 's'}"
    if not keys:
        return (
            f"{folder} has {count} of this stream (step {_span(steps)}), a combination needs at least 2. "
            f"Set checkpoints.path to a folder with more, or checkpoints.kind to another stream."
        )
    return (
        f"{folder} has {count} with {asked}, a combination needs at least 2 (steps found: {_span(steps)}). "
        f"Widen checkpoints.window or lower checkpoints.interval."
    )


def _shown(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _span(steps: Sequence[int]) -> str:
    if len(steps) < 2:
        return str(steps[0]) if steps else "none"
    return f"{steps[0]} to {steps[-1]}, {len(steps)} of them"
