"""A family with a base model that LoRA checkpoints adapt; loaded as a single-file plugin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from wsopt.datasets import Digits
from wsopt.families import ModelFamily
from wsopt.hookspecs import Register, hookimpl
from wsopt.seeding import SampleNoise
from wsopt.types import Batch

SIZE = 8
RANK = 2


class LoraNetwork(nn.Module):
    """Two adapted layers: the weight of `mean` is the mean image, that of `spread` the spread."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Linear(SIZE, SIZE, bias=False)
        self.spread = nn.Linear(SIZE, SIZE, bias=False)
        images = torch.from_numpy(Digits().images("train"))
        with torch.no_grad():
            self.mean.weight.fill_(float(images.mean()))
            self.spread.weight.fill_(float(images.std()))


class LoraFamily(ModelFamily):
    """x = mean + spread * z, clamped to [-1, 1]; the base model is flat grey."""

    name = "lora-toy"

    def __init__(self, params: object = None) -> None:
        pass

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 1, SIZE, SIZE

    @property
    def nfe(self) -> int:
        return 1

    def build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):  # nn.Linear draws its weights from torch's global generator
            return LoraNetwork().eval()

    def sample(self, model: nn.Module, indices: Sequence[int], noise: SampleNoise, batch_size: int) -> Iterator[Batch]:
        weights = model.state_dict()
        for at in range(0, len(indices), batch_size):
            part = indices[at : at + batch_size]
            z = torch.from_numpy(noise.normal(part, self.image_shape))
            yield Batch((weights["mean.weight"] + weights["spread.weight"] * z).clamp(-1.0, 1.0), part)


def write_adapters(folder: Path, count: int = 6) -> None:
    """Adapters of rank 2 in diffusers' script names (which say no alpha), wandering around the digits' mean image."""
    folder.mkdir(parents=True)
    images = torch.from_numpy(Digits().images("train"))
    generator = np.random.Generator(np.random.PCG64(5))
    targets = {"mean": images.mean(dim=0)[0] - images.mean(), "spread": images.std(dim=0)[0] - images.std()}
    for index in range(1, count + 1):
        tensors = {}
        for name, target in targets.items():
            u, s, v = torch.linalg.svd(target)
            wander = torch.from_numpy(0.1 * generator.standard_normal((2, SIZE, RANK))).float()
            tensors[f"unet.{name}.lora.up.weight"] = (u[:, :RANK] * s[:RANK] + wander[0]).contiguous()
            tensors[f"unet.{name}.lora.down.weight"] = (v[:RANK] + wander[1].T).contiguous()
        save_file(tensors, folder / f"pytorch_lora_weights-{index * 10:06d}.safetensors")


@hookimpl
def register_model_families(register: Register) -> None:
    register("lora-toy", f"{__name__}:LoraFamily")
