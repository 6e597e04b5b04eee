"""The published layout: names, shapes, counts; what a file of another layout gets."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from plain_image_reward import TINY, tiny_weights
from wsopt.errors import InputError
from wsopt.objectives.preference.image_reward import Architecture
from wsopt.objectives.preference.image_reward._files import read_weights
from wsopt.objectives.preference.image_reward._layout import check, ignored, shapes, text_weights, vision_weights
from wsopt.objectives.preference.image_reward._network import SHIFT, SPREAD, Network, folded_head


def numbers(found: dict[str, tuple[int, ...]], prefix: str = "") -> int:
    return sum(math.prod(shape) for name, shape in found.items() if name.startswith(prefix))


def test_counts_are_those_of_the_documented_architecture() -> None:
    found = shapes()
    block = 4 * 1024 * 1024 + 4 * 1024 + 8 * 1024 * 1024 + 5 * 1024 + 4 * 1024  # attention, hidden layer, two norms
    vision = 24 * block + (3 * 16 * 16 + 1) * 1024 + (197 + 1) * 1024 + 2 * 1024
    assert numbers(found, "blip.visual_encoder.") == vision == 303_301_632  # ViT-L/16 without its classifier
    own = 4 * 768 * 768 + 4 * 768 + 2 * 768
    other = 2 * 768 * 768 + 2 * 1024 * 768 + 4 * 768 + 2 * 768
    layer = own + other + 2 * 768 * 3072 + 3072 + 768 + 2 * 768
    assert numbers(found, "blip.text_encoder.") == 12 * layer + (30_524 + 512 + 2) * 768
    assert numbers(found, "mlp.") == sum(a * b + b for a, b in [(768, 1024), (1024, 128), (128, 64), (64, 16), (16, 1)])
    assert len(found) == (24 * 12 + 6) + (12 * 26 + 4) + 10
    assert len(ignored()) == 5


def test_the_bytes_are_those_of_the_published_file() -> None:
    """ImageReward.pt has 1,786,880,927 bytes; what is not numbers is the archive: about 340 bytes a tensor."""
    found = {**shapes(), **ignored()}
    content = 4 * (numbers(found) - 512) + 8 * 512  # the position indices are int64
    assert 0 < 1_786_880_927 - content < 400 * len(found)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("blip.visual_encoder.cls_token", (1, 1, 1024)),
        ("blip.visual_encoder.pos_embed", (1, 197, 1024)),
        ("blip.visual_encoder.patch_embed.proj.weight", (1024, 3, 16, 16)),
        ("blip.visual_encoder.blocks.23.attn.qkv.weight", (3072, 1024)),
        ("blip.visual_encoder.blocks.0.mlp.fc1.bias", (4096,)),
        ("blip.visual_encoder.norm.weight", (1024,)),
        ("blip.text_encoder.embeddings.word_embeddings.weight", (30524, 768)),
        ("blip.text_encoder.encoder.layer.11.crossattention.self.key.weight", (768, 1024)),
        ("blip.text_encoder.encoder.layer.0.attention.output.LayerNorm.bias", (768,)),
        ("blip.text_encoder.encoder.layer.0.intermediate.dense.weight", (3072, 768)),
        ("mlp.layers.0.weight", (1024, 768)),
        ("mlp.layers.2.weight", (128, 1024)),
        ("mlp.layers.4.weight", (64, 128)),
        ("mlp.layers.6.weight", (16, 64)),
        ("mlp.layers.7.weight", (1, 16)),
    ],
)
def test_names_and_shapes(name: str, shape: tuple[int, ...]) -> None:
    assert shapes()[name] == shape


def test_the_full_network_takes_every_tensor_and_no_other() -> None:
    pytest.importorskip("transformers")
    weights = {
        name: torch.zeros(shape, device="meta" if name.startswith("blip.") else "cpu")
        for name, shape in shapes().items()
    }
    network = Network(weights, Architecture())  # strict: names and shapes are those of transformers' modules
    named = dict(network.named_parameters())
    assert len(named) == len(weights) - 10
    assert sum(map(torch.numel, named.values())) == numbers(shapes(), "blip.")
    heads = network.vision.config.num_attention_heads, network.text.config.num_attention_heads
    assert heads == (16, 12)
    assert not any(parameter.requires_grad for parameter in named.values())
    assert not network.training


def test_the_tiny_weights_have_the_published_layout() -> None:
    found = {name: tuple(tensor.shape) for name, tensor in tiny_weights(seed=0).items()}
    assert found == {**shapes(TINY), **ignored(TINY)}


def test_every_tensor_goes_somewhere() -> None:
    weights = tiny_weights(seed=0)
    placed = [*vision_weights(weights).values(), *text_weights(weights).values()]
    used = {name for name in shapes(TINY) if not name.startswith("mlp.")}
    assert {id(tensor) for tensor in placed} == {id(weights[name]) for name in used}
    assert len(placed) == len(used)


def test_the_head_folds_to_one_vector() -> None:
    weights = tiny_weights(seed=5)
    direction, offset = folded_head(weights)
    first = torch.randn(7, TINY.text_width, generator=torch.Generator().manual_seed(0))
    chain = first.double()
    for position in (0, 2, 4, 6, 7):
        chain = chain @ weights[f"mlp.layers.{position}.weight"].double().T + weights[f"mlp.layers.{position}.bias"]
    expected = (chain[:, 0] - 0.16717362830052426) / 1.0333394966054072
    assert direction.shape == (TINY.text_width,)
    torch.testing.assert_close((first @ direction + offset).double(), expected, rtol=1e-5, atol=1e-5)
    assert (SHIFT, SPREAD) == (0.16717362830052426, 1.0333394966054072)


def changed(**kwargs: Tensor | None) -> dict[str, Tensor]:
    """The tiny weights with tensors taken out (None) or put in; a dot in a name is written ``__``."""
    weights = tiny_weights(seed=0)
    for name, tensor in kwargs.items():
        key = name.replace("__", ".")
        if tensor is None:
            del weights[key]
        else:
            weights[key] = tensor
    return weights


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (changed(mlp__layers__7__bias=None), r"1 tensors are missing \(mlp\.layers\.7\.bias\)"),
        (changed(blip__itm_head__weight=torch.zeros(2, 20)), r"1 are unknown \(blip\.itm_head\.weight\)"),
        (
            changed(mlp__layers__0__weight=torch.zeros(12, 21)),
            r"1 differ \(mlp\.layers\.0\.weight is torch\.float32 \[12, 21\] instead of floats \[12, 20\]\)",
        ),
        (changed(mlp__layers__7__bias=torch.zeros(1, dtype=torch.int64)), r"is torch\.int64 \[1\]"),
        ({}, r"tensors are missing \(blip\.visual_encoder\.cls_token, .*, \.\.\.\)"),
    ],
)
def test_another_layout_is_refused(weights: dict[str, Tensor], words: str) -> None:
    with pytest.raises(InputError, match=r"^reward\.pt does not hold ImageReward-v1\.0: .*THUDM/ImageReward") as caught:
        check(weights, "reward.pt", TINY)
    assert re.search(words, str(caught.value))


def test_a_checkpoint_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="differ"):
        check(tiny_weights(seed=0), "reward.pt", Architecture())


def test_what_is_not_used_may_be_left_out() -> None:
    weights = tiny_weights(seed=0)
    for name in ignored(TINY):
        del weights[name]
    check(weights, "reward.pt", TINY)


def test_weights_are_read_from_both_formats(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    weights = tiny_weights(seed=0)
    torch.save(weights, tmp_path / "a.pt")
    torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, tmp_path / "b.pt")
    save_file(weights, tmp_path / "c.safetensors")
    for name in ("a.pt", "b.pt", "c.safetensors"):
        found = read_weights(tmp_path / name)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[key], weights[key]) for key in weights)


class Payload:
    """Something that a pickle would have to run code for."""


@pytest.mark.parametrize("name", ["torn.pt", "torn.safetensors", "text.pt", "code.pt", "list.pt", "empty.pt"])
def test_what_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "code.pt":
        torch.save({"a": Payload()}, path)
    elif name == "list.pt":
        torch.save([torch.zeros(1)], path)
    elif name == "torn.pt":
        torch.save(tiny_weights(seed=0), path)
        path.write_bytes(path.read_bytes()[:1000])
    else:
        path.write_bytes(b"" if name == "empty.pt" else b"these are not weights")
    with pytest.raises(InputError, match=re.escape(str(path))) as caught:
        read_weights(path)
    assert "ImageReward.pt of THUDM/ImageReward" in str(caught.value)
