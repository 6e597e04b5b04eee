"""What is done with each tensor: constants, integers, normalisation layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stacks import MemoryReader, made_set, merged, set_of
from wsopt.checkpoints import TensorSpec
from wsopt.errors import CheckpointError
from wsopt.weightspace import DenseStack, SpaceSettings, plan_policies

LAST = np.array([-1.0, 0.5, 1.5])


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def trained(count: int) -> list[dict[str, Tensor]]:
    """A net with BatchNorm at several steps: weights, running statistics and counters differ."""
    generator = torch.Generator().manual_seed(2)
    model = network()
    states = []
    for _ in range(count):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        model.train()(torch.randn(32, 1, 4, 4, generator=generator))
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    return states


def headers(state: Mapping[str, Tensor]) -> dict[str, TensorSpec]:
    return {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}


@pytest.mark.parametrize("batchnorm", ["combine", "copy", "recalculate"])
def test_a_net_with_batchnorm(batchnorm: Any) -> None:
    states = trained(3)
    settings = SpaceSettings(batchnorm=batchnorm)
    stack = DenseStack(set_of(states), settings)
    assert stack.policies == plan_policies(headers(states[0]), settings)
    assert stack.policies["1.num_batches_tracked"] == "batchnorm"
    kept = "combine" if batchnorm == "combine" else "batchnorm"
    assert stack.policies["1.running_mean"] == stack.policies["1.running_var"] == kept
    assert stack.policies["1.weight"] == "combine"
    model = network()
    stack.prepare(LAST[None, None])
    stack.write(0, model)
    result = model.state_dict()
    assert int(result["1.num_batches_tracked"]) == 3
    for name in ("1.running_mean", "1.running_var"):
        combination = sum(a * one[name].double() for a, one in zip(LAST, states, strict=True)).float()
        torch.testing.assert_close(result[name], combination if kept == "combine" else states[-1][name])
    assert model.eval()(torch.ones(1, 1, 4, 4)).isfinite().all()


def test_a_single_checkpoint_keeps_its_own_statistics() -> None:
    states = trained(3)
    result = merged(DenseStack(set_of(states), SpaceSettings(batchnorm="copy")), np.eye(3)[1])
    assert all(torch.equal(result[name], states[1][name]) for name in states[1])


def test_a_variance_below_zero_is_raised_to_zero_and_told() -> None:
    states = trained(3)
    states[1]["1.running_var"] = torch.tensor([0.1, 1.0, 8.0, 1.0])
    states[2]["1.running_var"] = torch.tensor([9.0, 1.0, 0.1, 1.0])
    states[0]["1.running_var"] = torch.ones(4)
    stack = DenseStack(set_of(states), SpaceSettings(width=3))
    up, down = np.array([-1.0, 3.0, -1.0]), np.array([1.0, -0.5, 0.5])
    stack.prepare(np.stack([up, down, np.eye(3)[1]])[:, None])
    assert stack.tensors(0)["1.running_var"].tolist() == pytest.approx([0.0, 1.0, 22.9, 1.0], abs=1e-5)
    assert [dict(stack.clamped(row)) for row in range(3)] == [{"1.running_var": 1}, {"1.running_var": 1}, {}]
    assert ["1.running_var (1)" in "".join(stack.notes(row)) for row in range(3)] == [True, True, False]
    model = network()
    stack.write(0, model)
    assert model.eval()(torch.ones(1, 1, 4, 4)).isfinite().all()
    stack.prepare(np.full((1, 1, 3), 1 / 3))
    assert not stack.clamped(0)
    assert not stack.notes(0)


def test_names_alone_make_no_normalisation_layer() -> None:
    lonely = {"running_var": torch.ones(3), "x.num_batches_tracked": torch.tensor(1), "x.running_mean": torch.ones(2)}
    found = plan_policies(headers(lonely), SpaceSettings(batchnorm="copy"))
    assert found == {"running_var": "combine", "x.num_batches_tracked": "not floating", "x.running_mean": "combine"}
    top = {"running_mean": torch.ones(3), "running_var": torch.ones(3), "num_batches_tracked": torch.tensor(1)}
    assert set(plan_policies(headers(top), SpaceSettings(batchnorm="copy")).values()) == {"batchnorm"}
    values = [{"running_var": torch.full((3,), value)} for value in (1.0, 5.0)]
    assert merged(DenseStack(set_of(values)), np.array([2.0, -1.0]))["running_var"].tolist() == [-3.0] * 3


@pytest.mark.parametrize(("copy_from", "value"), [("first", 1), ("last", 3)])
def test_differing_integers_come_from_the_checkpoint_that_is_named(copy_from: Any, value: int) -> None:
    states = [{"w": torch.full((2,), float(n)), "n": torch.tensor(n), "flag": torch.tensor(n > 1)} for n in (1, 2, 3)]
    stack = DenseStack(set_of(states), SpaceSettings(copy_from=copy_from))
    result = merged(stack, LAST)
    assert int(result["n"]) == value
    assert bool(result["flag"]) == (value > 1)
    assert stack.policies == {"w": "combine", "n": "not floating", "flag": "not floating"}


def test_differing_integers_without_a_choice_are_an_error_that_names_it() -> None:
    states = [{"w": torch.ones(2), "n": torch.tensor(n)} for n in (1, 1, 3)]
    with pytest.raises(CheckpointError, match=r'3\.memory: tensor n is .* weightspace\.copy_from = "first" or "last"'):
        DenseStack(set_of(states))


def test_what_differs_in_the_middle_only_is_not_constant() -> None:
    states = [{"w": torch.full((300,), float(n)), "odd": torch.zeros(2)} for n in (1, 2, 3, 4)]
    states[2]["odd"] = torch.tensor([1.0, 0.0])
    checkpoints = set_of(states)
    stack = DenseStack(checkpoints)
    assert stack.policies == {"w": "combine", "odd": "combine"}
    assert merged(stack, np.array([0.0, 1.0, 2.0, -2.0]))["odd"].tolist() == [2.0, 0.0]
    plain = DenseStack(set_of([{**one, "odd": one["odd"] + n} for n, one in enumerate(states)]))
    assert plain.fingerprint != stack.fingerprint


def test_each_checkpoint_is_read_once_and_the_last_twice() -> None:
    states = [{"w": torch.full((300,), float(n))} for n in (1, 2, 3, 4)]
    checkpoints = made_set(4, states.__getitem__)
    DenseStack(checkpoints)
    reader = checkpoints.snapshots[0].reader
    assert isinstance(reader, MemoryReader)
    assert sorted(reader.loads) == [1, 2, 3, 4, 4]


def test_constants_are_told_by_their_bits_and_take_no_room() -> None:
    states = [{"w": torch.full((300,), float(n)), "big": torch.linspace(0, 1, 100_000)} for n in (1, 2)]
    stack = DenseStack(set_of(states), SpaceSettings(width=1))
    assert stack.policies == {"w": "combine", "big": "constant"}
    assert sum(part.numel() for part in stack.differences) < 1000
    assert torch.equal(merged(stack, np.array([3.0, -9.0]))["big"], states[0]["big"])


def test_constants_are_no_views_of_what_was_read() -> None:
    states = [{"w": torch.full((3,), float(n)), "fixed": torch.ones(3)} for n in (1, 2)]
    stack = DenseStack(set_of(states))
    states[0]["fixed"].zero_()
    assert merged(stack, np.array([0.5, 0.5]))["fixed"].tolist() == [1.0] * 3
