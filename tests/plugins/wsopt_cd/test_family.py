"""The family's network and samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from wsopt.errors import CheckpointError
from wsopt.seeding import SampleNoise, child_seed
from wsopt_cd.family import ConsistencyDistillation
from wsopt_cd.params import CDParams, CDRecipe, NetworkParams

SMALL = NetworkParams(img_resolution=4, model_channels=4, channel_mult=(1,), attn_resolutions=())


def loaded(family: ConsistencyDistillation) -> nn.Module:
    """A network with random weights large enough to matter."""
    model = family.build()
    generator = torch.Generator().manual_seed(child_seed(1, "weights"))
    for parameter in model.parameters():
        parameter.normal_(0, 0.3, generator=generator)
    return model


def images(family: ConsistencyDistillation, model: nn.Module, indices: list[int], batch_size: int) -> Tensor:
    return torch.cat([batch.images for batch in family.sample(model, indices, SampleNoise(3, "search"), batch_size)])


@pytest.mark.parametrize(("timesteps", "nfe"), [((0,), 1), ((0, 10), 2), ((0, 10, 17), 2), ((0, 17), 1)])
def test_nfe(timesteps: tuple[int, ...], nfe: int) -> None:
    family = ConsistencyDistillation(CDParams(network=SMALL, timesteps=timesteps))
    model = loaded(family)
    calls = []
    model.register_forward_hook(lambda module, args, output: calls.append(1))
    images(family, model, [0, 1], 2)
    assert family.nfe == len(calls) == nfe


def test_batches(untouched_randomness: None) -> None:
    family = ConsistencyDistillation(CDParams(network=SMALL))
    batches = list(family.sample(loaded(family), [7, 3, 9, 1, 0], SampleNoise(3, "search"), 2))
    assert [list(batch.indices) for batch in batches] == [[7, 3], [9, 1], [0]]
    assert [tuple(batch.images.shape) for batch in batches] == [(2, 1, 4, 4), (2, 1, 4, 4), (1, 1, 4, 4)]
    whole = torch.cat([batch.images for batch in batches])
    assert whole.dtype == torch.float32
    assert whole.min() >= -1
    assert whole.max() <= 1
    assert whole.std() > 0.01
    assert family.image_shape == (1, 4, 4)


@pytest.mark.parametrize("timesteps", [(0,), (0, 10)])
def test_a_sample_depends_on_its_index_alone(timesteps: tuple[int, ...]) -> None:
    family = ConsistencyDistillation(CDParams(network=SMALL, timesteps=timesteps))
    model = loaded(family)
    together = images(family, model, [0, 1, 2, 3, 4], 5)
    apart = images(family, model, [4, 2, 0], 1)
    torch.testing.assert_close(apart, together[[4, 2, 0]], rtol=0, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_sampling_leaves_the_callers_gradient_mode_alone() -> None:
    family = ConsistencyDistillation(CDParams(network=SMALL))
    for _ in family.sample(loaded(family), [0, 1, 2], SampleNoise(3, "search"), 1):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_a_network_that_returns_the_noise_is_scaled_by_the_boundary_condition() -> None:
    """With F = 0 a one-step sample is c_skip(80) * 80 * z."""
    family = ConsistencyDistillation(CDParams(network=SMALL))
    z = torch.from_numpy(SampleNoise(3, "search").normal([5], (1, 4, 4)))
    torch.testing.assert_close(images(family, family.build(), [5], 1), 3.906293e-5 * 80 * z, rtol=1e-5, atol=0)


def test_default_network() -> None:
    model = ConsistencyDistillation(CDParams()).build()
    assert not model.training
    assert 50_000 < sum(parameter.numel() for parameter in model.parameters()) < 150_000
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_load(tmp_path: Path) -> None:
    family = ConsistencyDistillation(CDParams(network=NetworkParams(model_channels=4)))
    weights = {name: tensor.clone() for name, tensor in loaded(family).state_dict().items()}
    model = family.build()
    family.load(model, weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(CheckpointError, match=r"missing tensor dec\.8x8_aux_conv\.weight"):
        family.load(model, {name: tensor for name, tensor in weights.items() if name != "dec.8x8_aux_conv.weight"})


def test_another_filter_is_refused() -> None:
    family = ConsistencyDistillation(CDParams(network=NetworkParams(model_channels=4)))
    weights = dict(family.build().state_dict())
    weights["enc.4x4_down.skip.resample_filter"] = torch.full((1, 1, 2, 2), 0.5)
    with pytest.raises(CheckpointError, match=r"enc\.4x4_down\.skip\.resample_filter is not the filter of"):
        family.load(family.build(), weights)


@pytest.mark.parametrize("timesteps", [(), (1,), (0, 0), (0, 18), (0, 5, 3)])
def test_impossible_timesteps_are_refused(timesteps: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="timesteps"):
        CDParams(timesteps=timesteps)


def test_other_impossible_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="must be below sigma_max"):
        CDParams(sigma_min=90)
    with pytest.raises(ValidationError, match="same number"):
        NetworkParams(in_channels=3)
    with pytest.raises(ValidationError, match="no checkpoint would be saved"):
        CDRecipe(steps=10, save_every=20)
    with pytest.raises(ValidationError, match="names a rate twice"):
        CDRecipe(ema_rates=(0.9, 0.9))
    with pytest.raises(ValidationError, match="Extra inputs"):
        CDRecipe(epochs=3)  # type: ignore[call-arg]
