"""What the merged file says of itself: coefficients, sources, version. No times and no folders, so it is repeatable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import wsopt
from wsopt.checkpoints import CheckpointSet, Snapshot
from wsopt.errors import CheckpointError
from wsopt.files import files_of
from wsopt.merge._recipe import Recipe

_ENDS: Final = 1 << 16


def metadata(
    checkpoints: CheckpointSet, recipe: Recipe, reads: Sequence[int], settings: dict[str, Any], full: bool = False
) -> dict[str, str]:
    """Text entries of the merged file's header: ``format``, as model libraries ask for, and ``wsopt``, JSON.

    Args:
        checkpoints: the K checkpoints.
        recipe: their coefficients.
        reads: the checkpoints that were read.
        settings: how tensors were combined, as JSON values.
        full: whether a digest of every source file's whole content goes in, too.
    """
    facts = {
        "version": wsopt.__version__,
        **recipe.as_json(),
        "sources": [source(checkpoints.snapshots[index], checkpoints.steps[index], full) for index in reads],
        "settings": settings,
    }
    return {"format": "pt", "wsopt": json.dumps(facts, sort_keys=True, separators=(",", ":"))}


def source(snapshot: Snapshot, step: int, full: bool) -> dict[str, Any]:
    """One checkpoint that was combined.

    Returns:
        ``file``, ``part`` where it has several, ``stream``, ``step``, ``bytes``; ``digest``, sha256 of size, first and
        last 64 KiB of its file (or of each file in its folder), which costs no second reading; with `full`, ``sha256``
        of all of it.

    Raises:
        CheckpointError: where it cannot be read.
    """
    path = snapshot.path
    try:
        files = files_of(path)
        facts: dict[str, Any] = {
            "file": path.name,
            "stream": str(snapshot.stream),
            "step": step,
            "bytes": sum(one.stat().st_size for one in files),
            "digest": _digest(path, files, _ends),
        }
        if full:
            facts["sha256"] = _digest(path, files, _whole)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    return facts | ({"part": snapshot.part} if snapshot.part else {})


def _digest(path: Path, files: Sequence[Path], of: Any) -> str:  # noqa: ANN401 - one of the two below
    if files == [path]:
        return str(of(path))
    digest = hashlib.sha256()
    for one in files:
        digest.update(f"{one.relative_to(path).as_posix()} {of(one)}\n".encode())
    return digest.hexdigest()


def _ends(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size} ".encode())
    with path.open("rb") as file:
        digest.update(file.read(_ENDS))
        if size > _ENDS:
            file.seek(max(_ENDS, size - _ENDS))
            digest.update(file.read(_ENDS))
    return digest.hexdigest()


def _whole(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
