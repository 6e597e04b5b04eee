"""A safetensors file written tensor by tensor, whole or not at all.

Format: 8 bytes little-endian header length, the header as JSON, then the tensors' bytes
(https://github.com/huggingface/safetensors). `wsopt.checkpoints.write_tensors` builds the file in memory, which a merge
of several gigabytes cannot afford.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NoReturn, Self

import torch
from torch import Tensor

from wsopt.checkpoints import TensorSpec
from wsopt.errors import InputError, WsoptError

_CODES: Final[dict[torch.dtype, str]] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}


class TensorFile:
    """Context manager: `put` every tensor in the order of `names`, then `commit`. Without that nothing stays.

    Everything goes to a temporary name in the same folder, which is synced and renamed. The same tensors and metadata
    always give the same bytes: tensors lie widest dtype first (so that all are aligned), then by name.

    Args:
        path: the file; its folder is created.
        specs: shape and dtype by name.
        metadata: text entries of the header.

    Raises:
        InputError: for a dtype that the format lacks, on entering where the folder cannot be written, or where the
            disk has too little room.
        WsoptError: where writing fails later.
    """

    def __init__(self, path: Path, specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.name}.tmp")
        self.names = tuple(sorted(specs, key=lambda name: (-specs[name].dtype.itemsize, name)))
        self._specs = specs
        self._header = _header(path, self.names, specs, metadata)
        self._written = 0
        self._file: BinaryIO | None = None

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return len(self._header) + sum(spec.nbytes for spec in self._specs.values())

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.path.parent).free
            if free < self.nbytes:
                raise InputError(
                    f"{self.path} needs {self.nbytes:,} bytes and its disk has {free:,} free. Make room or give "
                    f"another folder."
                )
            self._file = self.temporary.open("wb")
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}. Give another --out.") from error
        try:
            self._write(self._header)
        except BaseException:
            self._drop()
            raise
        return self

    def put(self, name: str, tensor: Tensor) -> None:
        """Write the next tensor, which must be `names` in order, of the shape and dtype announced."""
        expected = self._specs[self.names[self._written]]
        found = TensorSpec(tuple(tensor.shape), tensor.dtype)
        if name != self.names[self._written] or found != expected:
            raise ValueError(f"got {name} {found}, expected {self.names[self._written]} {expected}")
        self._written += 1
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        self._write(flat.view(torch.uint8).numpy().data)

    def flush(self) -> None:
        """Bring everything to the disk, under the temporary name."""
        assert self._file is not None
        if self._written < len(self.names):
            raise ValueError(f"{len(self.names) - self._written} tensors are still to be put")
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            self._fail(error)

    def commit(self) -> None:
        """Give the file its name; what had it before is replaced."""
        self.flush()
        try:
            self.temporary.replace(self.path)
        except OSError as error:
            self._fail(error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()

    def _write(self, data: bytes | memoryview) -> None:
        assert self._file is not None
        try:
            self._file.write(data)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        raise WsoptError(
            f"{self.path} could not be written: {error.strerror}. Nothing was left behind; make room and merge again."
        ) from error

    def _drop(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # what was still buffered may not fit either; the file goes in any case
                self._file.close()
        self.temporary.unlink(missing_ok=True)


def _header(path: Path, names: tuple[str, ...], specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    at = 0
    for name in names:
        spec = specs[name]
        if spec.dtype not in _CODES:
            raise InputError(f"{path}: tensor {name} is {spec}, which safetensors cannot hold.")
        entries[name] = {
            "dtype": _CODES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [at, at + spec.nbytes],
        }
        at += spec.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
