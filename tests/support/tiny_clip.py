"""CLIP and DINOv2 models of a few thousand random numbers, saved to a folder as the published ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

SIZE = 16
PIXELS = 3 * SIZE**2
LENGTH = 12
"""Tokens of a text at most, with both markers."""
HIDDEN = 20
PROJECTED = 8
_MARKERS = ("<|startoftext|>", "<|endoftext|>")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
MEAN = (0.5, 0.4, 0.3)
STD = (0.25, 0.5, 0.2)


def save_clip(folder: Path, seed: int = 0, logit_scale: float = 2.0) -> Path:
    """A `CLIPModel` with its tokenizer and preprocessing."""
    layers: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    tokens = _save_tokenizer(folder)
    text = {
        "vocab_size": len(tokens),
        "hidden_size": 16,
        "max_position_embeddings": LENGTH,
        "bos_token_id": tokens[_MARKERS[0]],
        "eos_token_id": tokens[_MARKERS[1]],
        "pad_token_id": tokens[_MARKERS[1]],
        **layers,
    }
    vision = {"hidden_size": HIDDEN, "image_size": SIZE, "patch_size": 8, **layers}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=PROJECTED)
    with torch.random.fork_rng():
        network = transformers.CLIPModel(config)
    _fill(network, seed)
    network.logit_scale.data.fill_(logit_scale)
    network.save_pretrained(folder)
    save_preprocessing(folder)
    return folder


def save_dinov2(folder: Path, seed: int = 0) -> Path:
    """A `Dinov2Model`, made for another image size than 224, as the published ones are."""
    config = transformers.Dinov2Config(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=28, mlp_ratio=2
    )
    with torch.random.fork_rng():
        network = transformers.Dinov2Model(config)
    _fill(network, seed)
    network.save_pretrained(folder)
    return folder


def load(class_name: str, folder: Path) -> Any:
    """A saved network as transformers loads it, to compare with."""
    with torch.random.fork_rng():
        return getattr(transformers, class_name).from_pretrained(folder).eval()


def save_preprocessing(folder: Path, **changes: object) -> None:
    """``preprocessor_config.json``."""
    values = {
        "do_resize": True,
        "size": {"shortest_edge": SIZE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": SIZE, "width": SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
        "do_convert_rgb": True,
        "image_processor_type": "CLIPImageProcessor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(values | changes), encoding="utf-8")


def images(count: int, seed: int = 0, size: tuple[int, int] = (SIZE, SIZE)) -> Tensor:
    """``[count, 3, *size]`` whole grey levels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size), generator=generator).float()


def _fill(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)


def _save_tokenizer(folder: Path) -> dict[str, int]:
    """Letters as byte-pair tokens, with one merge."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), "ca", *_MARKERS]
    tokens = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(tokens), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\nc a\n", encoding="utf-8")
    markers = {"bos_token": _MARKERS[0], "eos_token": _MARKERS[1], "unk_token": _MARKERS[1], "pad_token": _MARKERS[1]}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, **markers}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return tokens
