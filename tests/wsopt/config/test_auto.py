"""``auto``: what it stands for, and that nothing behind the loader ever sees it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from wsopt.config import Config, load_config
from wsopt.config._auto import AUTO_COORDINATES, AUTO_OPTIMIZER, OTHER_AUTO_COORDINATES
from wsopt.errors import ConfigError
from wsopt.plugin_manager import load_plugins
from wsopt.registry import Component, Registry

Load = Callable[..., Config]
ROOT = Path(__file__).parents[3]


@pytest.fixture
def load(write: Callable[[str], Path], registry: Registry, minimal: str) -> Load:
    def load_minimal(more: str = "", *overrides: tuple[str, str]) -> Config:
        return load_config(write(minimal + more), overrides, lambda files: registry)[0]

    return load_minimal


def coordinates(config: Config) -> str:
    found: str = config.resolved()["parameterization"]["coordinates"]
    return found


@pytest.mark.parametrize(
    ("more", "overrides"),
    [
        ("", []),
        ("[optimizer]\n", []),
        ('[optimizer]\nname = "auto"\n', []),
        ('[optimizer]\nname = "lcsc"\niter = 5\n', [("optimizer.name", "auto")]),
    ],
)
def test_the_optimizer_is_resolved(load: Load, more: str, overrides: list[tuple[str, str]]) -> None:
    config = load(more, *overrides)
    name, keys = AUTO_OPTIMIZER
    named = "\n".join(
        [f'[optimizer]\nname = "{name}"', *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    )
    assert config.optimizer.name == name
    assert config.resolved()["optimizer"].items() >= keys.items()
    assert config.run_hash() == load(named + "\n").run_hash()
    assert '"auto"' not in config.model_dump_json(include={"optimizer", "parameterization"})


def test_what_auto_stands_for_is_registered(registry: Registry) -> None:
    name, keys = AUTO_OPTIMIZER
    params = registry.get("optimizer", name).params
    assert params is not None
    assert params.model_validate(keys).model_dump().items() >= keys.items()
    assert AUTO_COORDINATES.keys() <= {one.address for one in registry.all("optimizer")}


@pytest.mark.parametrize("optimizer", ["lcsc", "one-plus-one", "cmaes", "nevergrad", "coordinate", "random", "auto"])
@pytest.mark.parametrize("parameterization", ["difference", "layerwise", "lora"])
def test_coordinates_follow_the_optimizer(load: Load, optimizer: str, parameterization: str) -> None:
    settings = [("optimizer.name", optimizer), ("parameterization.name", parameterization)]
    own = {"lcsc": "difference", "one-plus-one": "whitened", "auto": "whitened"}
    expected = own.get(optimizer, "sqrt-whitened")
    assert coordinates(load("", *settings)) == expected
    assert coordinates(load("", *settings, ("parameterization.coordinates", "auto"))) == expected
    assert coordinates(load("", *settings, ("parameterization.coordinates", "pca"))) == "pca"


def test_direct_layers_stay_direct(load: Load) -> None:
    config = load('[parameterization]\nname = "layerwise"\ncoordinates = "direct"\nnormalize = true\n')
    assert coordinates(config) == "direct"


def test_an_optimizer_of_a_plugin_searches_where_all_others_do(load: Load, registry: Registry) -> None:
    registry.add(Component("optimizer", "mine", "mine:Mine", None, None, "mine", "mine-dist", "1"))
    assert coordinates(load("", ("optimizer.name", "mine"))) == OTHER_AUTO_COORDINATES


def test_the_paper_s_search_is_known_by_its_other_name(load: Load) -> None:
    assert coordinates(load("", ("optimizer.name", "builtin:lcsc"))) == "difference"


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("[optimizer]\niter = 3\n", ":14: optimizer.iter: optimizer 'auto' takes no keys; name the optimizer to set "
         "its, as in optimizer.name = 'lcsc'"),
        ("[optimizer]\nname = 'auto'\nscale = 3\n", ":15: optimizer.scale: optimizer 'auto' takes no keys; name the "
         "optimizer to set its, as in optimizer.name = 'random'"),
        ("[optimizer]\nzzz = 3\n", ":14: optimizer.zzz: optimizer 'auto' takes no keys; name the optimizer to set its"),
    ],
)  # fmt: skip
def test_auto_takes_no_keys(load: Load, more: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(more)
    assert str(caught.value).partition("c.toml")[2] == problem


def test_a_key_given_by_an_option_needs_the_name_too(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"--set optimizer\.iter=3: optimizer 'auto' takes no keys"):
        load("", ("optimizer.iter", "3"))
    assert load("", ("optimizer.iter", "3"), ("optimizer.name", "lcsc")).optimizer.name == "lcsc"


def test_the_paper_s_benchmark_is_the_paper_s() -> None:
    config, text = load_config(ROOT / "benchmarks" / "lcsc_cd.toml", (), lambda files: load_plugins(files).registry)
    written = tomllib.loads(text)
    resolved = config.resolved()
    assert resolved["optimizer"] == {"epochs": None, "keep_sum": False, **written["optimizer"]}
    assert resolved["optimizer"]["name"] == "lcsc"
    assert resolved["parameterization"] == {
        "name": "difference", "constraint": "none", "upper": 1.0, "lower": None, "coordinates": "difference",
    }  # fmt: skip
