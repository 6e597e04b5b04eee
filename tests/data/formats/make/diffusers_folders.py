"""Write safetensors models (single, sharded) and training folders of diffusers and accelerate, for a tiny UNet2DModel.

pip install -c constraints.txt torch diffusers accelerate transformers safetensors
python diffusers_folders.py
"""
# mypy: disable-error-code="import-not-found, import-untyped, no-any-return, misc, no-untyped-call"

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import diffusers
import huggingface_hub
import torch
from _wave import wave
from accelerate import Accelerator
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent.parent
STEPS = (10, 20)
Hook = Callable[[list[Any], list[Any], str], None]


def tiny_unet(step: int, drift: float = 0.001) -> UNet2DModel:
    """The smallest UNet2DModel that has every part of one resolution; weights of training step `step`."""
    unet = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4,), norm_num_groups=2,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), mid_block_type=None, add_attention=False,
    )  # fmt: skip
    set_weights(unet, step, drift)
    return unet


def set_weights(unet: UNet2DModel, step: int, drift: float = 0.001) -> None:
    """Fill every parameter with the closed form of this step."""
    for k, parameter in enumerate(unet.parameters()):
        parameter.data.copy_(torch.from_numpy(wave(tuple(parameter.shape), k, 0.5, drift * step)))


def same(file: Path, state: dict[str, torch.Tensor]) -> None:
    """Assert that a safetensors file holds exactly this state dict."""
    loaded = load_file(file)
    assert loaded.keys() == state.keys(), file
    assert all(torch.equal(loaded[name], state[name]) for name in state), file


def write_safetensors() -> None:
    """One model as a single file, in shards (diffusers and huggingface_hub naming), and as the fp16 variant."""
    root, unet = HERE / "safetensors", tiny_unet(0)
    state = unet.state_dict()
    unet.save_pretrained(root / "single")
    same(root / "single" / "diffusion_pytorch_model.safetensors", state)
    unet.save_pretrained(root / "sharded_diffusers", max_shard_size="4KB")
    (root / "sharded_hub").mkdir()
    huggingface_hub.save_torch_state_dict(state, root / "sharded_hub", max_shard_size="4KB")
    huggingface_hub.load_torch_model(tiny_unet(99), root / "sharded_hub")  # refuses missing or extra names
    for folder in ("single", "sharded_diffusers"):
        again = UNet2DModel.from_pretrained(root / folder).state_dict()
        assert all(torch.equal(again[name], state[name]) for name in state), folder
    for folder in ("sharded_diffusers", "sharded_hub"):
        shards = sorted((root / folder).glob("*.safetensors"))
        assert len(shards) > 1
        merged = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
        assert merged.keys() == state.keys()
        assert all(torch.equal(merged[name], state[name]) for name in state)
    half = tiny_unet(0).to(torch.float16)
    half.save_pretrained(root / "variant", variant="fp16")
    same(root / "variant" / "diffusion_pytorch_model.fp16.safetensors", half.state_dict())


def trainer(root: Path, unet: UNet2DModel) -> Accelerator:
    """An accelerator as the example scripts prepare it, optimizer and schedule included."""
    accelerate.utils.set_seed(0)
    accelerator = Accelerator(cpu=True, project_dir=str(root))
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4)
    schedule = diffusers.optimization.get_scheduler("constant", optimizer=optimizer)
    accelerator.prepare(unet, optimizer, schedule)
    return accelerator


def write_without_hooks() -> None:
    """accelerator.save_state alone: model.safetensors, or pytorch_model.bin as older versions wrote."""
    unet = tiny_unet(0)
    accelerator = trainer(HERE / "accelerate", unet)
    for step in STEPS:
        set_weights(unet, step)
        accelerator.save_state(str(HERE / "accelerate" / f"checkpoint-{step}"))
        same(HERE / "accelerate" / f"checkpoint-{step}" / "model.safetensors", unet.state_dict())
    folder = HERE / "accelerate_bin" / "checkpoint-10"
    set_weights(unet, 10)
    accelerator.save_state(str(folder), safe_serialization=False)
    loaded = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in unet.state_dict().items())


def write_with_ema() -> None:
    """The hooks of the unconditional example: unet/ and unet_ema/ (EMAModel with warm-up), no model file."""
    unet = tiny_unet(0)
    ema = EMAModel(
        unet.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75,
        model_cls=UNet2DModel, model_config=unet.config,
    )  # fmt: skip

    def hook(models: list[Any], weights: list[Any], output_dir: str) -> None:
        ema.save_pretrained(str(Path(output_dir) / "unet_ema"))
        for model in models:
            model.save_pretrained(str(Path(output_dir) / "unet"))
            weights.pop()

    accelerator = trainer(HERE / "diffusers_ema", unet)
    accelerator.register_save_state_pre_hook(hook)
    names = [name for name, _ in unet.named_parameters()]
    for step in range(1, STEPS[-1] + 1):
        set_weights(unet, step)
        ema.step(unet.parameters())
        if step in STEPS:
            folder = HERE / "diffusers_ema" / f"checkpoint-{step}"
            accelerator.save_state(str(folder))
            same(folder / "unet" / "diffusion_pytorch_model.safetensors", unet.state_dict())
            shadow = dict(zip(names, ema.shadow_params, strict=True))
            same(folder / "unet_ema" / "diffusion_pytorch_model.safetensors", shadow)
            again = EMAModel.from_pretrained(str(folder / "unet_ema"), UNet2DModel)
            assert again.optimization_step == step
            assert again.power == 0.75


def write_lcm_full() -> None:
    """The hooks of full LCM distillation: unet/ (online) and unet_target/ (the EMA network), saved as a model."""
    unet, target = tiny_unet(0), tiny_unet(0)

    def hook(models: list[Any], weights: list[Any], output_dir: str) -> None:
        target.save_pretrained(str(Path(output_dir) / "unet_target"))
        for model in models:
            model.save_pretrained(str(Path(output_dir) / "unet"))
            weights.pop()

    accelerator = trainer(HERE / "diffusers_lcm", unet)
    accelerator.register_save_state_pre_hook(hook)
    for step in STEPS:
        set_weights(unet, step)
        set_weights(target, step, 0.0007)
        folder = HERE / "diffusers_lcm" / f"checkpoint-{step}"
        accelerator.save_state(str(folder))
        same(folder / "unet" / "diffusion_pytorch_model.safetensors", unet.state_dict())
        same(folder / "unet_target" / "diffusion_pytorch_model.safetensors", target.state_dict())


if __name__ == "__main__":
    torch.set_num_threads(1)
    for group in ("safetensors", "accelerate", "accelerate_bin", "diffusers_ema", "diffusers_lcm"):
        shutil.rmtree(HERE / group, ignore_errors=True)
    write_safetensors()
    write_without_hooks()
    write_with_ema()
    write_lcm_full()
    for path in HERE.glob("*/checkpoint-*/random_states_0.pkl"):  # 14 KB each: one is kept
        if path.parent != HERE / "accelerate" / "checkpoint-10":
            path.unlink()
    for package in (torch, diffusers, accelerate, huggingface_hub):
        print(package.__name__, package.__version__)
