"""Real images from folders and arrays: all readers give the same grey levels, and what is wrong is named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsopt.errors import InputError, MissingDependencyError
from wsopt.objectives.references import ArrayFile, ArrayImages, FolderImages, ImageSource

COLOUR = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]


def every(source: ImageSource, size: int = 3) -> np.ndarray:
    batches = list(source.read(np.arange(source.count), size))
    assert all(batch.dtype == np.uint8 for batch in batches)
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    found = np.concatenate(batches)
    assert found.shape == (source.count, *source.shape)
    return found


def write(folder: Path, images: np.ndarray, suffix: str = "png") -> None:
    for number, image in enumerate(images):
        path = folder / ("b" if number % 2 else "a") / f"{number}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tif", "ppm"])
def test_folder(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / "set", COLOUR, suffix)
    (tmp_path / "set" / "notes.txt").write_text("no image")
    source = FolderImages(tmp_path / "set")
    assert (source.name, source.count, source.shape) == ("set", 7, (3, 4, 5))
    assert np.array_equal(every(source), COLOUR[[0, 2, 4, 6, 1, 3, 5]].transpose(0, 3, 1, 2))


def test_grey_stays_grey_and_a_mixture_is_colour(tmp_path: Path) -> None:
    write(tmp_path, GREY)
    assert np.array_equal(every(FolderImages(tmp_path)), GREY[[0, 2, 4, 6, 1, 3, 5]][:, None])
    Image.fromarray(np.dstack([COLOUR[0], np.full((4, 5), 9, np.uint8)])).save(tmp_path / "c.png")
    Image.fromarray(GREY[0] > 99).save(tmp_path / "d.png")
    Image.fromarray(COLOUR[0]).quantize(256).save(tmp_path / "e.png")
    source = FolderImages(tmp_path)
    assert source.shape == (3, 4, 5)
    found = every(source)
    assert np.array_equal(found[0], np.repeat(GREY[0][None], 3, axis=0))
    assert np.array_equal(found[7], COLOUR[0].transpose(2, 0, 1))
    assert set(np.unique(found[8])) <= {0, 255}
    assert np.array_equal(found[9], COLOUR[0].transpose(2, 0, 1))


LAYOUTS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "NHWC": (COLOUR, COLOUR.transpose(0, 3, 1, 2)),
    "NCHW": (COLOUR.transpose(0, 3, 1, 2), COLOUR.transpose(0, 3, 1, 2)),
    "NHW": (GREY, GREY[:, None]),
    "NHW1": (GREY[..., None], GREY[:, None]),
    "N1HW": (GREY[:, None], GREY[:, None]),
    "columns first": (np.asfortranarray(COLOUR), COLOUR.transpose(0, 3, 1, 2)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("save", ["npy", "arr_0", "images", "only", "compressed"])
def test_arrays(tmp_path: Path, layout: str, save: str) -> None:
    array, expected = LAYOUTS[layout]
    path = tmp_path / "x"
    with path.open("wb") as file:
        if save == "npy":
            np.save(file, array)
        elif save == "arr_0":
            np.savez(file, array, labels=np.arange(7))
        elif save == "compressed":
            np.savez_compressed(file, images=array)
        else:
            np.savez(file, **{save: array})  # type: ignore[arg-type]
    source = ArrayImages(ArrayFile(path))
    assert np.array_equal(every(source), expected)
    some = np.array([1, 2, 6])
    assert np.array_equal(np.concatenate(list(source.read(some, 2))), expected[some])


def test_pieces_of_a_large_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are the same wherever the file is cut."""
    np.savez_compressed(tmp_path / "x.npz", COLOUR)
    file = ArrayFile(tmp_path / "x.npz")
    for size in (1, 60, 121, 300, 10**6):
        monkeypatch.setattr("wsopt.objectives.references._npz._PIECE_BYTES", size)
        for wanted in ([0, 1, 2, 3, 4, 5, 6], [6], [0, 3, 4], []):
            found = list(file.rows("arr_0", np.array(wanted, dtype=np.int64), 2))
            assert [len(one) for one in found] == [len(wanted[at : at + 2]) for at in range(0, len(wanted), 2)]
            assert not wanted or np.array_equal(np.concatenate(found), COLOUR[wanted])


# ---- what is wrong


def test_folders_that_do_not_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image files"):
        FolderImages(tmp_path)
    write(tmp_path, COLOUR)
    odd = tmp_path / "b" / "odd.png"
    Image.fromarray(COLOUR[0][:3]).save(odd)
    Image.fromarray(COLOUR[0][:2]).save(tmp_path / "z.png")
    with pytest.raises(InputError, match=r"odd\.png is 5 x 3 pixels, .*0\.png is 5 x 4"):
        FolderImages(tmp_path)
    (tmp_path / "z.png").unlink()
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(odd)
    with pytest.raises(InputError, match=r"odd\.png has pixels of PIL mode 'I;16'"):
        FolderImages(tmp_path)
    odd.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"odd\.png cannot be read as an image"):
        FolderImages(tmp_path)


def test_a_torn_image_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.tile(COLOUR[0], (20, 20, 1))).save(tmp_path / "0.png")
    data = (tmp_path / "0.png").read_bytes()
    (tmp_path / "0.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"0\.png cannot be read as an image"):
        every(FolderImages(tmp_path))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": COLOUR / 255.0}, r"float64\[7, 4, 5, 3\], expected uint8"),
        ({"images": COLOUR[..., :2]}, r"uint8\[7, 4, 5, 2\], expected images"),
        ({"images": GREY[0]}, r"uint8\[4, 5\], expected images"),
        ({"images": COLOUR[:0]}, "no images in it"),
        ({"x": COLOUR, "y": COLOUR}, r"holds x uint8\[7, 4, 5, 3\], y uint8"),
        ({"images": np.array([{}], dtype=object)}, r"object\[1\], expected uint8"),
    ],
)
def test_arrays_that_do_not_do(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message):
        ArrayImages(ArrayFile(tmp_path / "x.npz"))


def test_a_torn_array(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", COLOUR)
    data = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(data[:-7])
    with pytest.raises(InputError, match=r"x\.npy is torn"):
        every(ArrayImages(ArrayFile(tmp_path / "x.npy")))


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, COLOUR)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependencyError, match="pip install pillow"):
        FolderImages(tmp_path)
