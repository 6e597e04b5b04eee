"""SongUNet against outputs of the public network on closed-form weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from torch import Tensor

from wsopt.diffusion import SongUNet, SongUNetConfig

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
NETWORKS = ["songunet_ncsnpp", "songunet_ddpmpp"]
TINY: dict[str, Any] = {
    "img_resolution": 8,
    "in_channels": 1,
    "out_channels": 1,
    "model_channels": 8,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [4],
}


def golden(name: str) -> tuple[dict[str, Any], dict[str, list[int]], dict[str, Tensor]]:
    with safe_open(GOLDEN / f"{name}.safetensors", framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in ("x", "t", "output")}
    return json.loads(metadata["config"]), json.loads(metadata["keys"]), tensors


def fill(network: torch.nn.Module) -> None:
    """The closed form that the golden outputs were made with."""
    state = network.state_dict()
    for k, name in enumerate(sorted(key for key in state if not key.endswith("resample_filter"))):
        tensor = state[name]
        w = torch.sin(1.0 + 0.7 * k + 0.37 * torch.arange(tensor.numel(), dtype=torch.float64))
        if tensor.ndim >= 2:
            w = 1.5 * w / math.sqrt(tensor.numel() / tensor.shape[0])
        else:
            w = 1 + 0.3 * w if name.endswith("weight") else 0.3 * w
        tensor.copy_(w.view(tensor.shape))


@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_shapes_are_the_public_ones(name: str) -> None:
    config, keys, _ = golden(name)
    state = SongUNet(SongUNetConfig(**config)).state_dict()
    assert {key: list(tensor.shape) for key, tensor in state.items()} == keys
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


@pytest.mark.parametrize("name", NETWORKS)
def test_output_is_the_public_one(name: str) -> None:
    config, _, tensors = golden(name)
    errors = {}
    for dtype in (torch.float32, torch.float64):
        network = SongUNet(SongUNetConfig(**config)).to(dtype).eval()
        fill(network)
        with torch.no_grad():
            output = network(tensors["x"].to(dtype), tensors["t"].to(dtype))
        assert output.dtype == dtype
        errors[dtype] = ((output - tensors["output"]).abs().max() / tensors["output"].std()).item()
    assert errors[torch.float32] <= 2e-5
    assert errors[torch.float64] <= 2e-5


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"},
        {"decoder_type": "skip", "resample_filter": [1, 3, 3, 1]},
    ],
)
def test_initial_weights_come_from_the_generator_alone(change: dict[str, Any]) -> None:
    config = SongUNetConfig(**{**TINY, **change})
    before = torch.get_rng_state()
    first, second = (SongUNet(config, torch.Generator().manual_seed(3)) for _ in range(2))
    other = SongUNet(config, torch.Generator().manual_seed(4))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())
    assert not torch.equal(first.state_dict()["map_layer0.weight"], other.state_dict()["map_layer0.weight"])
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    output = first(x, torch.tensor([-1.5, 0.0, 1.0]))
    assert output.shape == (3, 1, 8, 8)
    assert 0 < output.abs().max() < 1e-3, "the last layer starts near zero"


def test_without_a_generator_the_network_is_the_same_every_time() -> None:
    first, second = (SongUNet(SongUNetConfig(**TINY)).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not first["enc.8x8_conv.weight"].any()


def test_fourier_frequencies_are_fixed() -> None:
    network = SongUNet(SongUNetConfig(**TINY, embedding_type="fourier"), torch.Generator().manual_seed(0))
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert frozen == ["map_noise.freqs"]
    assert 4 < network.state_dict()["map_noise.freqs"].std() < 50


def test_every_trained_parameter_gets_a_gradient() -> None:
    network = SongUNet(SongUNetConfig(**TINY, decoder_type="skip"), torch.Generator().manual_seed(0))
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    network(x, torch.tensor([0.1, 0.2])).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_box_resampling_equals_the_general_filter() -> None:
    """The fast paths of the [1, 1] filter, against the convolutions that any other filter takes."""
    from wsopt.diffusion._layers import Conv2d

    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    directions: tuple[Literal["up", "down"], ...] = ("up", "down")
    for resample in directions:
        layer = Conv2d(3, 3, 0, None, resample=resample)
        fast = layer(x)
        layer.box = False
        torch.testing.assert_close(fast, layer(x), rtol=0, atol=1e-6)
    fused = Conv2d(3, 5, 3, torch.Generator().manual_seed(1), resample="down", fused=True)
    fast = fused(x)
    fused.box = False
    torch.testing.assert_close(fast, fused(x), rtol=0, atol=1e-6)


def test_dropout_acts_in_training_mode_only() -> None:
    network = SongUNet(SongUNetConfig(**TINY, dropout=0.5), torch.Generator().manual_seed(0))
    fill(network)
    x, c_noise = torch.ones(1, 1, 8, 8), torch.zeros(1)
    network.eval()
    assert torch.equal(network(x, c_noise), network(x, c_noise))
    network.train()
    with torch.random.fork_rng():
        assert not torch.equal(network(x, c_noise), network(x, c_noise))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_dim": 10}, "only unconditional"),
        ({"augment_dim": 9}, "only unconditional"),
        ({"img_resolution": 9}, "cannot be halved 1 times"),
        ({"resample_filter": [1, 2, 1]}, "odd length"),
        ({"model_channels": 9}, "normalisation groups"),
        ({"model_channels": 2, "channel_mult_noise": 1}, "at least 4"),
        ({"channels": 3}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SongUNetConfig(**{**TINY, **change})
