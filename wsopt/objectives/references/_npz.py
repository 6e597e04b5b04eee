"""Arrays in .npz and .npy files, found by their headers and read one at a time; nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from wsopt.errors import InputError

NPY_START: Final = b"\x93NUMPY"
_SUFFIX: Final = ".npy"
_PIECE_BYTES: Final = 16 << 20
# zipfile raises RuntimeError for an encrypted record, and a kind of it for a compression that it lacks.
TORN: Final = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)


@dataclass(frozen=True)
class ArrayHeader:
    """What the header of an array says: its shape, its type, and whether columns come first."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran: bool

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


class ArrayFile:
    """The arrays of an .npz file, or the one array of an .npy file (its name is empty).

    Args:
        path: the file.

    Raises:
        InputError: where it cannot be read or is torn.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.headers: dict[str, ArrayHeader] = {}
        with self._mended():
            with path.open("rb") as file:
                self._zipped = file.read(len(NPY_START)) != NPY_START
            if not self._zipped:
                with self._opened("") as file:
                    self.headers[""] = _header(file)
                return
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(_SUFFIX)]
            for name in names:
                with self._opened(name.removesuffix(_SUFFIX)) as file:
                    self.headers[name.removesuffix(_SUFFIX)] = _header(file)

    def described(self) -> str:
        """Its arrays with types and shapes, for messages."""
        return ", ".join(f"{name or 'one array'} {header}" for name, header in self.headers.items()) or "no array"

    def load(self, name: str) -> NDArray[np.generic]:
        """One array, read whole.

        Raises:
            InputError: where it is torn or holds pickled objects.
        """
        header = self._plain(name)
        with self._mended(), self._opened(name) as file:
            _header(file)
            data = file.read()
            if len(data) != header.nbytes:
                raise EOFError(f"{name} has {len(data):,} bytes, its header announces {header.nbytes:,}")
            return np.frombuffer(data, dtype=header.dtype).reshape(header.shape, order="F" if header.fortran else "C")

    def rows(self, name: str, wanted: NDArray[np.int64], size: int) -> Iterator[NDArray[np.generic]]:
        """Some rows of an array, in batches, without reading it whole.

        Args:
            name: of the array.
            wanted: ascending row numbers.
            size: rows per batch; the last may have fewer.

        Raises:
            InputError: where it is torn or holds pickled objects.
        """
        header = self._plain(name)
        if header.fortran:
            whole = self.load(name)
            yield from (whole[wanted[at : at + size]] for at in range(0, len(wanted), size))
            return
        pending: list[NDArray[np.generic]] = []
        for rows in self._pieces(name, header, wanted):
            pending += list(rows)
            while len(pending) >= size:
                yield np.stack(pending[:size])
                del pending[:size]
        if pending:
            yield np.stack(pending)

    def _pieces(self, name: str, header: ArrayHeader, wanted: NDArray[np.int64]) -> Iterator[NDArray[np.generic]]:
        """The wanted rows of one piece of the file after the other."""
        row = header.nbytes // max(header.shape[0], 1)
        per_piece = max(1, _PIECE_BYTES // max(row, 1))
        with self._mended(), self._opened(name) as file:
            _header(file)
            for start in range(0, header.shape[0], per_piece):
                stop = min(start + per_piece, header.shape[0])
                if not len(wanted) or start > wanted[-1]:
                    return
                data = file.read((stop - start) * row)
                if len(data) != (stop - start) * row:
                    raise EOFError(f"{name} ends within its rows {start} to {stop}")
                here = wanted[(wanted >= start) & (wanted < stop)] - start
                yield np.frombuffer(data, dtype=header.dtype).reshape(-1, *header.shape[1:])[here]

    def _plain(self, name: str) -> ArrayHeader:
        header = self.headers[name]
        if header.dtype.hasobject:
            raise InputError(
                f"{self.path}: {name or 'its array'} holds pickled Python objects, which may run code and are not "
                f"read. Save plain numbers: np.savez(FILE, mu=..., sigma=...)."
            )
        return header

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        if not self._zipped:
            with self.path.open("rb") as file:
                yield file
            return
        with zipfile.ZipFile(self.path) as archive, archive.open(name + _SUFFIX) as file:
            yield file

    @contextmanager
    def _mended(self) -> Iterator[None]:
        """Say in one message what is wrong with the file."""
        try:
            yield
        except InputError:
            raise
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error.strerror or error}).") from error
        except TORN as error:
            raise InputError(f"{self.path} is torn or no .npz file ({error}). Fetch or write it again.") from error


def _header(file: IO[bytes]) -> ArrayHeader:
    version = npy_format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = npy_format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = npy_format.read_array_header_2_0(file)
    else:
        raise ValueError(f"an array of format version {version[0]}.{version[1]}")
    return ArrayHeader(shape, dtype, fortran)
