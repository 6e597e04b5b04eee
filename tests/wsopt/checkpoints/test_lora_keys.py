from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open

from wsopt.checkpoints import looks_like_lora
from wsopt.checkpoints._lora_keys import LoraKey, ModuleNames, not_linear, parse_key

LORA = Path(__file__).parents[2] / "data" / "formats" / "lora"
PROJ = "down_blocks.0.attentions.0.proj_in"
TO_Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
TO_OUT = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"


def names(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())


BASE = names(LORA / "base_unet" / "diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize(
    ("name", "module", "role"),
    [
        (f"base_model.model.{TO_Q}.lora_A.weight", TO_Q, "a"),
        (f"{TO_Q}.lora_B.weight", TO_Q, "b"),
        (f"{TO_Q}.lora_B.default.weight", TO_Q, "b"),
        (f"{TO_Q}.lora_A", TO_Q, "a"),
        (f"unet.{TO_Q}.lora_A.weight", TO_Q, "a"),
        (f"unet.{TO_Q}.lora.down.weight", TO_Q, "a"),
        (f"unet.{TO_Q}.lora.up.weight", TO_Q, "b"),
        (f"unet.{TO_Q}.lora_linear_layer.up.weight", TO_Q, "b"),
        (f"unet.base_model.model.{TO_Q}.lora_B.weight", TO_Q, "b"),
        (f"module.unet.{TO_Q}.lora_B.weight", TO_Q, "b"),
        (f"lora_unet_{TO_Q.replace('.', '_')}.lora_down.weight", TO_Q, "a"),
        (f"lora_unet_{PROJ.replace('.', '_')}.lora_up.weight", PROJ, "b"),
        (f"lora_unet_{PROJ.replace('.', '_')}.alpha", PROJ, "alpha"),
        (f"unet.{TO_Q.removesuffix('.to_q')}.processor.to_q_lora.down.weight", TO_Q, "a"),
        (f"{TO_OUT.removesuffix('.to_out.0')}.processor.to_out_lora.up.weight", TO_OUT, "b"),
    ],
)
def test_every_style_names_the_base_models_module(name: str, module: str, role: str) -> None:
    key = parse_key(name)
    assert key is not None
    assert (ModuleNames(BASE).resolve(key.module), key.role) == (module, role)
    if not name.startswith("lora_unet_"):
        assert ModuleNames().resolve(key.module) == module


@pytest.mark.parametrize(
    "name", ["conv_in.weight", "alphas_cumprod", "lora_A.weight", "x.lora_A.bias", "x.lora_C.weight"]
)
def test_other_names_are_no_factors(name: str) -> None:
    assert parse_key(name) is None
    assert not looks_like_lora([name])


def test_kohya_names_stay_where_the_base_model_is_unknown() -> None:
    assert ModuleNames().resolve("lora_unet_a_b_c") == "a_b_c"
    assert ModuleNames(["x.weight"]).resolve("lora_unet_a_b_c") == "a_b_c"


def test_an_ambiguous_kohya_name_is_told() -> None:
    found = ModuleNames(["a.b_c.weight", "a_b.c.weight"])
    with pytest.raises(ValueError, match=r"a_b_c stands for several.*a\.b_c, a_b\.c"):
        found.resolve("lora_unet_a_b_c")


def test_a_network_with_a_part_called_like_a_prefix_keeps_it() -> None:
    base = ["transformer.h.0.q.weight", "unet.x.weight", "base_model.model.y.weight"]
    resolve = ModuleNames(base).resolve
    assert resolve("transformer.h.0.q") == "transformer.h.0.q"
    assert resolve("base_model.model.transformer.h.0.q") == "transformer.h.0.q"
    assert resolve("base_model.model.unet.x") == "unet.x"
    assert resolve("base_model.model.y") == "base_model.model.y"


def test_dense_networks_do_not_look_like_lora() -> None:
    assert not looks_like_lora(BASE)
    assert not looks_like_lora([*BASE, "snake.alpha"])
    assert not looks_like_lora([])


@pytest.mark.parametrize("path", sorted(LORA.rglob("*.safetensors")), ids=lambda path: str(path.relative_to(LORA)))
def test_every_lora_file_looks_like_one(path: Path) -> None:
    dense = "expected" in path.name or path.parent.name == "base_unet"
    assert looks_like_lora(names(path)) is not dense


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("x.to_q.lora_magnitude_vector", "DoRA"),
        ("x.to_q.lora_magnitude_vector.default.weight", "DoRA"),
        ("lora_unet_x.dora_scale", "DoRA"),
        ("lora_unet_x.hada_w1_a", "LoHa"),
        ("lora_unet_x.lokr_w1", "LoKr"),
        ("lora_unet_x.lora_mid.weight", "Tucker"),
        ("x.lora_embedding_A", "embedding"),
    ],
)
def test_adapters_of_another_kind_are_told(name: str, what: str) -> None:
    assert what in (not_linear(name) or "")
    assert looks_like_lora([name])


def test_a_factor_is_linear() -> None:
    assert not_linear("x.lora_A.weight") is None
    assert parse_key("x.lora_A.weight") == LoraKey("x", "a")
