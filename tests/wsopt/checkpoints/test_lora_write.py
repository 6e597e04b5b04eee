from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from wsopt.checkpoints import (
    LoraAdapter,
    LoraFactors,
    LoraStyle,
    SafetensorsReader,
    export_metadata,
    export_names,
    export_tensors,
    read_adapter,
    write_adapter,
    write_tensors,
)
from wsopt.errors import CheckpointError

SHAPES = {"blocks.0.to_q.weight": (8, 6), "blocks.0.conv.weight": (8, 4, 3, 3), "other.blocks.0.to_q.weight": (5, 5)}
BASE = {name: torch.zeros(shape) for name, shape in SHAPES.items()}


@pytest.fixture
def adapter() -> LoraAdapter:
    """Ranks and scales differ between modules, one module's name ends like another's, and one is a convolution."""
    generator = torch.Generator().manual_seed(3)
    modules = {}
    for rank, (name, (out, *inside)) in enumerate(SHAPES.items(), 2):
        a = torch.randn(rank, *inside, generator=generator)
        b = torch.randn(out, rank, *([1] * (len(inside) - 1)), generator=generator)
        modules[name] = LoraFactors(name, a, b, scale=0.7 * rank)
    return LoraAdapter(modules)


def reread(path: Path, base: dict[str, torch.Tensor] | None = BASE) -> LoraAdapter:
    (snapshot,) = SafetensorsReader().scan(path)
    return read_adapter(snapshot, base)


@pytest.mark.parametrize("style", ["peft", "diffusers", "kohya"])
def test_every_style_gives_the_same_change_back(tmp_path: Path, adapter: LoraAdapter, style: LoraStyle) -> None:
    again = reread(write_adapter(tmp_path / "out.safetensors", adapter, style))
    assert list(again.modules) == list(adapter.modules)
    assert again.alpha_known
    for name, module in again.modules.items():
        torch.testing.assert_close(module.delta(), adapter.modules[name].delta())
        assert module.scale == 1.0


@pytest.mark.parametrize("style", ["peft", "diffusers", "kohya"])
def test_a_loader_that_knows_no_alpha_is_right(tmp_path: Path, adapter: LoraAdapter, style: LoraStyle) -> None:
    tensors = {name: t for name, t in export_tensors(adapter, style).items() if not name.endswith(".alpha")}
    write_tensors(tmp_path / "bare.safetensors", tensors, {})
    again = reread(tmp_path / "bare.safetensors")
    assert not again.alpha_known
    for name, module in again.modules.items():
        torch.testing.assert_close(module.delta(), adapter.modules[name].delta())


def test_peft_files(tmp_path: Path, adapter: LoraAdapter) -> None:
    write_adapter(tmp_path / "out", adapter, "peft")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 4)
    # the first pattern that fits the end of a name counts, so the longer of two names comes first
    assert list(config["rank_pattern"].items()) == [
        ("other.blocks.0.to_q", 4),
        ("blocks.0.conv", 3),
        ("blocks.0.to_q", 2),
    ]
    assert config["alpha_pattern"] == config["rank_pattern"]


def test_one_rank_needs_no_pattern(tmp_path: Path, adapter: LoraAdapter) -> None:
    one = LoraAdapter({"blocks.0.conv.weight": adapter.modules["blocks.0.conv.weight"]})
    write_adapter(tmp_path / "out", one, "peft")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"], config["alpha_pattern"]) == (3, 3, {}, {})


def test_names() -> None:
    assert export_names("a.0.to_q", "peft")[0] == "base_model.model.a.0.to_q.lora_A.weight"
    assert export_names("a.0.to_q", "diffusers")[1] == "unet.a.0.to_q.lora_B.weight"
    assert export_names("a.0.to_q", "kohya") == (
        "lora_unet_a_0_to_q.lora_down.weight",
        "lora_unet_a_0_to_q.lora_up.weight",
    )


def test_own_tensors_with_their_scales_beside_them(tmp_path: Path, adapter: LoraAdapter) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for module in adapter.modules.values():
        down, up = export_names(module.module, "peft")
        tensors |= {down: module.a, up: module.b}
    write_tensors(tmp_path / "own.safetensors", tensors, export_metadata(adapter, folded=False))
    again = reread(tmp_path / "own.safetensors")
    for name, module in again.modules.items():
        assert module.scale == pytest.approx(adapter.modules[name].scale, rel=1e-15)
        assert torch.equal(module.b, adapter.modules[name].b)


def test_half_precision_rounds_the_factors(tmp_path: Path, adapter: LoraAdapter) -> None:
    path = write_adapter(tmp_path / "out.safetensors", adapter, "diffusers", torch.float16)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    for name, module in reread(path).modules.items():
        torch.testing.assert_close(module.delta(), adapter.modules[name].delta(), rtol=0.01, atol=0.01)


def test_the_same_adapter_gives_the_same_bytes(tmp_path: Path, adapter: LoraAdapter) -> None:
    files = [write_adapter(tmp_path / name, adapter, "diffusers").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    with safe_open(tmp_path / "a", "pt") as file:
        assert json.loads(file.metadata()["lora_adapter_metadata"])["unet.r"] == 4


def test_kohya_names_go_back_into_kohya_files_only(tmp_path: Path, adapter: LoraAdapter) -> None:
    unresolved = reread(write_adapter(tmp_path / "kohya.safetensors", adapter, "kohya"), base=None)
    with pytest.raises(CheckpointError, match="known by kohya names only"):
        export_tensors(unresolved, "peft")
    again = reread(write_adapter(tmp_path / "again.safetensors", unresolved, "kohya"))
    for name, module in again.modules.items():
        torch.testing.assert_close(module.delta(), adapter.modules[name].delta())


def test_two_modules_of_one_kohya_name() -> None:
    one = torch.ones(1, 2), torch.ones(2, 1)
    modules = {name: LoraFactors(name, *one) for name in ("a.b_c.weight", "a_b.c.weight")}
    with pytest.raises(CheckpointError, match="two modules have the kohya name lora_unet_a_b_c"):
        export_tensors(LoraAdapter(modules), "kohya")
