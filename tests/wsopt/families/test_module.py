from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from wsopt.config.params import ModuleParams
from wsopt.errors import CheckpointError, InputError
from wsopt.families import ModuleFamily
from wsopt.seeding import SampleNoise

NETWORKS = """
import torch

def network(width=3):
    return torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(width))

def nothing():
    return {"weight": 1}
"""


@pytest.fixture
def networks(tmp_path: Path) -> Path:
    path = tmp_path / "networks.py"
    path.write_text(NETWORKS)
    return path


def family(path: Path, name: str, **arguments: Any) -> ModuleFamily:
    return ModuleFamily(ModuleParams.model_validate({"build": f"{path}:{name}", "arguments": arguments}))


def test_the_network_is_built_without_moving_global_random_state(networks: Path) -> None:
    made = family(networks, "network", width=5)
    before = torch.get_rng_state()
    one, other = made.build(), made.build()
    assert torch.equal(before, torch.get_rng_state())
    assert not one.training
    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())
    assert one.state_dict()["0.weight"].shape == (5, 2)


def test_weights_are_loaded_strictly(networks: Path) -> None:
    made = family(networks, "network")
    model = made.build()
    weights = {name: torch.ones_like(tensor) for name, tensor in model.state_dict().items()}
    made.load(model, weights)
    assert model.state_dict()["0.bias"].tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(CheckpointError, match=r"do not fit the module network.*0.weight is \[3, 2\]"):
        made.load(family(networks, "network", width=4).build(), weights)


def test_it_generates_nothing(networks: Path) -> None:
    made = family(networks, "network")
    assert made.nfe == 0
    message = 'only goes with objectives on weights: set objective.name = "callable" with objective.on = "weights"'
    with pytest.raises(InputError, match=message):
        made.sample(made.build(), range(4), SampleNoise(0, "search"), 2)
    with pytest.raises(InputError, match=message):
        _ = made.image_shape


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("nothing", {}, "returned a dict, and family.build must return a torch.nn.Module"),
        ("network", {"depth": 3}, "cannot be called with depth=3"),
        ("missing", {}, "has no function 'missing'"),
    ],
)
def test_what_builds_no_network(networks: Path, name: str, arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        family(networks, name, **arguments).build()
