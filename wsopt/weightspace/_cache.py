"""Differences in a mapped file, kept between runs.

    CACHE/<subject>-<state>/differences.bin      [blocks, K-1, block], as it lies in memory
                            rest.safetensors     anchor, copied tensors, scales; fingerprint and policies; written last

`subject` is a digest of what is stacked and how, `state` of the checkpoint files' sizes and times.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wsopt.checkpoints import CheckpointSet
from wsopt.errors import CheckpointError, InputError
from wsopt.files import files_of, locked, write_bytes
from wsopt.weightspace._base import SpaceSettings
from wsopt.weightspace._kernel import Shard
from wsopt.weightspace._layout import FlatLayout, make_layout
from wsopt.weightspace._load import Content, load
from wsopt.weightspace._storage import make_shards, map_file, stored_bytes

_VERSION = 1
_REST = "rest.safetensors"
_DIFFERENCES = "differences.bin"
_POLL_SECONDS = 0.2


class _BusyError(Exception):
    """Another process holds the folder."""


def cached(checkpoints: CheckpointSet, settings: SpaceSettings, groups: Mapping[str, str] | None) -> Content:
    """The stack with its differences mapped: from the cache where that is current, else loaded into it.

    A process that finds another at work on the same files waits for it.

    Args:
        checkpoints: the window.
        settings: `SpaceSettings.cache` is the folder.
        groups: layer group by name of a tensor that may be combined.

    Raises:
        InputError: no folder, or no room in it.
        CheckpointError: see `load`; or a checkpoint that changed while it was read.
    """
    if settings.cache is None:
        raise InputError(
            "the differences do not fit the memory available, or are to be mapped, and there is no folder for them. "
            'Set weightspace.cache to a folder, or weightspace.memory = "resident".'
        )
    entry = _Entry(checkpoints, settings, groups)
    with entry.keeping():
        entry.folder.mkdir(parents=True, exist_ok=True)
    with _waiting(entry.folder):
        content = entry.open() or entry.build()
    entry.remove_stale()
    return content


class _Entry:
    """One folder of the cache."""

    def __init__(self, checkpoints: CheckpointSet, settings: SpaceSettings, groups: Mapping[str, str] | None) -> None:
        assert settings.cache is not None
        self.checkpoints = checkpoints
        self.settings = settings
        self.groups = groups
        self._size = 0
        self.cache = settings.cache
        self.subject = _subject(checkpoints, settings, groups)
        self.state = _state(checkpoints)
        self.folder = settings.cache / f"{self.subject}-{self.state}"

    def open(self) -> Content | None:
        """Map what is there, or None where it is absent, incomplete, or was changed."""
        try:
            with safe_open(self.folder / _REST, "pt") as file:
                facts = json.loads(file.metadata()["facts"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if facts["file"] != _file_facts(self.folder / _DIFFERENCES):
                return None
        except (OSError, SafetensorError):
            return None
        policies = facts["policies"]
        layout = make_layout(self.checkpoints.tensors, policies, self.groups)
        mapped = map_file(self.folder / _DIFFERENCES, layout, len(self.checkpoints), self.settings)
        shards = make_shards(layout, len(self.checkpoints), self.settings, mapped)
        for shard in shards:
            inside = slice(shard.first, shard.blocks.stop)
            shard.anchor.copy_(tensors["anchor"][inside])
            if shard.scales is not None:
                shard.scales.copy_(tensors["scales"][inside])
        copied = {name.removeprefix("copied:"): value for name, value in tensors.items() if name.startswith("copied:")}
        return Content(policies, layout, copied, shards, facts["fingerprint"])

    def build(self) -> Content:
        """Load the checkpoints into a new file, then map that."""
        (self.folder / _REST).unlink(missing_ok=True)
        temporary = self.folder / f".{_DIFFERENCES}.tmp"
        try:
            content = load(
                self.checkpoints, self.settings, self.groups, lambda layout: self._allocate(temporary, layout)
            )
            if _state(self.checkpoints) != self.state:
                raise CheckpointError(
                    f"a checkpoint beside {self.checkpoints.snapshots[0]} changed while it was read. Wait until "
                    f"nothing writes to that folder any more."
                )
            with self.keeping():
                _sync(temporary)
                temporary.replace(self.folder / _DIFFERENCES)
                write_bytes(self.folder / _REST, self._rest(content))
        finally:
            temporary.unlink(missing_ok=True)
        del content
        opened = self.open()
        if opened is None:
            raise InputError(
                f"{self.folder}: what was written there cannot be read back. Set another weightspace.cache."
            )
        return opened

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Turn what the system says while files are made into the one message."""
        try:
            yield
        except OSError as error:
            size = f" ({self._size / 2**30:.2f} GiB)" if self._size else ""
            raise InputError(
                f"{self.folder}: the mapped differences{size} cannot be kept there: {error.strerror or error}. Set "
                f"weightspace.cache to a folder with room, or weightspace.dtype to a smaller one."
            ) from error

    def remove_stale(self) -> None:
        """Remove what an earlier state of the same checkpoint files left; a process that has it mapped keeps it."""
        for folder in self.cache.glob(f"{self.subject}-*"):
            if folder == self.folder:
                continue
            try:
                with locked(folder, _BusyError):
                    shutil.rmtree(folder, ignore_errors=True)
            except (_BusyError, OSError):
                continue

    def _allocate(self, path: Path, layout: FlatLayout) -> list[Shard]:
        self._size = stored_bytes(layout, len(self.checkpoints), self.settings)
        with self.keeping():
            allocate_file(path, self._size)
        mapped = map_file(path, layout, len(self.checkpoints), self.settings, write=True)
        return make_shards(layout, len(self.checkpoints), self.settings, mapped)

    def _rest(self, content: Content) -> bytes:
        tensors = {f"copied:{name}": tensor.contiguous() for name, tensor in content.copied.items()}
        tensors["anchor"] = _joined([shard.anchor for shard in content.shards])
        scales = [shard.scales for shard in content.shards if shard.scales is not None]
        if scales:
            tensors["scales"] = _joined(scales)
        facts = {
            "fingerprint": content.fingerprint,
            "policies": dict(content.policies),
            "file": _file_facts(self.folder / _DIFFERENCES),
        }
        return safetensors.torch.save(tensors, {"facts": json.dumps(facts)})


def allocate_file(path: Path, size: int) -> None:
    """Make a file of `size` zero bytes that the disk has room for.

    The room is taken now: a disk that fills up while a mapping is written to kills the process.

    Raises:
        OSError: no room.
    """
    with path.open("wb") as file:
        file.truncate(size)
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        elif size > shutil.disk_usage(path.parent).free:
            raise OSError(errno.ENOSPC, "No space left on device")


def _subject(checkpoints: CheckpointSet, settings: SpaceSettings, groups: Mapping[str, str] | None) -> str:
    facts = {
        "version": _VERSION,
        "files": [[str(one.path.resolve()), one.part, one.reader.name] for one in checkpoints.snapshots],
        "steps": checkpoints.steps,
        "tensors": [[name, str(spec)] for name, spec in checkpoints.tensors.items()],
        "groups": None if groups is None else sorted(groups.items()),
        "settings": [settings.dtype, settings.copy_from, settings.batchnorm],
    }
    return _short(facts)


def _state(checkpoints: CheckpointSet) -> str:
    return _short([_times(path) for path in checkpoints.paths])


def _times(path: Path) -> list[list[object]]:
    """Size and times of a file, or of all in a folder. Times of change too: a copied file may keep the other."""
    try:
        stats = [(one, one.stat()) for one in files_of(path)]
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}. Give checkpoints that are on disk.") from error
    return [[one.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] for one, stat in stats]


def _short(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _file_facts(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.cpu() for part in parts]).contiguous()


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def _waiting(folder: Path) -> Iterator[None]:
    while True:
        try:
            with locked(folder, _BusyError):
                yield
                return
        except _BusyError:
            time.sleep(_POLL_SECONDS)
