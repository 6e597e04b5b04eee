"""Where the weights and the tokenizer's vocabulary lie on this machine, and reading the weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from wsopt.errors import InputError
from wsopt.objectives.clip import transformers_package

WEIGHTS_FILES = ("ImageReward.pt",)
VOCABULARY_FILES = ("vocab.txt", "tokenizer.json")


def locate(where: Path | str, names: Sequence[str], key: str) -> Path:
    """The file on this machine; nothing is downloaded.

    Args:
        where: the file itself, a folder that it lies in, or the id of a repository of the Hugging Face hub that is in
            the local cache.
        names: what it is called in that folder or repository, the first that is there being taken.
        key: the parameter that `where` is the value of, for messages.

    Raises:
        InputError: where there is no such file.
        MissingDependencyError: where `where` is an id and huggingface_hub is not installed.
    """
    path, wanted = Path(where).expanduser(), " or ".join(names)
    if path.is_file():
        return path
    if path.is_dir():
        inside = next((path / name for name in names if (path / name).is_file()), None)
        if inside is None:
            raise InputError(f"{key}: the folder {path} holds no {wanted}. Give the folder or the file itself.")
        return inside
    if isinstance(where, Path):
        raise InputError(f"{key}: there is no file or folder {path}. Give {wanted}, or the folder that holds it.")
    hub = transformers_package("huggingface_hub")
    try:
        found = [hub.try_to_load_from_cache(where, name) for name in names]
    except ValueError:  # not of the form of an id
        found = []
    cached = [Path(name) for name in found if isinstance(name, str)]
    if not cached:
        raise InputError(
            f"{key}: {where!r} is no file or folder, and the Hugging Face cache has no {wanted} of a repository of "
            f"that name. Run `hf download {where} {names[0]}` where there is a network, or set {key} to the path of "
            f'the file ("./{names[0]}").'
        )
    return cached[0]


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, or of a state dict saved by torch; on the CPU, as stored.

    A leading ``module.`` that all names have (written by a model in DistributedDataParallel) is taken off.

    Raises:
        InputError: where the file cannot be read or holds something else.
    """
    advice = f"Give {WEIGHTS_FILES[0]} of THUDM/ImageReward; if it is, fetch it again."
    try:
        if path.suffix == ".safetensors":
            found: object = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler trips over what is no pickle in many ways
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(f"{path} cannot be read as weights ({reason}). {advice}") from error
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise InputError(f"{path} holds no tensors by name. {advice}")
    names = [str(name) for name in found]
    whole = all(name.startswith("module.") for name in names)
    return {(name.removeprefix("module.") if whole else name): found[name] for name in names}
