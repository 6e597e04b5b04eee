"""Networks of the transformers package: where their files are, and how they are loaded without a word on the screen."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from wsopt.errors import InputError, MissingDependencyError

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_SMALL_FILES = ("*.json", "*.txt")
_SAFETENSORS = "model*.safetensors"
_PICKLED = "pytorch_model*.bin"


def transformers_package(module: str = "transformers") -> Any:  # noqa: ANN401 - a module
    """A module of the extra ``clip``, imported on first use: it takes seconds, and not everybody has it.

    Raises:
        MissingDependencyError: where it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"CLIP, DINOv2 and preference scores need the package {module.partition('.')[0]}, which could not be "
            f"imported ({error}). Install it: pip install 'wsopt[clip]'"
        ) from error


def model_folder(model: Path | str, key: str, weights: bool = True) -> Path:
    """The folder with the files of a model.

    Args:
        model: a folder, or a Hugging Face id (``openai/clip-vit-base-patch32``), which is looked up in that library's
            cache and, where it is not there and the network is, downloaded into it (HF_HOME says where that is).
        key: the config's key that named it.
        weights: whether its weights are wanted, or its tokenizer and preprocessing alone.

    Raises:
        InputError: where there is no such folder, or the id is not in the cache and cannot be downloaded.
        MissingDependencyError: without transformers.
    """
    transformers_package()  # without which files are of no use
    if isinstance(model, Path) or Path(model).is_dir():
        return _local(Path(model), key, weights)
    hub = transformers_package("huggingface_hub")
    try:
        cached = Path(hub.snapshot_download(model, allow_patterns=_SMALL_FILES, local_files_only=True))
        if not weights or _has_weights(cached):
            return cached
    except (OSError, ValueError):  # not in the cache, or no id at all: the attempt below says which
        pass
    try:
        return _download(hub, model, weights)
    except Exception as error:  # whatever goes wrong with a network, by any of the libraries below
        reason = f"{type(error).__name__}: {error}".splitlines()[0].rstrip(".")
        raise InputError(
            f"{key}: {model!r} is neither a folder nor in the Hugging Face cache, and it could not be downloaded "
            f"({reason}). On a machine with a network run `hf download {model}` and copy the folder, then set {key} to "
            f'its path (for example "./{model.rpartition("/")[2]}").'
        ) from error


def _local(folder: Path, key: str, weights: bool) -> Path:
    if not folder.is_dir():
        raise InputError(
            f"{key}: there is no folder {folder}. Give a folder with config.json and model.safetensors, or a Hugging "
            f"Face id."
        )
    if weights and not _has_weights(folder):
        raise InputError(
            f"{key}: {folder} holds no weights ({' or '.join(_WEIGHTS[::2])}). Give the folder of a saved "
            f"transformers model."
        )
    return folder


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _WEIGHTS)


def _download(hub: Any, model: str, weights: bool) -> Path:  # noqa: ANN401 - a module
    folder = Path(hub.snapshot_download(model, allow_patterns=[*_SMALL_FILES, *([_SAFETENSORS] if weights else ())]))
    if weights and not any(folder.glob(_SAFETENSORS)):  # older repositories have pickled weights only
        folder = Path(hub.snapshot_download(model, allow_patterns=[*_SMALL_FILES, _PICKLED]))
    return _local(folder, "model", weights)


def load_network(class_name: str, folder: Path, key: str) -> Any:  # noqa: ANN401 - a class of transformers
    """A network of transformers with all of its weights from a folder, float32, on the CPU, for inference only.

    Torch's global generator is left as it was, nothing is downloaded, no code of the folder is run.

    Args:
        class_name: its class in transformers (``CLIPModel``).
        folder: what `model_folder` gave.
        key: the config's key that named it.

    Raises:
        InputError: where files are missing or torn, or hold another network.
        MissingDependencyError: without transformers.
    """
    package = transformers_package()
    advice = f"Give the folder or id of a model that transformers can load as {class_name}."
    try:
        # Some versions draw first values for what they then load.
        with _quietly(package), torch.random.fork_rng(devices=[]):
            network, found = getattr(package, class_name).from_pretrained(
                # Tensors of other sizes are told below, by name.
                folder,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except (OSError, ValueError, RuntimeError, TypeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{key}: {folder} cannot be loaded as {class_name} ({reason}). {advice}") from error
    # transformers 4 gives the name of a mismatch, 5 a tuple of the name and two shapes.
    mismatched = (one if isinstance(one, str) else one[0] for one in found["mismatched_keys"])
    wrong = sorted({*found["missing_keys"], *mismatched})
    if wrong:
        raise InputError(
            f"{key}: {folder} does not hold the {class_name} that its config.json describes: {len(wrong)} tensors are "
            f"missing or of another size ({', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}). {advice}"
        )
    return frozen(network)


def network_digest(network: nn.Module, tag: str) -> str:
    """SHA-256 over shapes and bytes of all tensors, and a tag that names the preprocessing.

    The names of the tensors are left out, since the same file's differ between versions of transformers.
    """
    found = []
    for tensor in network.state_dict().values():
        content = hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
        found.append(f"{list(tensor.shape)} {content}")
    return hashlib.sha256("\n".join([tag, *sorted(found)]).encode()).hexdigest()


def frozen(network: nn.Module) -> nn.Module:
    """The same network in float32, in evaluation mode, its parameters without gradients."""
    return network.float().eval().requires_grad_(False)


@contextmanager
def _quietly(package: Any) -> Iterator[None]:  # noqa: ANN401 - a module
    """No progress bars, and no report of unused tensors (older files store positions)."""
    logging = package.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
