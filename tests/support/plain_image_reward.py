"""ImageReward from its documents in plain torch, in float64 and under the published names, to hold the real one to.

ViT: Dosovitskiy et al. 2021, equations 1 to 4, pre-norm, epsilon 1e-6. BERT: Devlin et al. 2019 and Vaswani et al.
2017, post-norm, epsilon 1e-12; each block attends to the text, then to the image tokens, then has its hidden layer (Li
et al. 2022, section 3.1, the image-grounded text encoder). Head and constants: Xu et al. 2023.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from wsopt.objectives.preference.image_reward import Architecture

TINY = Architecture(
    image_size=32, patch=8, vision_width=24, vision_layers=2, vision_heads=3, text_width=20, text_hidden=28,
    text_layers=2, text_heads=5, vocabulary=32, positions=40, projection=6, head=(12, 8, 6, 5, 1),
)  # fmt: skip
WORDS = ["a", "red", "cat", "dog", "photo", "of", "the", "##s", "un", "##known", ".", ",", "cafe", "two", "tall"]


def vocabulary() -> list[str]:
    """BERT's special tokens, the words, and fillers, so that two added tokens make up `TINY.vocabulary`."""
    named = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    return named + [f"[unused{i}]" for i in range(TINY.vocabulary - 2 - len(named))]


def write_vocabulary(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vocab.txt"
    path.write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    return path


def tiny_weights(seed: int, sizes: Architecture = TINY) -> dict[str, Tensor]:
    """Random weights under the published names, the unused tensors among them.

    The embeddings are small, so that the epsilon of the first normalisation counts.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(scale: float, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    found: dict[str, Tensor] = {}

    def linear(name: str, rows: int, columns: int, scale: float = 1.0) -> None:
        found[f"{name}.weight"] = draw(scale * columns**-0.5, rows, columns)
        found[f"{name}.bias"] = draw(0.1 * scale, rows)

    def norm(name: str, width: int) -> None:
        found[f"{name}.weight"] = 1 + draw(0.2, width)
        found[f"{name}.bias"] = draw(0.2, width)

    width, patches = sizes.vision_width, (sizes.image_size // sizes.patch) ** 2
    found["blip.visual_encoder.cls_token"] = draw(2e-3, 1, 1, width)
    found["blip.visual_encoder.pos_embed"] = draw(2e-3, 1, patches + 1, width)
    found["blip.visual_encoder.patch_embed.proj.weight"] = draw(2e-4, width, 3, sizes.patch, sizes.patch)
    found["blip.visual_encoder.patch_embed.proj.bias"] = draw(1e-3, width)
    for block in range(sizes.vision_layers):
        name = f"blip.visual_encoder.blocks.{block}"
        norm(f"{name}.norm1", width)
        linear(f"{name}.attn.qkv", 3 * width, width, 2.0)
        linear(f"{name}.attn.proj", width, width)
        norm(f"{name}.norm2", width)
        linear(f"{name}.mlp.fc1", 4 * width, width)
        linear(f"{name}.mlp.fc2", width, 4 * width)
    norm("blip.visual_encoder.norm", width)
    width = sizes.text_width
    name = "blip.text_encoder.embeddings"
    found[f"{name}.position_ids"] = torch.arange(sizes.positions).unsqueeze(0)
    found[f"{name}.word_embeddings.weight"] = draw(1e-3, sizes.vocabulary, width)
    found[f"{name}.position_embeddings.weight"] = draw(1e-3, sizes.positions, width)
    norm(f"{name}.LayerNorm", width)
    for block in range(sizes.text_layers):
        name = f"blip.text_encoder.encoder.layer.{block}"
        for part, source in (("attention", width), ("crossattention", sizes.vision_width)):
            linear(f"{name}.{part}.self.query", width, width, 2.0)
            linear(f"{name}.{part}.self.key", width, source)
            linear(f"{name}.{part}.self.value", width, source)
            linear(f"{name}.{part}.output.dense", width, width)
            norm(f"{name}.{part}.output.LayerNorm", width)
        linear(f"{name}.intermediate.dense", sizes.text_hidden, width)
        linear(f"{name}.output.dense", width, sizes.text_hidden)
        norm(f"{name}.output.LayerNorm", width)
    linear("blip.vision_proj", sizes.projection, sizes.vision_width)
    linear("blip.text_proj", sizes.projection, width)
    for position, rows, columns in zip((0, 2, 4, 6, 7), sizes.head, (width, *sizes.head[:4]), strict=True):
        linear(f"mlp.layers.{position}", rows, columns, 1.5)
    return found


class Plain:
    """The published tensors, and the score computed from them one image at a time."""

    def __init__(self, weights: Mapping[str, Tensor], sizes: Architecture = TINY) -> None:
        self.weights = {name: tensor.double() for name, tensor in weights.items()}
        self.sizes = sizes

    def score(self, pixels: Tensor, tokens: list[int]) -> float:
        """Of one image ``[3, S, S]`` (standardised) and the tokens of its prompt, without padding."""
        first = self.read(tokens, self.see(pixels.double()))[0]
        for position in (0, 2, 4, 6, 7):
            first = self.linear(f"mlp.layers.{position}", first)
        return (float(first) - 0.16717362830052426) / 1.0333394966054072

    def see(self, pixels: Tensor) -> Tensor:
        """Image tokens ``[1 + patches, width]``."""
        name, patch = "blip.visual_encoder", self.sizes.patch
        kernel, side = self.weights[f"{name}.patch_embed.proj.weight"].flatten(1), self.sizes.image_size // patch
        patches = [
            kernel @ pixels[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch].flatten()
            for row in range(side)
            for column in range(side)
        ]
        embedded = torch.stack(patches) + self.weights[f"{name}.patch_embed.proj.bias"]
        x = torch.cat([self.weights[f"{name}.cls_token"][0], embedded]) + self.weights[f"{name}.pos_embed"][0]
        for block in range(self.sizes.vision_layers):
            here = f"{name}.blocks.{block}"
            query, key, value = self.linear(f"{here}.attn.qkv", self.norm(f"{here}.norm1", x, 1e-6)).chunk(3, dim=1)
            x = x + self.linear(f"{here}.attn.proj", attend(query, key, value, self.sizes.vision_heads))
            hidden = gelu(self.linear(f"{here}.mlp.fc1", self.norm(f"{here}.norm2", x, 1e-6)))
            x = x + self.linear(f"{here}.mlp.fc2", hidden)
        return self.norm(f"{name}.norm", x, 1e-6)

    def read(self, tokens: list[int], image: Tensor) -> Tensor:
        """Text tokens ``[T, width]`` that have seen the image."""
        name = "blip.text_encoder.embeddings"
        words = self.weights[f"{name}.word_embeddings.weight"][tokens]
        places = self.weights[f"{name}.position_embeddings.weight"][: len(tokens)]
        x = self.norm(f"{name}.LayerNorm", words + places, 1e-12)
        for block in range(self.sizes.text_layers):
            here = f"blip.text_encoder.encoder.layer.{block}"
            for part, source in (("attention", None), ("crossattention", image)):
                x = self.attention(f"{here}.{part}", x, x if source is None else source)
            hidden = gelu(self.linear(f"{here}.intermediate.dense", x))
            x = self.norm(f"{here}.output.LayerNorm", x + self.linear(f"{here}.output.dense", hidden), 1e-12)
        return x

    def attention(self, name: str, x: Tensor, source: Tensor) -> Tensor:
        query = self.linear(f"{name}.self.query", x)
        key, value = (self.linear(f"{name}.self.{part}", source) for part in ("key", "value"))
        out = self.linear(f"{name}.output.dense", attend(query, key, value, self.sizes.text_heads))
        return self.norm(f"{name}.output.LayerNorm", x + out, 1e-12)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name: str, x: Tensor, epsilon: float) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + epsilon)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V in every head, ``[T, width]``."""
    width = query.shape[1] // heads
    out = []
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        logits = query[:, own] @ key[:, own].T / math.sqrt(width)
        out.append(torch.softmax(logits, dim=1) @ value[:, own])
    return torch.cat(out, dim=1)


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
