from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from wsopt.checkpoints import LoraAdapter, SafetensorsReader, Snapshot, lora_modules, read_adapter
from wsopt.errors import CheckpointError

LORA = Path(__file__).parents[2] / "data" / "formats" / "lora"
BASE = load_file(LORA / "base_unet" / "diffusion_pytorch_model.safetensors")
PEFT = LORA / "styles" / "peft"
TO_Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"
ATTENTION = ("attn1.to_q.weight", "attn1.to_out.0.weight", "attn2.to_k.weight")


def snapshot(path: Path) -> Snapshot:
    (found,) = SafetensorsReader().scan(path)
    assert found.stream.kind == "lora"
    return found


def read(path: Path) -> LoraAdapter:
    return read_adapter(snapshot(path), BASE)


def changed(tmp_path: Path, tensors: dict[str, Tensor] | None = None, **config: Any) -> Snapshot:
    """The peft fixture with other tensors, or another configuration."""
    folder = tmp_path / "adapter"
    shutil.copytree(PEFT, folder)
    if tensors is not None:
        save_file(tensors, folder / "adapter_model.safetensors")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return snapshot(folder / "adapter_model.safetensors")


def factors() -> dict[str, Tensor]:
    return load_file(PEFT / "adapter_model.safetensors")


def check(adapter: LoraAdapter, expected: Path, factor: float = 1.0, only: tuple[str, ...] = ("",)) -> None:
    wanted = {name: tensor for name, tensor in load_file(expected).items() if name.endswith(only)}
    assert adapter.modules.keys() == wanted.keys()
    for name, module in adapter.modules.items():
        assert module.shape == BASE[name].shape
        torch.testing.assert_close(module.delta(), wanted[name] * factor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("style", "known", "only"),
    [
        ("peft/adapter_model", True, ("",)),
        ("peft_add_adapter", False, ("",)),
        ("diffusers_new", False, ("",)),
        ("diffusers_metadata", True, ("",)),
        ("diffusers_script", False, ATTENTION),
        ("diffusers_script_mixed", False, ("",)),
        ("lcm_script", False, ("",)),
        ("kohya", True, ("",)),
        ("attn_processor", False, ATTENTION),
    ],
)
def test_all_key_styles_give_the_same_change(style: str, known: bool, only: tuple[str, ...]) -> None:
    adapter = read(LORA / "styles" / f"{style}.safetensors")
    # alpha / rank is 2; where alpha is said nowhere, alpha = rank is all a reader can take
    check(adapter, LORA / "styles.expected.safetensors", 1.0 if known else 0.5, only)
    assert adapter.alpha_known is known
    assert known == (adapter.warning is None)
    assert adapter.dotted


def test_modules_are_in_the_base_models_order() -> None:
    adapter = read(PEFT / "adapter_model.safetensors")
    assert list(adapter.modules) == [name for name in BASE if name in adapter.modules]


def test_unknown_alpha_is_told_by_name() -> None:
    adapter = read(LORA / "styles" / "diffusers_new.safetensors")
    assert set(adapter.unknown_alpha) == set(adapter.modules)
    assert adapter.warning is not None
    assert adapter.unknown_alpha[0] in adapter.warning
    assert "and 4 more" in adapter.warning


@pytest.mark.parametrize("name", ["rslora/adapter_model", "pattern/adapter_model", "kohya_fp16/pytorch_lora_weights"])
def test_scales_of_peft_and_kohya(name: str) -> None:
    folder = name.split("/", maxsplit=1)[0]
    check(read(LORA / f"{name}.safetensors"), LORA / f"{folder}.expected.safetensors")


def test_kohya_without_a_base_keeps_its_names() -> None:
    adapter = read_adapter(snapshot(LORA / "styles" / "kohya.safetensors"))
    assert not adapter.dotted
    assert f"{CONV.replace('.', '_')}.weight" in adapter.modules
    assert {module.scale for module in adapter.modules.values()} == {2.0}


def test_headers_tell_ranks_and_shapes() -> None:
    found = lora_modules(snapshot(LORA / "pattern" / "adapter_model.safetensors"), BASE)
    assert {(one.name, one.rank, one.shape, one.scale) for one in found.values()} >= {
        (f"{CONV}.weight", 2, (8, 8, 3, 3), 3.0),
        (f"{TO_Q}.weight", 4, (8, 8), 4.0),
    }


def test_a_linear_layer_may_be_stored_as_a_convolution(tmp_path: Path) -> None:
    tensors = {name: t[..., None, None] if t.dim() == 2 else t for name, t in factors().items()}
    check(read_adapter(changed(tmp_path, tensors), BASE), LORA / "styles.expected.safetensors")


def test_dora_is_refused_by_its_tensors_and_by_its_configuration(tmp_path: Path) -> None:
    alone = tmp_path / "dora-100.safetensors"
    shutil.copy(LORA / "dora" / "adapter_model.safetensors", alone)
    with pytest.raises(CheckpointError, match=r"dora-100.*lora_magnitude_vector belongs to DoRA.*not linear"):
        read(alone)
    with pytest.raises(CheckpointError, match="adapter is DoRA"):
        read_adapter(changed(tmp_path, use_dora=True), BASE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peft_type": "LOHA"}, "of type LOHA"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa_niter_16, which changes the base weights"),
        ({"init_lora_weights": "olora"}, "olora, which changes the base weights"),
        ({"target_parameters": ["mlp.experts"]}, "parameters other than"),
        ({"fan_in_fan_out": True}, "stored transposed"),
        ({"alora_invocation_tokens": [1]}, "some tokens only"),
        ({"r": 8}, "have rank 4, the configuration says 8"),
        ({"lora_alpha": 0}, "lora_alpha of module .* is 0"),
        ({"lora_alpha": "8"}, "lora_alpha of module .* is '8'"),
        ({"alpha_pattern": {"(": 3}}, "alpha_pattern of its configuration is damaged"),
        ({"alpha_pattern": [3]}, "alpha_pattern of its configuration is damaged"),
    ],
)
def test_configurations_that_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        read_adapter(changed(tmp_path, **options), BASE)
    assert "adapter_model.safetensors" in str(caught.value)


@pytest.mark.parametrize("start", [True, "gaussian", "eva", None])
def test_harmless_initialisations_are_taken(tmp_path: Path, start: object) -> None:
    check(read_adapter(changed(tmp_path, init_lora_weights=start), BASE), LORA / "styles.expected.safetensors")


def a_and_b(module: str) -> tuple[str, str]:
    return f"base_model.model.{module}.lora_A.weight", f"base_model.model.{module}.lora_B.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({a_and_b(TO_Q)[1]: None}, f"module {TO_Q} has .* and no factor B"),
        ({a_and_b(TO_Q)[0]: None}, f"module {TO_Q} has .* and no factor A"),
        ({a_and_b(TO_Q)[0]: torch.ones(3, 8)}, r"do not fit: .*lora_A.weight is \[3, 8\], .* is \[8, 4\]"),
        ({a_and_b(TO_Q)[0]: torch.ones(4, 7)}, r"give \[8, 7\], the base model has \[8, 8\]"),
        ({a_and_b(TO_Q)[0]: torch.ones(4)}, r"lora_A.weight is \[4\]"),
        ({a_and_b(TO_Q)[0]: torch.ones(4, 8, dtype=torch.int8)}, "is no LoRA factor"),
        ({a_and_b(TO_Q)[0]: torch.ones(0, 8), a_and_b(TO_Q)[1]: torch.ones(8, 0)}, "is empty"),
        ({a_and_b(TO_Q)[0]: torch.full((4, 8), torch.nan)}, "32 of 32 values that are NaN"),
        ({"base_model.model.conv_in.weight": torch.ones(8, 4, 3, 3)}, "conv_in.weight .* would be lost"),
        ({f"base_model.model.{TO_Q}.lora_B.bias": torch.ones(8)}, "lora_B.bias .* would be lost"),
        ({f"base_model.model.{TO_Q}.alpha": torch.tensor(0.0)}, "alpha is 0.0"),
        ({f"base_model.model.{TO_Q}.alpha": torch.ones(2)}, r"alpha is \[2\], no number"),
        ({f"{TO_Q}.lora_A.weight": torch.ones(4, 8)}, "same factor of .*two adapters"),
        (dict(zip(a_and_b("text.q"), (torch.ones(4, 8), torch.ones(8, 4)), strict=True)), "which the base model lacks"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, change: dict[str, Tensor | None], message: str) -> None:
    tensors = {name: tensor for name, tensor in (factors() | change).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message) as caught:
        read_adapter(changed(tmp_path, tensors), BASE)
    assert "adapter_model.safetensors" in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[1]", '"x"'])
def test_damaged_metadata_are_told(tmp_path: Path, text: str) -> None:
    save_file(factors(), tmp_path / "x.safetensors", {"lora_adapter_metadata": text})
    with pytest.raises(CheckpointError, match=r"x\.safetensors: its metadata entry lora_adapter_metadata is damaged"):
        read(tmp_path / "x.safetensors")


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_configuration_is_told(tmp_path: Path, text: str) -> None:
    found = changed(tmp_path)
    (tmp_path / "adapter" / "adapter_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        read_adapter(found, BASE)
