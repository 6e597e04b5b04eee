"""Reading reference statistics of any known format, told by the file's content."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final, Literal

from wsopt.errors import InputError
from wsopt.objectives.references._base import Reference
from wsopt.objectives.references._file import read_own
from wsopt.objectives.references._npz import NPY_START, TORN
from wsopt.objectives.references._public import PARTS, read_npz, read_torch, refuse_pickle

Layout = Literal["wsopt", "npz", "torch", "npy", "pickle"]
_ZIP: Final = b"PK"
_PICKLE: Final = b"\x80"
# A pickled magic number, which torch.save wrote first before it wrote zip files.
_TORCH_LEGACY: Final = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_ENOUGH: Final = 16


def read_reference(path: str | Path, which: str | None = None) -> Reference:
    """Reference statistics from a file of wsopt or of a public evaluator.

    Args:
        path: the file; ``FILE#clip`` is the same as `which` = ``clip``. The format is told by the content: wsopt's own
            (`write_reference`), .npz of mu and sigma, reference batches of ADM and consistency_models (with `images`),
            .npz of features (pool_3, feats), and statistic.pth.
        which: of a reference batch: ``inception`` (mu, sigma), ``clip`` (mu_clip, sigma_clip) or ``spatial`` (mu_s,
            sigma_s); None takes the first that is there.

    Returns:
        The reference. Where the file does not say what it was made with, `features`, `extractor_digest` and `quantize`
        are empty (`check_fits` says so) and `samples` is 0. What is derived from it is kept in ``FILE.derived/``.

    Raises:
        InputError: where the file is missing, torn, of no known format, a pickle, or holds wrong statistics.
    """
    file, part = split_part(path)
    part = which or part
    if part is not None and part not in PARTS:
        raise InputError(f"{file} has no part {part!r}: choose {', '.join(PARTS)}.")
    layout = layout_of(file)
    if layout == "npz":
        return read_npz(file, part)
    if layout == "torch":
        return read_torch(file, part)
    if layout == "pickle":
        raise refuse_pickle(file)
    if layout == "npy":
        raise InputError(
            f"{file} holds one array and no statistics. Make them of images: wsopt reference make {file} --features "
            f"NAME --out FILE."
        )
    if part is not None:
        raise InputError(f"{file} holds one set of statistics: leave {part!r} out.")
    return read_own(file)


def split_part(path: str | Path) -> tuple[Path, str | None]:
    """The file and the part that ``FILE#part`` names; a file whose own name has a ``#`` is taken as it is."""
    text = str(path)
    name, mark, part = text.rpartition("#")
    named = mark and "/" not in part and not Path(text).exists()
    return (Path(name), part) if named else (Path(text), None)


def layout_of(path: Path) -> Layout:
    """What kind of file it is.

    Raises:
        InputError: where it cannot be read, or is none that is known.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_ENOUGH)
    except OSError as error:
        raise InputError(
            f"reference statistics {path} cannot be read ({error.strerror or error}). Give an existing file."
        ) from error
    if start.startswith(_ZIP):
        return "torch" if _holds_pickle(path) else "npz"
    if start.startswith(NPY_START):
        return "npy"
    if start.startswith(_TORCH_LEGACY[:_ENOUGH]):
        return "torch"
    if start.startswith(_PICKLE):
        return "pickle"
    if start[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
        return "wsopt"
    raise InputError(
        f"{path} is no file of reference statistics that is known ({'empty' if not start else 'foreign content'}). "
        f"Give a file of wsopt reference make, an .npz of mu and sigma, a reference batch or a statistic.pth."
    )


def _holds_pickle(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (OSError, *TORN):
        return False  # torn: said where it is read as .npz
