"""What lies in files and folders: sets of weights, files that could not be read, and everything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from wsopt.checkpoints._base import CheckpointReader, Snapshot
from wsopt.checkpoints._names import natural
from wsopt.checkpoints._others import is_text, other_kind, read_head
from wsopt.checkpoints._pointer import refuse_pointer
from wsopt.errors import CheckpointError


@dataclass(frozen=True)
class Problem:
    """A file that should be a checkpoint and gave none.

    Args:
        path: the file.
        kind: ``torn`` (of a known format, incomplete or damaged) or ``foreign`` (of no known format).
        text: the whole message, with the file's name and what to do.
    """

    path: Path
    kind: Literal["torn", "foreign"]
    text: str


@dataclass(frozen=True)
class Inventory:
    """What was found.

    Args:
        snapshots: every set of weights, in the order of the paths; within a folder by name, digits as numbers.
        problems: files that gave none although they look like checkpoints.
        others: files that hold no weights (optimizer states, logs, images), with what they are.
        subfolders: folders within the given ones that are no checkpoint; they were passed over.
        readers: the formats that were tried.
    """

    snapshots: tuple[Snapshot, ...]
    problems: tuple[Problem, ...]
    others: tuple[tuple[Path, str], ...]
    subfolders: tuple[Path, ...] = ()
    readers: tuple[CheckpointReader, ...] = field(default=(), repr=False, compare=False)


def scan(paths: Sequence[Path], readers: Sequence[CheckpointReader]) -> Inventory:
    """Look into `paths`: files, folders that are one checkpoint, and folders of either.

    Content decides: a text, an image, a log or an archive beside the checkpoints is listed with the others; what may
    be a checkpoint and is of no known format is a problem, and so is one that is torn. Hidden entries are passed over;
    so are subfolders that no reader recognises.

    Raises:
        CheckpointError: where one of `paths` itself is not there or cannot be read.
    """
    snapshots: list[Snapshot] = []
    problems: list[Problem] = []
    others: list[tuple[Path, str]] = []
    subfolders: list[Path] = []
    for path in _entries(paths, readers):
        try:
            reader = reader_for(path, readers)
            if reader is not None:
                found = _scanned(path, reader)
                snapshots += found
                if not found:
                    others.append((path, f"{reader.name} without weights"))
            elif path.is_dir():
                subfolders.append(path)
            elif kind := other_kind(path, head := read_head(path)):
                others.append((path, kind))
            else:
                problems.append(Problem(path, "foreign", _foreign(path, head, readers)))
        except CheckpointError as error:
            problems.append(Problem(path, "torn", str(error)))
        except OSError as error:
            problems.append(Problem(path, "torn", _unreadable(path, error)))
    return Inventory(tuple(snapshots), tuple(problems), tuple(others), tuple(subfolders), tuple(readers))


def reader_for(path: Path, readers: Sequence[CheckpointReader]) -> CheckpointReader | None:
    """The first reader that recognises `path`, or None.

    Raises:
        CheckpointError: where `path` cannot be read, is neither a file nor a folder, or stands for a file that Git LFS
            has not fetched.
    """
    if not path.is_file() and not path.is_dir():
        dangling = path.is_symlink() and not path.exists()
        what = "a symbolic link that leads nowhere" if dangling else "neither a file nor a folder"
        raise CheckpointError(f"{path} is {what}. Mend it or move it out of the folder.")
    try:
        if path.is_file():
            refuse_pointer(path)
        return next((reader for reader in readers if reader.recognises(path)), None)
    except OSError as error:
        raise CheckpointError(_unreadable(path, error)) from error


def below_with_checkpoints(inventory: Inventory, depth: int = 2) -> list[tuple[Path, Inventory]]:
    """The nearest folders below the scanned ones that hold checkpoints, at most `depth` levels down, with content.

    A folder with torn files is one of them; a folder with foreign files alone is not.
    """
    found: list[tuple[Path, Inventory]] = []
    for folder in inventory.subfolders:
        inside = _looked_into(folder, inventory.readers)
        if inside is None:
            continue
        if inside.snapshots or any(problem.kind == "torn" for problem in inside.problems):
            found.append((folder, inside))
        elif depth > 1:
            found += below_with_checkpoints(inside, depth - 1)
    return found


def _looked_into(folder: Path, readers: Sequence[CheckpointReader]) -> Inventory | None:
    try:
        return scan([folder], readers)
    except CheckpointError:
        return None


def _scanned(path: Path, reader: CheckpointReader) -> Sequence[Snapshot]:
    try:
        return reader.scan(path)
    except (RecursionError, MemoryError) as error:
        raise CheckpointError(
            f"{path} is damaged: reading it as {reader.name} ended in {type(error).__name__}. Save or copy it again."
        ) from error


def _entries(paths: Sequence[Path], readers: Sequence[CheckpointReader]) -> Iterator[Path]:
    """The files and folders to look into, each once."""
    seen: set[Path] = set()
    for path in paths:
        if not path.exists() and not path.is_symlink():
            raise CheckpointError(f"{path} does not exist. Give the file or folder of the checkpoints.")
        for entry in _listed(path) if path.is_dir() and reader_for(path, readers) is None else [path]:
            known = entry.absolute()
            if known not in seen:
                seen.add(known)
                yield entry


def _listed(folder: Path) -> list[Path]:
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise CheckpointError(_unreadable(folder, error)) from error
    return sorted(entries, key=lambda entry: natural(entry.name))


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path} cannot be read: {error.strerror or error}. Mend that, or move it out of the folder."


def _foreign(path: Path, head: bytes, readers: Sequence[CheckpointReader]) -> str:
    formats = ", ".join(sorted({reader.name for reader in readers}))
    what = "it is empty; "
    if head:
        shown = head.decode("utf-8", "ignore").strip().splitlines()[:1] if is_text(head) else []
        what = f"it is text that begins with {shown[0][:40]!r}; " if shown else ""
    return (
        f"{path} is no checkpoint of a known format ({what}known: {formats}). Move it out of the folder, or install "
        f"the plugin that reads it."
    )
