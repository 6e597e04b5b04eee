"""Finding the weights: the file of the config, the cache folders, or a download; and reading them."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.request
import zipfile
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from wsopt.errors import InputError
from wsopt.objectives.inception._layouts import canonical

URLS = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
)
"""Where the weights are published; the two files are the same."""
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Of both; as is the habit of torch.hub, the names end with its first 8 digits."""
NAMES = tuple(url.rpartition("/")[2] for url in URLS)
_TIMEOUT = 30.0  # seconds without an answer


def find_weights(given: Path | None) -> Path:
    """The weights file: `given`, or one of the published names in a cache folder, or downloaded into the first of them.

    Args:
        given: path from the config; None looks in ``$WSOPT_CACHE`` (default ``~/.cache/wsopt``) and where torch.hub
            keeps its files.

    Raises:
        InputError: where there is none and it cannot be downloaded, or where a published name has another content.
    """
    if given is not None:
        if not given.is_file():
            found = "is a folder" if given.is_dir() else "does not exist"
            raise InputError(f"{given} {found}. Give the weights file of the FID Inception network, or leave it out.")
        return _checked(given)
    for folder in cache_folders():
        for name in NAMES:
            if (folder / name).is_file():
                return _checked(folder / name)
    return _download(cache_folders()[0])


def cache_folders() -> tuple[Path, Path]:
    """Wsopt's own, and that of torch.hub, where pytorch-fid and torch-fidelity leave the file."""
    given = os.environ.get("WSOPT_CACHE")
    own = Path(given).expanduser() if given else Path.home() / ".cache" / "wsopt"
    return own, Path(torch.hub.get_dir()) / "checkpoints"


def load_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a file in any of the published layouts, or the same as safetensors.

    Returns:
        float32 tensors by the keys of PyTorch's layout, see `canonical`.

    Raises:
        InputError: naming the file, where it cannot be read or holds something else.
    """
    zipped = zipfile.is_zipfile(path)
    if zipped and _is_torchscript(path):
        raise InputError(
            f"{path} is a TorchScript program, which wsopt does not run. "
            f"Give {NAMES[0]} instead, which holds the same weights: {URLS[0]}"
        )
    try:
        state: Any
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a torn file can fail in any step of unpickling
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"{path} cannot be read as weights ({type(error).__name__}: {reason}). It may be torn: "
            f"delete it and download it again from {URLS[0]}"
        ) from error
    return canonical(state, path)


def weights_digest(weights: dict[str, Tensor], tag: str) -> str:
    """SHA-256 over `tag` and the names and values of the weights, whichever layout they came in."""
    digest = hashlib.sha256(tag.encode())
    for name in sorted(weights):
        digest.update(f"\0{name}\0".encode())
        digest.update(weights[name].contiguous().numpy().data)
    return digest.hexdigest()


def _checked(path: Path) -> Path:
    """`path`, unless its name carries the published hash and its content has another."""
    if path.stem.endswith(f"-{SHA256[:8]}"):
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != SHA256:
            raise InputError(
                f"{path} has the name of the published weights and another content: its SHA-256 begins with "
                f"{found[:8]}. Delete it and download it again from {URLS[0]}, or give other weights another name."
            )
    return path


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _download(folder: Path) -> Path:
    failures = []
    for url, name in zip(URLS, NAMES, strict=True):
        try:
            return _fetch(url, folder / name)
        except (OSError, HTTPException, ValueError) as error:  # ValueError: another content than published
            failures.append(f"{url}: {error}")
    raise InputError(
        f"the weights of the FID Inception network are in none of {', '.join(map(str, cache_folders()))} and could not "
        f"be downloaded ({'; '.join(failures)}). Download {URLS[0]} on a machine with network and put it there as "
        f"{folder / NAMES[0]}, or give its path as `weights`."
    )


def _fetch(url: str, target: Path) -> Path:
    """Download to a temporary name beside `target`, compare the hash, and rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    try:
        digest = hashlib.sha256()
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            while block := answer.read(1 << 20):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != SHA256:
            raise ValueError(f"what came has SHA-256 {digest.hexdigest()[:8]}... instead of {SHA256[:8]}...")
        Path(temporary).replace(target)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return target
