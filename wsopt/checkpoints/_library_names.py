"""The file names that huggingface libraries give: which hold weights, which the other state of a training run.

diffusers: ``diffusion_pytorch_model``; accelerate and transformers: ``model``, formerly ``pytorch_model``, and
``model_1`` for a second model; peft: ``adapter_model``; LoRA training scripts: ``pytorch_lora_weights``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wsopt.checkpoints._index import INDEX, shard_names
from wsopt.checkpoints._others import CHECKPOINT_SUFFIXES

STATE: Final = re.compile(
    r"(optimizer|scheduler)(_[0-9]+)?\.(bin|pt)|(sampler(_[0-9]+)?|training_args)\.bin|scaler\.pt|"
    r"random_states_[0-9]+\.pkl|custom_checkpoint_[0-9]+\.pkl|rng_state(_[0-9]+)?\.pth"
)
"""Files beside the weights: never opened. A pickle among them may run code."""

ADAPTER: Final = "adapter_model"

_LORA: Final = "pytorch_lora_weights"
_PRECISION = r"fp8|fp16|fp32|bf16|float16|float32|bfloat16"
_STEM = r"(?P<stem>diffusion_pytorch_model|model|pytorch_model|adapter_model|pytorch_lora_weights)(?P<number>_[0-9]+)?"
_FILE = re.compile(rf"{_STEM}(?:\.(?P<variant>{_PRECISION}|ema|non_ema))?\.(?P<kind>safetensors|bin)")


@dataclass(frozen=True, order=True)
class LibraryFile:
    """A weights file or index with a library's name.

    Args:
        rank: 0 where it is the first choice among files of the same weights: safetensors before torch, one file before
            shards.
        name: without suffix; ``pytorch_model`` is told as ``model``.
        variant: ``fp16``, ``ema``, or empty.
        path: the file.
    """

    rank: int
    name: str
    variant: str
    path: Path


def library_files(folder: Path) -> list[LibraryFile]:
    """The sets of weights directly in `folder`, each once, sorted by name.

    A copy in another precision, in the older torch format, or (of an adapter) without its configuration is left out
    where the better one is there.
    """
    numbers = has_state(folder)
    found: dict[tuple[str, str], LibraryFile] = {}
    for entry in sorted(folder.iterdir()):
        file = _library_file(entry)
        if file is not None and _counts(file, numbers) and entry.is_file():
            key = file.name, file.variant
            found[key] = min(found.get(key, file), file)
    return [file for _, file in sorted(found.items()) if not _is_copy(file, found)]


def has_state(folder: Path) -> bool:
    """True where `folder` holds the state that accelerate or transformers save beside the weights."""
    return any(STATE.fullmatch(entry.name) for entry in folder.iterdir())


def is_foreign_weights(path: Path) -> bool:
    """True for a file that may be a checkpoint, goes by its own name, and is no index."""
    return (
        path.suffix in CHECKPOINT_SUFFIXES
        and not path.name.startswith(".")
        and STATE.fullmatch(path.name) is None
        and path.is_file()
    )


def strangers(folder: Path) -> list[Path]:
    """Weights files directly in `folder` that no library put there: it is no single checkpoint then."""
    numbers = has_state(folder)
    found = [entry.name for entry in folder.iterdir() if (file := _library_file(entry)) and _counts(file, numbers)]
    known = set(found).union(*(shard_names(folder / name) for name in found if INDEX.fullmatch(name)))
    return [entry for entry in folder.iterdir() if is_foreign_weights(entry) and entry.name not in known]


def _library_file(path: Path) -> LibraryFile | None:
    name, index = path.name, INDEX.fullmatch(path.name)
    if index is not None:
        variant = f".{index['variant']}" if index["variant"] else ""
        name = f"{index['name']}{variant}.{index['kind']}"
    match = _FILE.fullmatch(name)
    if match is None:
        return None
    stem = "model" if match["stem"] == "pytorch_model" else match["stem"]
    rank = 2 * (match["kind"] == "bin") + (index is not None)
    return LibraryFile(rank, stem + (match["number"] or ""), match["variant"] or "", path)


def _counts(file: LibraryFile, numbers: bool) -> bool:
    """False for a number where accelerate, which numbers models, left no state: it is a step then."""
    return numbers or not file.name[-1].isdigit()


def _is_copy(file: LibraryFile, found: Iterable[tuple[str, str]]) -> bool:
    if file.name == _LORA and (ADAPTER, "") in found:
        return True
    return re.fullmatch(_PRECISION, file.variant) is not None and (file.name, "") in found
