"""Checkpoints that are folders: accelerate's ``checkpoint-N/``, models of diffusers and transformers, peft adapters.

``accelerator.save_state`` writes ``model.safetensors`` and the training state. The hooks of diffusers' training scripts
write a folder per component instead: ``unet/``, ``unet_ema/`` (its ``config.json`` also has the fields of EMAModel),
``unet_target/`` and ``unet_teacher/`` of distillation; those of LoRA scripts an adapter, sometimes in two layouts. The
training state, pickles among it, is never opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from wsopt.checkpoints._base import CheckpointReader, Snapshot, Stream
from wsopt.checkpoints._index import load_weights, read_json, read_weights
from wsopt.checkpoints._library_names import ADAPTER, LibraryFile, has_state, library_files, strangers
from wsopt.checkpoints._lora_keys import looks_like_lora
from wsopt.checkpoints._names import identify
from wsopt.checkpoints._safetensors import in_order
from wsopt.errors import CheckpointError

_ACCELERATE = re.compile(r"checkpoint-[0-9]+")
_STEP = re.compile(r"((checkpoint|ckpt|step|steps|epoch|iter|iteration|global_step)[-_]?)?[0-9]+")
_PIPELINE = re.compile(r"(unet|transformer|prior|vae|text_encoder|image_encoder|controlnet|adapter)([-_].*)?")
_NUMBERED = re.compile(r"(?P<name>.*?)[-_]?[0-9]+")
_MODEL_KEYS: Final = frozenset({"_class_name", "_diffusers_version", "peft_type", "architectures"})
_CONFIGS = ("config.json", "adapter_config.json")
_MAX_CONFIG_BYTES = 10_000_000


@dataclass(frozen=True)
class _Component:
    """One set of weights in the folder; `name` is its subfolder, empty for the folder itself."""

    name: str
    file: LibraryFile


class DiffusersReader(CheckpointReader):
    """Folders of diffusers, accelerate, transformers and peft: one checkpoint each, with its components.

    A component's subfolder is the snapshot's `part` (``unet``, ``unet_ema``, ``text_encoder``); empty for weights in
    the folder itself. Where one folder holds several sets of weights, their names are added (``unet/non_ema``). A
    network kept beside for distillation (``unet_teacher``) is passed over, and so is a copy of the same weights in
    another precision or layout.
    """

    name = "diffusers"

    def recognises(self, path: Path) -> bool:
        """See `CheckpointReader.recognises`.

        A folder with weights under the libraries' names in itself or in its subfolders, or with accelerate's state. Not
        one that holds several such checkpoints, or beside the weights a file of another origin that may be the next
        checkpoint.
        """
        if not path.is_dir():
            return False
        whole = _STEP.fullmatch(path.name) is not None
        if not whole and strangers(path):
            return False
        folders = _subfolders(path)
        if any(_is_step(folder, folders) and _holds_weights(folder) for folder in folders.values()):
            return False
        if _ACCELERATE.fullmatch(path.name) and not any(path.iterdir()):
            return True  # the save was killed: said by `scan`
        if has_state(path) or _is_model(path):
            return True
        pipeline = whole or (path / "model_index.json").is_file()
        parts = folders.values() if pipeline else [one for one in folders.values() if _PIPELINE.fullmatch(one.name)]
        return any(_is_model(folder) for folder in parts)

    def scan(self, path: Path) -> list[Snapshot]:
        """See `CheckpointReader.scan`; one entry per component."""
        components = _components(path)
        if not components:
            raise CheckpointError(_nothing(path))
        return [self._snapshot(path, part, component) for part, component in components.items()]

    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        """See `CheckpointReader.load`."""
        component = _components(snapshot.path).get(snapshot.part)
        if component is None:
            raise CheckpointError(f"{snapshot} is no longer there. Restore it, or start again without it.")
        path = component.file.path
        return in_order(path, load_weights(path), snapshot.tensors)

    def _snapshot(self, path: Path, part: str, component: _Component) -> Snapshot:
        file = component.file
        weights = read_weights(file.path)
        config = _config(file.path.parent, file)
        stream = _stream(component.name or path.name, config)
        if stream is None:
            stream = Stream("ema") if file.variant == "ema" else identify(path)[0]
        if file.name == ADAPTER or looks_like_lora(weights.tensors):
            stream = Stream("lora")
        step = identify(path)[1] if weights.step is None else weights.step
        return Snapshot(path, part, stream, step, weights.tensors, self, {**weights.metadata, **config})


def _components(path: Path) -> dict[str, _Component]:
    """The sets of weights by part: those of the folder itself, then its subfolders' by name."""
    folders = {"": path, **{name: folder for name, folder in _subfolders(path).items() if not _is_teacher(name)}}
    found: dict[str, _Component] = {}
    adapted = False
    for name, folder in folders.items():
        files = library_files(folder)
        if adapted and name.endswith("_lora"):
            continue  # the adapter once more, without its alpha
        if not files and _configured(folder):
            raise CheckpointError(
                f"{folder} is torn: it has the configuration of a model and no weights. "
                f"Restore them, or save that checkpoint again."
            )
        adapted = adapted or (not name and any(file.name == ADAPTER for file in files))
        for file in files:
            own = f"{file.name}.{file.variant}" if file.variant else file.name
            part = "/".join(filter(None, (name, own if len(files) > 1 else "")))
            found[part] = _Component(name, file)
    return found


def _subfolders(path: Path) -> dict[str, Path]:
    return {entry.name: entry for entry in sorted(path.iterdir()) if entry.is_dir() and not entry.name.startswith(".")}


def _is_step(folder: Path, siblings: Mapping[str, Path]) -> bool:
    """True for ``checkpoint-10`` and ``epoch_3``; not for ``text_encoder_2`` beside ``text_encoder``."""
    match = _NUMBERED.fullmatch(folder.name)
    return match is not None and match["name"] not in siblings


def _holds_weights(folder: Path) -> bool:
    return _is_model(folder) or has_state(folder) or any(_is_model(inner) for inner in _subfolders(folder).values())


def _is_model(folder: Path) -> bool:
    return bool(library_files(folder)) or _configured(folder)


def _configured(folder: Path) -> bool:
    """True where a library's configuration of a model lies in `folder`: weights belong to it."""
    for name in _CONFIGS:
        path = folder / name
        try:
            if path.is_file() and not _MODEL_KEYS.isdisjoint(read_json(path, _MAX_CONFIG_BYTES)):
                return True
        except CheckpointError:  # told when it is read
            continue
    return False


def _config(folder: Path, file: LibraryFile) -> dict[str, Any]:
    path = folder / ("adapter_config.json" if file.name == ADAPTER else "config.json")
    return read_json(path, _MAX_CONFIG_BYTES) if path.is_file() else {}


def _stream(name: str, config: Mapping[str, Any]) -> Stream | None:
    """What the name of a component's folder tells; None where it tells nothing."""
    words = re.split(r"[_-]", name)
    if "target" in words:
        return Stream("target")
    if words[-1] != "ema" and words[0] != "ema":
        return None
    decay = config.get("decay")
    known = isinstance(decay, float) and 0 < decay < 1
    return Stream("ema", decay) if known else Stream("ema") if words[-1] == "ema" else None


def _is_teacher(name: str) -> bool:
    return "teacher" in re.split(r"[_-]", name)


def _nothing(path: Path) -> str:
    if not has_state(path):
        return f"{path} is torn: it is empty. Remove it, or save that checkpoint again."
    return (
        f"{path} holds the state of a training run and no weights in a layout that wsopt reads (model.safetensors, "
        f"pytorch_model.bin, or a folder per model). Restore them; weights split by DeepSpeed or FSDP must be put "
        f"together first (zero_to_fp32.py, accelerate merge-weights)."
    )
