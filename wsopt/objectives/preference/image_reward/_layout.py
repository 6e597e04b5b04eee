"""The published layout of ImageReward-v1.0: every tensor of its file, by name and shape, and where it belongs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from wsopt.errors import InputError

VISION = "blip.visual_encoder."
TEXT = "blip.text_encoder."
HEAD = "mlp.layers."
HEAD_LINEARS = (0, 2, 4, 6, 7)
"""Positions of the linear layers in the head; dropouts lie between the first four."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network; the defaults are those of ImageReward-v1.0 (Xu et al. 2023, arXiv:2304.05977).

    The vision encoder is a ViT-L/16, the text encoder a BERT base whose layers attend to the image's tokens as well (Li
    et al. 2022, arXiv:2201.12086).

    Args:
        image_size: side of the square image, in pixels; a multiple of `patch`.
        patch: side of a patch, in pixels.
        vision_width: length of an image token; the hidden layer of its blocks is four times as wide.
        vision_layers: blocks of the vision encoder.
        vision_heads: attention heads of the vision encoder.
        text_width: length of a text token.
        text_hidden: width of the hidden layer of the text encoder's blocks.
        text_layers: blocks of the text encoder.
        text_heads: attention heads of the text encoder.
        vocabulary: number of tokens: BERT's 30,522, and [DEC] and [ENC].
        positions: longest text that the position table holds.
        projection: width of BLIP's contrastive projections; their weights are in the file and not used.
        head: widths of the linear head behind its input; five of them.
    """

    image_size: int = 224
    patch: int = 16
    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    text_width: int = 768
    text_hidden: int = 3072
    text_layers: int = 12
    text_heads: int = 12
    vocabulary: int = 30524
    positions: int = 512
    projection: int = 256
    head: tuple[int, int, int, int, int] = (1024, 128, 64, 16, 1)

    @property
    def image_tokens(self) -> int:
        """The patches of an image, and one more."""
        return (self.image_size // self.patch) ** 2 + 1


PUBLISHED = Architecture()


def shapes(architecture: Architecture = PUBLISHED) -> dict[str, tuple[int, ...]]:
    """Every tensor that the score is computed from: name in the file -> shape."""
    named = {
        **_prefixed(VISION, _vision(architecture)),
        **_prefixed(TEXT, _text(architecture)),
    }
    for position, rows, columns in zip(
        HEAD_LINEARS, architecture.head, (architecture.text_width, *architecture.head), strict=False
    ):
        named |= _prefixed(f"{HEAD}{position}", _linear(rows, columns))
    return named


def ignored(architecture: Architecture = PUBLISHED) -> dict[str, tuple[int, ...]]:
    """Tensors that the file may hold and that nothing is computed from.

    The two projections belong to BLIP's contrastive loss; the position indices are 0, 1, 2, ... and are stored by old
    versions of transformers.
    """
    return {
        **_prefixed("blip.vision_proj", _linear(architecture.projection, architecture.vision_width)),
        **_prefixed("blip.text_proj", _linear(architecture.projection, architecture.text_width)),
        f"{TEXT}embeddings.position_ids": (1, architecture.positions),
    }


def check(weights: Mapping[str, Tensor], file: object, architecture: Architecture = PUBLISHED) -> None:
    """Refuse weights of another layout: every tensor must be there, of its shape, and be known.

    Raises:
        InputError: naming the file and the tensors that are missing, unknown, of another shape or not of floats.
    """
    wanted, known = shapes(architecture), ignored(architecture)
    missing = [name for name in wanted if name not in weights]
    unknown = [name for name in weights if name not in wanted and name not in known]
    others = [
        f"{name} is {weights[name].dtype} {list(weights[name].shape)} instead of floats {list(shape)}"
        for name, shape in wanted.items()
        if name in weights and (tuple(weights[name].shape) != shape or not weights[name].is_floating_point())
    ]
    problems = [
        *([f"{len(missing)} tensors are missing ({_some(missing)})"] if missing else []),
        *([f"{len(unknown)} are unknown ({_some(unknown)})"] if unknown else []),
        *([f"{len(others)} differ ({_some(others)})"] if others else []),
    ]
    if problems:
        raise InputError(
            f"{file} does not hold ImageReward-v1.0: {'; '.join(problems)}. Give ImageReward.pt of THUDM/ImageReward."
        )


def vision_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vision encoder's tensors under the names of transformers' `BlipVisionModel`."""
    return {_vision_name(name.removeprefix(VISION)): weights[name] for name in weights if name.startswith(VISION)}


def text_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text encoder's tensors under the names of transformers' `BlipTextModel`, which are its own."""
    named = {name.removeprefix(TEXT): tensor for name, tensor in weights.items() if name.startswith(TEXT)}
    named.pop("embeddings.position_ids", None)
    return named


_VISION_NAMES = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm": "post_layernorm",
}
_BLOCK_NAMES = {
    "norm1": "layer_norm1",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "norm2": "layer_norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def _vision_name(name: str) -> str:
    if name in _VISION_NAMES:
        return _VISION_NAMES[name]
    module, _, kind = name.rpartition(".")
    if module in _VISION_NAMES:
        return f"{_VISION_NAMES[module]}.{kind}"
    _, block, inner = module.split(".", 2)
    return f"encoder.layers.{block}.{_BLOCK_NAMES[inner]}.{kind}"


_Named = Iterator[tuple[str, tuple[int, ...]]]


def _vision(sizes: Architecture) -> _Named:
    width = sizes.vision_width
    yield "cls_token", (1, 1, width)
    yield "pos_embed", (1, sizes.image_tokens, width)
    yield "patch_embed.proj.weight", (width, 3, sizes.patch, sizes.patch)
    yield "patch_embed.proj.bias", (width,)
    for block in range(sizes.vision_layers):
        for name, layer in (
            ("norm1", _norm(width)),
            ("attn.qkv", _linear(3 * width, width)),
            ("attn.proj", _linear(width, width)),
            ("norm2", _norm(width)),
            ("mlp.fc1", _linear(4 * width, width)),
            ("mlp.fc2", _linear(width, 4 * width)),
        ):
            yield from _prefixed(f"blocks.{block}.{name}", layer).items()
    yield from _prefixed("norm", _norm(width)).items()


def _text(sizes: Architecture) -> _Named:
    width = sizes.text_width
    yield "embeddings.word_embeddings.weight", (sizes.vocabulary, width)
    yield "embeddings.position_embeddings.weight", (sizes.positions, width)
    yield from _prefixed("embeddings.LayerNorm", _norm(width)).items()
    for block in range(sizes.text_layers):
        layer = f"encoder.layer.{block}."
        for attention, source in (("attention", width), ("crossattention", sizes.vision_width)):
            yield from _prefixed(f"{layer}{attention}.self.query", _linear(width, width)).items()
            yield from _prefixed(f"{layer}{attention}.self.key", _linear(width, source)).items()
            yield from _prefixed(f"{layer}{attention}.self.value", _linear(width, source)).items()
            yield from _prefixed(f"{layer}{attention}.output.dense", _linear(width, width)).items()
            yield from _prefixed(f"{layer}{attention}.output.LayerNorm", _norm(width)).items()
        yield from _prefixed(f"{layer}intermediate.dense", _linear(sizes.text_hidden, width)).items()
        yield from _prefixed(f"{layer}output.dense", _linear(width, sizes.text_hidden)).items()
        yield from _prefixed(f"{layer}output.LayerNorm", _norm(width)).items()


def _linear(rows: int, columns: int) -> _Named:
    yield ".weight", (rows, columns)
    yield ".bias", (rows,)


def _norm(width: int) -> _Named:
    yield ".weight", (width,)
    yield ".bias", (width,)


def _prefixed(prefix: str, named: _Named) -> dict[str, tuple[int, ...]]:
    return {prefix + name: shape for name, shape in named}


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
