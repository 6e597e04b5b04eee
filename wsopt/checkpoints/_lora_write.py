"""Writing a LoRA adapter so that every loader gets the same change of the weights.

The scale is folded into factor B, so alpha = rank is true of every module; it is also said wherever the style has a
place for it. Loaders that know no alpha, and loaders that read it, then agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import torch
from torch import Tensor

from wsopt.checkpoints._lora import LoraAdapter, LoraFactors
from wsopt.checkpoints._lora_config import METADATA_KEY
from wsopt.checkpoints._safetensors import write_tensors
from wsopt.errors import CheckpointError
from wsopt.files import write_json

LoraStyle: TypeAlias = Literal["peft", "diffusers", "kohya"]
"""``peft``: a folder with adapter_model.safetensors and adapter_config.json. ``diffusers``: one file, configuration in
its metadata. ``kohya``: one file, names with underscores, a tensor alpha per module."""

PEFT_FILES: Final = ("adapter_model.safetensors", "adapter_config.json")


def export_names(module: str, style: LoraStyle) -> tuple[str, str]:
    """Names of factors A and B of `module` (its name in the base model) in a file of `style`."""
    if style == "kohya":
        flat = f"lora_unet_{module.replace('.', '_')}"
        return f"{flat}.lora_down.weight", f"{flat}.lora_up.weight"
    prefix = "unet." if style == "diffusers" else "base_model.model."
    return f"{prefix}{module}.lora_A.weight", f"{prefix}{module}.lora_B.weight"


def export_tensors(
    adapter: LoraAdapter, style: LoraStyle | None = None, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """The adapter as named tensors, scales folded into the factors B.

    Args:
        adapter: what to write.
        style: names; None takes ``diffusers``, or ``kohya`` where module names are known with underscores only.
        dtype: of the factors; half precision rounds them.

    Returns:
        Contiguous tensors on the CPU, by name.

    Raises:
        CheckpointError: where a style needs module names that the adapter does not have, or two modules get one name.
    """
    style = style or default_style(adapter)
    if style != "kohya" and not adapter.dotted:
        raise CheckpointError(
            f"the adapter's modules are known by kohya names only, whose underscores may stand for dots, so it cannot "
            f"be written in {style} style. Give the base model, or write it in kohya style."
        )
    tensors: dict[str, Tensor] = {}
    for factors in map(LoraFactors.folded, adapter.modules.values()):
        down, up = export_names(factors.module, style)
        if down in tensors:
            raise CheckpointError(f"two modules have the kohya name {down}. Write the adapter in peft style.")
        tensors[down] = factors.a.to("cpu", dtype).contiguous()
        tensors[up] = factors.b.to("cpu", dtype).contiguous()
        if style == "kohya":
            tensors[down.replace(".lora_down.weight", ".alpha")] = torch.tensor(float(factors.rank))
    return tensors


def default_style(adapter: LoraAdapter) -> LoraStyle:
    """The style that public loaders agree on most: ``diffusers``, if module names allow it."""
    return "diffusers" if adapter.dotted else "kohya"


def export_metadata(adapter: LoraAdapter, folded: bool = True) -> dict[str, str]:
    """Text entries for the header of a safetensors file, which say the scales to diffusers and to wsopt.

    Args:
        adapter: what the file holds.
        folded: True for tensors from `export_tensors`; False for the checkpoint's own tensors, scale beside them.
    """
    options = {f"unet.{key}": value for key, value in _config(adapter, folded).items()}
    return {"format": "pt", METADATA_KEY: json.dumps(options, sort_keys=False)}


def write_adapter(path: Path, adapter: LoraAdapter, style: LoraStyle, dtype: torch.dtype = torch.float32) -> Path:
    """Write the adapter, each file atomically.

    Args:
        path: a folder for ``peft``, else a file.
        adapter: what to write.
        style: see `LoraStyle`.
        dtype: of the factors; half precision rounds them.

    Returns:
        The safetensors file.

    Raises:
        CheckpointError: see `export_tensors`.
    """
    tensors = export_tensors(adapter, style, dtype)
    if style == "peft":
        weights, config = (path / name for name in PEFT_FILES)
        write_tensors(weights, tensors, {"format": "pt"})
        write_json(config, _config(adapter, folded=True))
        return weights
    write_tensors(path, tensors, export_metadata(adapter) if style == "diffusers" else {"format": "pt"})
    return path


def _config(adapter: LoraAdapter, folded: bool) -> dict[str, Any]:
    """Options of peft's LoraConfig."""
    ranks = {factors.module: factors.rank for factors in adapter.modules.values()}
    alphas = {
        factors.module: float(factors.rank) if folded else factors.scale * factors.rank
        for factors in adapter.modules.values()
    }
    rank, alpha = max(ranks.values(), default=1), max(alphas.values(), default=1.0)
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": _plain(alpha),
        "rank_pattern": _pattern(ranks, rank),
        "alpha_pattern": _pattern(alphas, alpha),
        "target_modules": sorted(ranks),
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def _pattern(values: Mapping[str, float], common: float) -> dict[str, float]:
    """Values by module name, where they are not all `common`.

    A pattern fits the end of a name and the first that fits counts: so every module is listed, longest name first.
    """
    if all(value == common for value in values.values()):
        return {}
    return {name: _plain(values[name]) for name in sorted(values, key=lambda name: (-len(name), name))}


def _plain(value: float) -> float:
    return int(value) if value == int(value) else value
