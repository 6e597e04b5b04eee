"""Which sets of weights lie on disk twice, found without reading whole files.

Training scripts keep copies of the newest checkpoint (``ckpt.pth`` beside ``ckpt_5000.pth``), people keep theirs.
Headers and sizes are compared first; then the checksums that a zip archive keeps of its entries, or blocks spread over
the file (small files: all of it).
"""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from wsopt.checkpoints._base import Snapshot
from wsopt.checkpoints._torch_open import NO_ZIP
from wsopt.files import files_of

BLOCKS: Final = 32
BLOCK_BYTES: Final = 4096
_WHOLE_BYTES = BLOCKS * BLOCK_BYTES
_ZIP_BOOKKEEPING = frozenset(
    {"version", "byteorder", ".data/serialization_id", ".format_version", ".storage_alignment"}
)


def duplicate_groups(snapshots: Sequence[Snapshot]) -> list[list[Snapshot]]:
    """Those of `snapshots` that hold the same weights, group by group, in the given order.

    Files that cannot be read (any more) are no duplicates of anything.
    """
    groups = _split([list(snapshots)], lambda one: (one.part, tuple(one.tensors.items())))
    groups = _split(groups, lambda one: _checksums(one.path) or _sizes(one.path))
    sure = [group for group in groups if _checksums(group[0].path)]
    open_ = [group for group in groups if not _checksums(group[0].path)]
    for block in range(BLOCKS):
        open_ = _split(open_, partial(_sample, block=block))
    order = {id(one): number for number, one in enumerate(snapshots)}
    return sorted(sure + open_, key=lambda group: order[id(group[0])])


def _split(groups: Sequence[Sequence[Snapshot]], key: Callable[[Snapshot], Hashable | None]) -> list[list[Snapshot]]:
    """Take groups apart by a key; those of one member, and members without a key, are gone."""
    found: list[list[Snapshot]] = []
    for group in groups:
        parts: dict[Hashable, list[Snapshot]] = defaultdict(list)
        for one in group:
            try:
                value = key(one)
            except (OSError, *NO_ZIP):
                value = None
            if value is not None:
                parts[value].append(one)
        found += [part for part in parts.values() if len(part) > 1]
    return found


def _sizes(path: Path) -> Hashable:
    return tuple((str(file.relative_to(path)), file.stat().st_size) for file in files_of(path))


def _checksums(path: Path) -> Hashable | None:
    """Names, sizes and CRC-32 of a zip archive's entries; None for another file, or where they were not kept.

    torch.save names the folder in its archive after the file, so copies that were saved apart differ in that name, and
    in size. It can be told to keep no checksums: all are 0 then.
    """
    if not path.is_file() or not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        entries = [
            (info.filename.partition("/")[2], info.file_size, info.CRC)
            for info in archive.infolist()
            if info.filename.partition("/")[2] not in _ZIP_BOOKKEEPING
        ]
    return tuple(sorted(entries)) if all(checksum for _, size, checksum in entries if size) else None


def _sample(snapshot: Snapshot, block: int) -> Hashable:
    """Block number `block` of every file: the last, the first, and those between at even distances."""
    samples = []
    for file in files_of(snapshot.path):
        size = file.stat().st_size
        if size <= _WHOLE_BYTES:
            samples.append(file.read_bytes() if block == 0 else b"")
            continue
        with file.open("rb") as opened:
            # From the end on: headers are alike more often than data.
            opened.seek((size - BLOCK_BYTES) * (BLOCKS - 1 - block) // (BLOCKS - 1))
            samples.append(opened.read(BLOCK_BYTES))
    return tuple(samples)
