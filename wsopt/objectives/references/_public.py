"""Statistics as public evaluators keep them: .npz of moments or features, reference batches, statistic.pth.

None of them says which extractor or quantisation it was made with, so what is read here is unlabelled.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from wsopt.errors import InputError
from wsopt.objectives.references._base import Reference, ReferenceFacts
from wsopt.objectives.references._checks import checked_moments
from wsopt.objectives.references._collect import moments_of, shuffled
from wsopt.objectives.references._file import cache_beside
from wsopt.objectives.references._images import ArrayImages, in_model_range
from wsopt.objectives.references._npz import ArrayFile


@dataclass(frozen=True)
class _Moments:
    """One set of moments that a file may hold: its two keys, which output they are of, and who writes it."""

    part: str
    keys: tuple[str, str]
    output: str
    layout: str


_SETS: Final = (
    _Moments("inception", ("mu", "sigma"), "features", "mu and sigma (TTUR, pytorch-fid, clean-fid, EDM)"),
    _Moments("inception", ("m", "s"), "features", "m and s (LCSC)"),
    _Moments("clip", ("mu_clip", "sigma_clip"), "features", "mu_clip and sigma_clip (consistency_models)"),
    _Moments("spatial", ("mu_s", "sigma_s"), "spatial", "mu_s and sigma_s (ADM)"),
)
_VECTORS: Final = {"pool_3": "pool_3 features (score_sde)", "feats": "features (clean-fid's KID)"}
PARTS: Final = ("inception", "clip", "spatial")
"""Which of a reference batch's sets of moments can be asked for; the first where nothing is said."""
_TORCH_AGAIN: Final = "Save it as plain numbers: np.savez(FILE, mu=..., sigma=...)."


def holds_statistics(keys: Mapping[str, object]) -> bool:
    """Whether a file of these keys is one of statistics, and not of images alone."""
    return any(key in keys for key in (*_VECTORS, *(key for one in _SETS for key in one.keys)))


def read_npz(path: Path, part: str | None) -> Reference:
    """Moments or features of an .npz file. Only the arrays that are wanted are read.

    Args:
        path: the file.
        part: which set of moments, one of `PARTS`; None takes the first that is there.

    Raises:
        InputError: where there are none, or they are wrong.
    """
    file = ArrayFile(path)
    pictures = file.headers.get("arr_0")
    whole = pictures is not None and pictures.dtype == np.uint8 and len(pictures.shape) == 4
    images = partial(_images, file) if whole else None
    found = _chosen(path, file.headers, part, file.described())
    if isinstance(found, str):
        return _from_vectors(path, found, file.load(found))
    moments = {key: file.load(key) for key in found.keys}
    return _from_moments(path, found, moments, images, "reference batch with images, " if images else "")


def read_torch(path: Path, part: str | None) -> Reference:
    """Moments in a file of torch.save: a dict of two arrays or tensors.

    Raises:
        InputError: where there are none, they are wrong, or the file names what would have to be run.
    """
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            tree = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than arrays, which may run code and is not read{_what_runs(error)}. {_TORCH_AGAIN}"
        ) from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise InputError(f"{path} is torn or no file of torch.save ({error}). Fetch or write it again.") from error
    if not isinstance(tree, Mapping):
        raise InputError(f"{path} holds a {type(tree).__name__}, expected a dict of mu and sigma. {_TORCH_AGAIN}")
    keys = ", ".join(str(key) for key in tree) or "none"
    found = _chosen(path, tree, part, f"the keys {keys}")
    if isinstance(found, str):
        return _from_vectors(path, found, _array(path, found, tree[found]))
    return _from_moments(path, found, {key: _array(path, key, tree[key]) for key in found.keys}, None, "torch file, ")


def _what_runs(error: Exception) -> str:
    """What torch names as not allowed; the rest of its message advises to run it."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f" ({found[1]})" if found else ""


def refuse_pickle(path: Path) -> InputError:
    """Why a pickle (EDM2's reference statistics) is not read, and what to do."""
    return InputError(
        f"{path} is a pickle, which may run code and is not read (EDM2 keeps its reference statistics so). Where you "
        f'trust it, convert it once: python -c "import pickle, numpy as np; '
        f"r = pickle.load(open('{path.name}', 'rb'))['fid']; np.savez('reference.npz', mu=r['mu'], sigma=r['sigma'])\" "
        f"('fd_dinov2' in place of 'fid' for its DINOv2 statistics)."
    )


def _chosen(path: Path, keys: Mapping[str, object], part: str | None, described: str) -> _Moments | str:
    """The moments that are asked for, or the name of the features where there are only those."""
    whole = [one for one in _SETS if all(key in keys for key in one.keys)]
    for one in whole:
        if part in (None, one.part):
            return one
    vectors = next((name for name in _VECTORS if name in keys), None)
    if vectors is not None and part in (None, "inception"):
        return vectors
    if part is not None and whole:
        parts = ", ".join(dict.fromkeys(one.part for one in whole))
        raise InputError(f"{path} holds no {part} statistics, only {parts} (found {described}).")
    half = next((one for one in _SETS if any(key in keys for key in one.keys)), None)
    if half is not None:
        missing = next(key for key in half.keys if key not in keys)
        raise InputError(f"{path} lacks {missing!r} (found {described}). Fetch or write it again.")
    if "arr_0" in keys or "images" in keys:
        raise InputError(
            f"{path} holds images and no statistics. Make them: wsopt reference make {path} --features NAME --out FILE."
        )
    raise InputError(
        f"{path} holds no reference statistics that are known: found {described}; expected mu and sigma, m and s, "
        f"pool_3 or feats. Save them under these names: np.savez(FILE, mu=..., sigma=...)."
    )


def _from_moments(
    path: Path,
    found: _Moments,
    arrays: Mapping[str, NDArray[np.generic]],
    images: Callable[[], NDArray[np.float32]] | None,
    kind: str,
) -> Reference:
    mean, covariance = checked_moments(str(path), found.keys, *(arrays[key] for key in found.keys))
    return Reference(
        name=path.name if found.part == "inception" else f"{path.name}#{found.part}",
        features="",
        extractor_digest="",
        quantize="",
        mean=mean,
        covariance=covariance,
        samples=0,
        images=images,
        cache=cache_beside(path),
        output=found.output,
        facts=ReferenceFacts(f"{kind}{found.layout}", path.name),
    )


def _from_vectors(path: Path, key: str, vectors: NDArray[np.generic]) -> Reference:
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) < 2:
        raise InputError(
            f"{path}: {key} is {vectors.dtype}{list(vectors.shape)}, expected at least two rows [n, d] of real numbers."
        )
    # Features are float32 everywhere; what is more of it in a file is rounding.
    rows = np.asarray(vectors, dtype=np.float32)
    mean, covariance, count = moments_of(str(path), key, [rows])
    return Reference(
        name=path.name,
        features="",
        extractor_digest="",
        quantize="",
        mean=mean,
        covariance=covariance,
        samples=count,
        vectors=shuffled(rows),
        cache=cache_beside(path),
        facts=ReferenceFacts(_VECTORS[key], path.name),
    )


def _images(file: ArrayFile) -> NDArray[np.float32]:
    source = ArrayImages(file, "arr_0")
    return np.concatenate([in_model_range(batch) for batch in source.read(np.arange(source.count), 1000)])


def _array(path: Path, key: str, value: object) -> NDArray[Any]:
    if isinstance(value, torch.Tensor):
        return np.asarray(value.detach().double().numpy())
    if isinstance(value, np.ndarray):
        return value
    raise InputError(f"{path}: {key} is a {type(value).__name__}, expected an array or tensor. {_TORCH_AGAIN}")


def _numpy_globals() -> list[Any]:
    """What the pickle of a plain numpy array names; the module was renamed in numpy 2."""
    rebuild = np.empty(0).__reduce__()[0]
    types = {type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8")}
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    return [np.ndarray, np.dtype, *types, *((rebuild, f"{module}._reconstruct") for module in modules)]
