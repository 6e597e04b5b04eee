"""What Git LFS leaves in place of a file that it has not fetched (https://github.com/git-lfs/git-lfs, docs/spec.md)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from wsopt.errors import CheckpointError

_BEGIN: Final = b"version https://git-lfs"
_MOST_BYTES: Final = 1024
_SIZE = re.compile(rb"^size ([0-9]+)$", re.MULTILINE)


def refuse_pointer(path: Path) -> None:
    """Raise CheckpointError where `path` is a Git LFS pointer, no regular file, or cannot be read."""
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise CheckpointError(f"{path} is no regular file. Put the file itself there, or save that checkpoint again.")
    try:
        with path.open("rb") as file:
            head = file.read(_MOST_BYTES)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror or error}. Mend that, or move it out of the folder."
        ) from error
    if not head.startswith(_BEGIN):
        return
    size = _SIZE.search(head)
    stands_for = f"a file of {int(size[1]):,}" if size else "another file"
    raise CheckpointError(
        f"{path} is a Git LFS pointer: {len(head):,} bytes that stand for {stands_for}. "
        f"Fetch the file itself: git lfs pull."
    )
