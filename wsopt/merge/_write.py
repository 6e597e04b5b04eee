"""A safetensors file written tensor by tensor, whole or not at all.

Format: 8 bytes little-endian header length, the header as JSON, then the tensors' bytes
(https://github.com/huggingface/safetensors). `wsopt.checkpoints.write_tensors` builds the file in memory, which a merge
of several gigabytes cannot afford.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NoReturn, Self

from torch import Tensor

from wsopt.checkpoints import TensorSpec, pack_header
from wsopt.errors import InputError, WsoptError
from wsopt.tensors import as_bytes


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
        self._header = pack_header(path, {name: specs[name] for name in self.names}, metadata)
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
        self._write(as_bytes(tensor))

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
