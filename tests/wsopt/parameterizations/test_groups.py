"""Groupings: by pattern, by block and by tensor."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from wsopt.config.params import GroupPattern, LayerwiseParams, LoraParams
from wsopt.diffusion import SongUNet
from wsopt.errors import InputError
from wsopt.parameterizations import Layerwise, Lora, block_of
from wsopt_cd.params import NetworkParams


def shapes(*names: str) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(names, (2, 2))


def layerwise(*patterns: GroupPattern, unmatched: str = "group") -> Layerwise:
    return Layerwise(
        LayerwiseParams.model_validate({"grouping": "patterns", "patterns": patterns, "unmatched": unmatched})
    )


@pytest.mark.parametrize(
    ("name", "block"),
    [
        # SongUNet, bare and wrapped by EDM's preconditioning
        ("enc.8x8_block0.conv0.weight", "enc.8x8_block0"),
        ("dec.4x4_in0.qkv.weight", "dec.4x4_in0"),
        ("model.enc.16x16_down.norm0.bias", "model.enc.16x16_down"),
        ("enc.32x32_conv.weight", "enc.32x32_conv"),
        ("dec.32x32_aux_norm.weight", "dec.aux"),
        ("enc.16x16_aux_residual.weight", "enc.aux"),
        ("map_layer0.weight", "map"),
        ("map_noise.freqs", "map"),
        # EDM2
        ("unet.enc.64x64_block2.emb_linear.weight", "unet.enc.64x64_block2"),
        ("unet.emb_label.weight", "unet.emb"),
        ("unet.out_conv.weight", "unet"),
        # OpenAI
        ("input_blocks.3.0.in_layers.2.weight", "input_blocks.3"),
        ("input_blocks.11.1.qkv.weight", "input_blocks.11"),
        ("middle_block.1.norm.weight", "middle_block"),
        ("output_blocks.0.0.emb_layers.1.bias", "output_blocks.0"),
        ("time_embed.2.weight", "time_embed"),
        ("label_emb.weight", "label_emb"),
        ("out.0.weight", "out"),
        # diffusers
        ("down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q.weight", "down_blocks.0"),
        ("up_blocks.3.resnets.2.conv1.weight", "up_blocks.3"),
        ("mid_block.attentions.0.proj_in.weight", "mid_block"),
        ("time_embedding.linear_1.weight", "time_embedding"),
        ("conv_in.weight", "conv_in"),
        # LoRA: two networks in one file, and underscores for dots
        ("unet.down_blocks.2.attentions.0.proj_in.weight", "unet.down_blocks.2"),
        ("text_encoder.text_model.encoder.layers.7.mlp.fc1.weight", "text_encoder.text_model.encoder.layers.7"),
        ("lora_unet_down_blocks_1_attentions_0_proj_in", "lora_unet_down_blocks.1"),
        ("lora_unet_mid_block_attentions_0_proj_in", "lora_unet_mid_block"),
        ("lora_te_text_model_encoder_layers_11_mlp_fc1", "lora_te_text_model_encoder_layers.11"),
        # DDPM
        ("down.1.block.0.conv1.weight", "down.1"),
        ("mid.attn_1.q.weight", "mid"),
        ("up.0.upsample.conv.weight", "up.0"),
        ("temb.dense.0.weight", "temb"),
        # transformers and the rest
        ("blocks.12.attn.qkv.weight", "blocks.12"),
        ("transformer.h.0.mlp.weight", "transformer.h.0"),
        ("net.2.weight", "net.2"),
        ("0.weight", "0"),
        ("head.weight", "head"),
        ("mean", "mean"),
    ],
)
def test_blocks_are_told_from_names(name: str, block: str) -> None:
    assert block_of(name) == block


def test_every_block_of_a_song_unet_is_a_group() -> None:
    with torch.device("meta"):
        network = SongUNet(NetworkParams())
    tensors = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    groups = Layerwise(LayerwiseParams()).grouping(tensors)
    assert groups is not None
    assert groups.keys() == tensors.keys()
    assert list(dict.fromkeys(groups.values())) == [
        "map",
        "enc.8x8_conv",
        "enc.8x8_block0",
        "enc.4x4_down",
        "enc.4x4_block0",
        "dec.4x4_in0",
        "dec.4x4_in1",
        "dec.4x4_block0",
        "dec.4x4_block1",
        "dec.8x8_up",
        "dec.8x8_block0",
        "dec.8x8_block1",
        "dec.aux",
    ]


def test_the_first_pattern_decides_and_groups_may_be_shared() -> None:
    one = layerwise(
        GroupPattern(name="norms", pattern=r"norm"),
        GroupPattern(pattern=r"^enc\."),
        GroupPattern(name="norms", pattern=r"bias$"),
    )
    assert one.grouping(shapes("enc.conv", "enc.norm.bias", "dec.bias", "dec.conv")) == {
        "enc.conv": r"^enc\.",
        "enc.norm.bias": "norms",
        "dec.bias": "norms",
        "dec.conv": "rest",
    }


def test_unmatched_tensors_can_be_an_error() -> None:
    one = layerwise(GroupPattern(pattern="^enc"), unmatched="error")
    assert one.grouping(shapes("enc.a")) == {"enc.a": "^enc"}
    with pytest.raises(
        InputError, match=r"none matches 5 tensors: b, c, d, e, \.\.\.\. Add a pattern, or set unmatched"
    ):
        one.grouping(shapes("enc.a", "b", "c", "d", "e", "f"))


@pytest.mark.parametrize("pattern", ["encoder", "norm"])
def test_a_pattern_without_tensors_is_an_error(pattern: str) -> None:
    one = layerwise(GroupPattern(pattern="norm"), GroupPattern(pattern=pattern))
    with pytest.raises(InputError, match=f"no tensor is left for the pattern '{pattern}'"):
        one.grouping(shapes("enc.norm", "enc.conv"))


def test_a_group_per_tensor_and_one_of_all() -> None:
    assert Layerwise(LayerwiseParams(grouping="tensor")).grouping(shapes("a", "b")) == {"a": "a", "b": "b"}
    assert Lora(LoraParams()).grouping(shapes("a", "b")) is None
    assert Lora(LoraParams(grouping="depth")).grouping(shapes("net.0.w")) == {"net.0.w": "net.0"}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"grouping": "patterns"}, "needs patterns"),
        ({"patterns": [{"pattern": "a"}]}, "patterns belong to grouping = 'patterns'; the grouping is 'depth'"),
        ({"unmatched": "error"}, "unmatched belongs to grouping = 'patterns'"),
        ({"normalize": True}, "normalize belongs to coordinates = 'direct'; with 'auto'"),
        ({"grouping": "patterns", "patterns": [{"pattern": "("}]}, r"'\(' is not a regular expression"),
        ({"grouping": "patterns", "patterns": [{"pattern": ""}]}, "at least 1 character"),
        ({"grouping": "shared"}, "'depth', 'tensor' or 'patterns'"),
    ],
)
def test_settings_that_do_not_fit(params: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LayerwiseParams.model_validate(params)


def test_groupings_go_to_workers_in_other_processes() -> None:
    patterns = (GroupPattern(name="first", pattern="^a"), GroupPattern(pattern="b"))
    groupings = [
        Layerwise(LayerwiseParams()).grouping,
        Layerwise(LayerwiseParams(grouping="tensor")).grouping,
        Layerwise(LayerwiseParams(grouping="patterns", patterns=patterns)).grouping,
    ]
    code = "import pickle, sys; print([f({'a.0.w': (2,), 'b': (2,)}) for f in pickle.load(sys.stdin.buffer)])"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(groupings), capture_output=True, check=True)
    expected = [{"a.0.w": "a.0", "b": "b"}, {"a.0.w": "a.0.w", "b": "b"}, {"a.0.w": "first", "b": "b"}]
    assert done.stdout.decode().strip() == str(expected)
