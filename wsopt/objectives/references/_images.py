"""Real images from a folder of image files or from an array, read a batch at a time as whole grey levels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from wsopt.errors import InputError, MissingDependencyError
from wsopt.objectives.references._npz import ArrayFile

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES: Final = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Names of files in a folder that are taken for images, in either case."""
_GREY: Final = ("L", "1")
_COLOUR: Final = ("RGB", "RGBA", "P", "CMYK", "YCbCr", "LA", "PA", "HSV", "LAB")
_NAMES: Final = ("arr_0", "images")
_CHANNELS: Final = (1, 3)


class ImageSource(Protocol):
    """Images that are whole grey levels, all of one shape."""

    name: str
    count: int
    shape: tuple[int, int, int]

    def read(self, wanted: NDArray[np.int64], size: int) -> Iterator[NDArray[np.uint8]]:
        """Some images, in batches.

        Args:
            wanted: ascending numbers of images.
            size: images per batch; the last may have fewer.

        Returns:
            ``[N, C, H, W]`` uint8 grey levels each.
        """


class FolderImages:
    """The image files below a folder, sorted by path. Through PIL.

    Greyscale where all of them are (one channel), else RGB; transparency is dropped, as public evaluators do.

    Args:
        folder: searched with all folders in it.

    Raises:
        InputError: where there are none, one cannot be read, or one has another size or more than 8 bits.
        MissingDependencyError: where PIL is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.resolve().name
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not self.paths:
            raise InputError(
                f"{folder} holds no image files ({', '.join(SUFFIXES)}). Give a folder of images, or an array in .npz."
            )
        self.count = len(self.paths)
        seen = [_looked_at(path) for path in self.paths]
        first_size, _ = seen[0]
        for path, (size, mode) in zip(self.paths, seen, strict=True):
            if size != first_size:
                raise InputError(
                    f"{path} is {size[0]} x {size[1]} pixels, {self.paths[0]} is {first_size[0]} x {first_size[1]}: "
                    f"all have to be of one size. Resize them by one rule and tool, which is part of the metric."
                )
            if mode not in _GREY + _COLOUR:
                raise InputError(f"{path} has pixels of PIL mode {mode!r}, expected 8 bits. Convert it to 8 bits.")
        self._mode = "L" if all(mode in _GREY for _, mode in seen) else "RGB"
        self.shape = (1 if self._mode == "L" else 3, first_size[1], first_size[0])

    def read(self, wanted: NDArray[np.int64], size: int) -> Iterator[NDArray[np.uint8]]:
        """See `ImageSource.read`."""
        for at in range(0, len(wanted), size):
            yield np.stack([self._one(self.paths[number]) for number in wanted[at : at + size]])

    def _one(self, path: Path) -> NDArray[np.uint8]:
        with _opened(path) as image:
            try:
                pixels = np.asarray(image.convert(self._mode), dtype=np.uint8)
            except (OSError, ValueError, SyntaxError) as error:  # PIL's for torn content
                raise _unreadable(path, error) from error
        return pixels[None] if self._mode == "L" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


class ArrayImages:
    """uint8 images in an .npz or .npy file: ``[N, H, W, C]``, ``[N, C, H, W]`` or ``[N, H, W]``, C 1 or 3.

    Args:
        file: the arrays.
        array: which; None takes ``arr_0``, ``images`` or the only array.

    Raises:
        InputError: where there is none, or it is no such array.
    """

    def __init__(self, file: ArrayFile, array: str | None = None) -> None:
        self.name = file.path.name
        self._file = file
        self._array = _choose(file) if array is None else array
        header = file.headers[self._array]
        what = f"{file.path}: {self._array or 'its array'}"
        if header.dtype != np.uint8:
            raise InputError(
                f"{what} is {header}, expected uint8 grey levels from 0 to 255. Convert it, for values in [-1, 1]: "
                f"((x + 1) * 127.5).round().astype(np.uint8)."
            )
        if len(header.shape) == 3:
            self.shape, self._last = (1, *header.shape[1:]), False
        elif len(header.shape) == 4 and header.shape[3] in _CHANNELS:
            self.shape, self._last = (header.shape[3], *header.shape[1:3]), True
        elif len(header.shape) == 4 and header.shape[1] in _CHANNELS:
            self.shape, self._last = header.shape[1:], False
        else:
            raise InputError(f"{what} is {header}, expected images [N, H, W, C] or [N, C, H, W] with C = 1 or 3.")
        self.count = header.shape[0]
        if 0 in header.shape:
            raise InputError(f"{what} is {header}: there are no images in it.")

    shape: tuple[int, int, int]

    def read(self, wanted: NDArray[np.int64], size: int) -> Iterator[NDArray[np.uint8]]:
        """See `ImageSource.read`."""
        for rows in self._file.rows(self._array, wanted, size):
            images: NDArray[Any] = rows.transpose(0, 3, 1, 2) if self._last else rows
            yield np.ascontiguousarray(images.reshape(len(rows), *self.shape))


def in_model_range(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Whole grey levels in [-1, 1], so that every quantisation gives these levels again.

    Args:
        images: uint8, any shape.

    Returns:
        float32 of the same shape.
    """
    # (v / 127.5 - 1 + 1) * 127.5 falls short of some v in float32; a thousandth of a level more does not.
    return np.asarray(((images.astype(np.float64) + 1e-3) / 127.5 - 1.0).clip(max=1.0), dtype=np.float32)


def _choose(file: ArrayFile) -> str:
    for name in _NAMES:
        if name in file.headers:
            return name
    if len(file.headers) != 1:
        raise InputError(
            f"{file.path} holds {file.described()}; expected images as arr_0, images or the only array. Save them so: "
            f"np.savez(FILE, images=...)."
        )
    return next(iter(file.headers))


def _looked_at(path: Path) -> tuple[tuple[int, int], str]:
    """Width and height, and the mode; only the header is read."""
    with _opened(path) as image:
        return image.size, image.mode


def _opened(path: Path) -> Image.Image:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(
            f"reading image files needs the package pillow, which could not be imported ({error}). Install it with "
            f"pip install pillow."
        ) from error
    try:
        return Image.open(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} cannot be read as an image ({error}). Mend it or take it out of the folder.")
