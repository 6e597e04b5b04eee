"""The objects in a file of torch.save; nothing that the file names is run."""

from __future__ import annotations

import re
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import torch

from wsopt.checkpoints._pickle_ids import ForeignGlobal, StorageId
from wsopt.checkpoints._pickle_passive import Array, Dtype, stand_in
from wsopt.checkpoints._pickle_storage import ZIP_HEADER_BYTES, ZIP_START, Storage
from wsopt.checkpoints._pickle_stream import MAX_OPCODE_BYTES
from wsopt.checkpoints._pickle_unpickler import unpickle_torch
from wsopt.errors import CheckpointError

_DATA: Final = "data.pkl"
_NAMED = re.compile(r"GLOBAL (\S+)|global (\S+) whose module")
_LOCK = threading.Lock()  # torch's list of safe globals, and the filters of warnings, belong to the whole process


def open_tree(path: Path, *, values: bool) -> Any:  # noqa: ANN401
    """The objects in the file.

    Tensors of a zip file stay in the file (`StoredTensor`). Files with more than the restricted unpickler knows, with
    compressed records or of the legacy format, which has no header, are left to torch's weights-only loader.

    Args:
        path: a file of torch.save.
        values: whether tensors that torch loads have values, or are on the device ``meta``.

    Raises:
        CheckpointError: torn, damaged, or naming what would have to be run.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(ZIP_START))
        if len(start) < len(ZIP_START):
            raise EOFError
        if start != ZIP_START:
            return _load(path, "cpu", ())
        try:
            return _stored_tree(path)
        except (ForeignGlobal, _NotPlain):
            return _read(path, "cpu" if values else "meta")
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise _refusal(path, error) from error


# zipfile calls what it lacks (an encryption, a version) NotImplementedError, and damaged names a ValueError.
NO_ZIP: Final = (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError)
"""What `zipfile` raises for a file whose directory it cannot read."""


class _NotPlain(Exception):
    """A zip file that only torch can read: compressed, or of the other byte order."""


def archive_names(path: Path) -> list[str] | None:
    """Names of a zip file's records; None where its directory, which comes last, is missing."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except NO_ZIP:
        return None


def _stored_tree(path: Path) -> Any:  # noqa: ANN401
    try:
        with zipfile.ZipFile(path) as archive:
            records = {one.filename.partition("/")[2] or one.filename: one for one in archive.infolist()}
            opcodes = _opcodes(path, archive, records)
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path} is torn: its zip directory is missing or damaged. Restore that file, or save that "
            f"checkpoint again."
        ) from error
    size = path.stat().st_size
    return unpickle_torch(opcodes, lambda one: _locate(path, records, one, size))


def _locate(path: Path, records: Mapping[str, zipfile.ZipInfo], one: StorageId, size: int) -> Storage:
    record = records.get(f"data/{one.key}")
    if record is None or record.file_size != one.nbytes:
        found = "missing" if record is None else f"{record.file_size:,} bytes long"
        raise CheckpointError(
            f"{path} is torn: its record data/{one.key} is {found}, expected {one.nbytes:,} bytes. "
            f"Restore that file, or save that checkpoint again."
        )
    if record.header_offset + ZIP_HEADER_BYTES + one.nbytes > size:  # or else it would cost the memory it announces
        raise CheckpointError(
            f"{path} is torn: it has {size:,} bytes, its record data/{one.key} alone should have {one.nbytes:,}. "
            f"Restore that file, or save that checkpoint again."
        )
    return Storage(record.header_offset, one.numel, one.dtype, zipped=True)


def _opcodes(path: Path, archive: zipfile.ZipFile, records: Mapping[str, zipfile.ZipInfo]) -> bytes:
    """The pickle's bytes; `zipfile` would refuse a file for which torch was told to save no checksums."""
    record = records.get(_DATA)
    if record is None:
        raise CheckpointError(f"{path} is a zip file without {_DATA}: it was not written by torch.save.")
    if record.file_size > MAX_OPCODE_BYTES:
        raise CheckpointError(
            f"{path} lists more than {MAX_OPCODE_BYTES:,} bytes of objects. Save the state_dict alone."
        )
    if "constants.pkl" in records:
        raise CheckpointError(
            f"{path} is a TorchScript program, not weights. Save its state_dict: "
            f"torch.save(torch.jit.load(...).state_dict(), ...)."
        )
    if any(one.compress_type != zipfile.ZIP_STORED for one in records.values()):
        raise _NotPlain
    with path.open("rb") as file:
        if _record(file, records.get("byteorder")) == b"big":
            raise _NotPlain
        return _record(file, record)


def _record(file: BinaryIO, record: zipfile.ZipInfo | None) -> bytes:
    if record is None:
        return b""
    Storage(record.header_offset, record.file_size, torch.uint8, zipped=True).seek(file, 0)
    return file.read(record.file_size)


def _read(path: Path, where: str) -> Any:  # noqa: ANN401
    try:
        return _load(path, where, ())
    except Exception:
        foreign = _foreign(path)
        stand_ins = [(stand_in(name), name) for name in foreign]
        if not foreign or any(one is None for one, _ in stand_ins):
            raise
    # The types that stand-ins make are named too: only listed types may be built.
    stand_ins += [(one, f"wsopt.passive.{one.__name__}") for one in (Array, Dtype)]
    return _load(path, where, stand_ins)


def _load(path: Path, where: str, stand_ins: Sequence[tuple[Any, str]]) -> Any:  # noqa: ANN401
    with _LOCK, _only(stand_ins), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location=where, weights_only=True, mmap=False)


@contextmanager
def _only(stand_ins: Sequence[tuple[Any, str]]) -> Iterator[None]:
    """Let torch know `stand_ins` and nothing that other code in this process has declared safe."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        torch.serialization.add_safe_globals(list(stand_ins))
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _foreign(path: Path) -> list[str]:
    """What the file names beyond torch's own list; empty where that cannot be told (legacy files, damaged ones)."""
    try:
        with _LOCK, _only(()):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # a damaged pickle raises nearly anything
        return []


def _refusal(path: Path, error: Exception) -> CheckpointError:
    foreign = [name for name in _foreign(path) if stand_in(name) is None]
    if not foreign and (match := _NAMED.search(str(error))):
        foreign = [match.group(1) or match.group(2)]
    if foreign:
        return CheckpointError(
            f"{path} asks for {', '.join(foreign[:8])}, which wsopt would have to run: it never runs code from a file. "
            f"Load the file with the code that wrote it and save the weights alone: "
            f"torch.save(model.state_dict(), ...)."
        )
    if "Quantized" in str(error):
        return CheckpointError(f"{path} holds quantized tensors, which cannot be combined. Save them dequantized.")
    if isinstance(error, EOFError) or "unexpected" in str(error) or "EOF" in str(error):
        return CheckpointError(f"{path} is torn: it ends too early. Restore that file, or save that checkpoint again.")
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return CheckpointError(f"{path} is damaged ({said}). Restore that file, or save that checkpoint again.")
