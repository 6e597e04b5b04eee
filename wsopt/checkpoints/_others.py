"""What a file is that no reader knows: part of a training run's other output, or a checkpoint of an unknown format."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

from wsopt.checkpoints._torch_open import NO_ZIP

CHECKPOINT_SUFFIXES: Final = frozenset({".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pkl", ".msgpack"})
_HEAD_BYTES = 4096
_MAGIC: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\x89PNG\r\n", "image"),
    (0, b"\xff\xd8\xff", "image"),
    (0, b"GIF8", "image"),
    (8, b"WEBP", "image"),
    (0, b"II*\x00", "image"),
    (0, b"MM\x00*", "image"),
    (4, b"ftyp", "video"),
    (0, b"\x1aE\xdf\xa3", "video"),
    (8, b"AVI ", "video"),
    (8, b"WAVE", "audio"),
    (0, b"%PDF-", "PDF"),
    (0, b"\x93NUMPY", "numpy array"),
    (0, b"SQLite format 3\x00", "SQLite database"),
    (0, b"PAR1", "parquet table"),
    (0, b"\x1f\x8b", "compressed file"),
    (0, b"BZh", "compressed file"),
    (0, b"\xfd7zXZ\x00", "compressed file"),
    (0, b"\x28\xb5\x2f\xfd", "compressed file"),
    (0, b"7z\xbc\xaf\x27\x1c", "archive"),
    (257, b"ustar", "archive"),
    (0, b"\x7fELF", "program"),
)
_CONTROL = frozenset(range(32)) - {9, 10, 12, 13, 27} | {127}


def read_head(path: Path) -> bytes:
    """The first kilobytes of a file.

    Raises:
        OSError: where it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def looks_like_checkpoint(path: Path) -> bool:
    """True where the name is one that a checkpoint has: its suffix, or digits and no suffix."""
    suffix = path.suffix.lower()
    if suffix in CHECKPOINT_SUFFIXES:
        return True
    bare = not suffix or suffix[1:].isdigit()
    return bare and any(character.isdigit() for character in path.name)


def other_kind(path: Path, head: bytes) -> str | None:
    """What a file is that is surely no checkpoint; None where it may be one, of an unknown format.

    Args:
        path: the file; no reader recognises it.
        head: its first kilobytes, as `read_head` gives them.
    """
    if _is_events(path, head):
        return "TensorBoard events"
    if looks_like_checkpoint(path):
        return None
    if not head:
        return "empty file"
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    if head.startswith(b"BM") and path.suffix.lower() == ".bmp":
        return "image"
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    return "text" if is_text(head) else None


def is_text(head: bytes) -> bool:
    """True for UTF-8 without control characters; a character cut off at the end counts as whole."""
    if not head or not _CONTROL.isdisjoint(head):
        return False
    for cut in range(4):
        try:
            head[: len(head) - cut].decode("utf-8")
            return True
        except UnicodeDecodeError as error:
            if error.end < len(head) - cut or error.reason != "unexpected end of data":
                return False
    return False


def _is_events(path: Path, head: bytes) -> bool:
    """True for TensorBoard's records: the first holds the version of its format."""
    return b"brain.Event:" in head[:64] or (path.name.startswith("events.out.tfevents") and not is_text(head))


def _zip_kind(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, *NO_ZIP):
        return None
    if any(name.endswith("data.pkl") for name in names):
        return None
    return "numpy arrays" if names and all(name.endswith(".npy") for name in names) else "zip archive"
