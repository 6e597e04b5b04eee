"""Overrides that name another component: the file's keys of the former one are left out, and the user is told."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from wsopt.config import Config, LeftOut, load_config
from wsopt.config._source import Source
from wsopt.errors import ConfigError, InputError
from wsopt.registry import Component, Registry

MORE = """
[optimizer]
name = "lcsc"
iter = 5
m_cp = 4

[parameterization]
constraint = "clip"
lower = -1
"""
Load = Callable[..., tuple[Config, list[str]]]


@pytest.fixture
def load(write: Callable[[str], Path], registry: Registry, minimal: str) -> Load:
    def load_minimal(*overrides: tuple[str, str], more: str = MORE, text: str = minimal) -> tuple[Config, list[str]]:
        told: list[LeftOut] = []
        path = write(text + more)
        config, _ = load_config(path, overrides, lambda files: registry, left_out=told.append)
        return config, [f"{one.override} {one}" for one in told]

    return load_minimal


def test_the_former_component_s_keys_are_left_out(load: Load) -> None:
    config, told = load(("optimizer.name", "random"))
    assert config.resolved()["optimizer"] == {"name": "random", "scale": 0.01}
    assert told == ["optimizer.name leaves out iter, m_cp of lcsc"]


def test_a_component_that_the_file_does_not_name_has_keys_too(load: Load) -> None:
    config, told = load(("parameterization.name", "direct"))
    assert config.resolved()["parameterization"] == {
        "name": "direct", "constraint": "none", "upper": 1.0, "lower": None, "normalize": False,
    }  # fmt: skip
    assert told == ["parameterization.name leaves out constraint, lower of difference"]


@pytest.mark.parametrize("name", ["lcsc", "builtin:lcsc"])
def test_the_same_component_keeps_its_keys(load: Load, name: str) -> None:
    config, told = load(("optimizer.name", name))
    assert config.resolved()["optimizer"]["iter"] == 5
    assert told == []


def test_keys_of_other_overrides_stay_whatever_their_order(load: Load) -> None:
    overrides = [
        ("optimizer.name", "cmaes"),
        ("optimizer.popsize", "8"),
        ("parameterization.name", "layerwise"),
        ("parameterization.constraint", "convex"),
    ]
    expected, told = load(*overrides)
    assert expected.resolved()["optimizer"]["popsize"] == 8
    assert expected.resolved()["parameterization"]["constraint"] == "convex"
    assert expected.resolved()["parameterization"]["lower"] is None
    for order in itertools.permutations(overrides):
        config, again = load(*order)
        assert config.resolved() == expected.resolved()
        assert again == told


def test_the_section_s_own_keys_stay(load: Load, registry: Registry) -> None:
    registry.add(Component("objective", "mine", "mine:Mine", None, None, "mine", "mine-dist", "1"))
    config, told = load(("objective.name", "mine"), ("objective.quantize", "trunc"), more="blocks = 4\n")
    assert config.resolved()["objective"] == {
        "name": "mine", "label": None, "features": "digits", "reference": "train", "preset": None, "quantize": "trunc",
        "parts": [],
    }  # fmt: skip
    assert told == ["objective.name leaves out blocks of fid"]


FAMILY = """
[family.network]
channels = 3

[train]
iterations = 7
"""


def test_the_training_recipe_goes_with_its_family(load: Load, registry: Registry) -> None:
    toy = registry.get("family", "toy")
    registry.add(Component("family", "twin", "toy:Twin", toy.params, toy.recipe, "toys", "toys-dist", "1.0"))
    kept, told = load(("family.network.depth", "2"), more=FAMILY)
    assert told == []
    assert kept.resolved()["family"]["network"] == {"channels": 3, "depth": 2}
    for order in itertools.permutations(
        [("family.network.depth", "2"), ("family.name", "twin"), ("train.iterations", "9"), ("train.seed", "3")]
    ):
        config, told = load(*order, more=FAMILY)
        assert config.resolved()["family"]["network"] == {"channels": 4, "depth": 2}
        assert config.resolved()["train"] == {"seed": 3, "iterations": 9}
        assert told == ["family.name leaves out network, [train] of toy"]
    config, told = load(("family.name", "fixed"), more=FAMILY)
    assert config.train is None
    assert told == ["family.name leaves out network, [train] of toy"]


def test_a_recipe_that_was_left_out_and_is_missed_is_explained(load: Load, minimal: str) -> None:
    text = minimal.replace('[checkpoints]\npath = "weights"\n', "")
    with pytest.raises(ConfigError, match=r"checkpoints\.path: missing: .*\(the file's is for toy; --set 'train=\{\}'"):
        load(("family.name", "fixed"), more=FAMILY, text=text)


def test_mistakes_in_what_is_left_out_do_not_matter_and_others_are_told_once(load: Load) -> None:
    config, _ = load(("optimizer.name", "random"), more=MORE.replace("iter = 5", "iteer = 5"))
    assert config.optimizer.name == "random"
    with pytest.raises(ConfigError) as caught:
        load(("optimizer.name", "random"), ("a..b", "1"), ("optimizer.iter", "3"))
    lines = str(caught.value).splitlines()
    assert [line for line in lines if "a..b" in line] == ["--set a..b=1: is not of the form section.key=value"]
    assert lines[-1].startswith("--set optimizer.iter=3: unknown key for optimizer 'random'")
    assert len(lines) == 2


def test_a_section_that_is_replaced_as_a_whole_leaves_nothing_to_tell(load: Load) -> None:
    config, told = load(("optimizer", '{ name = "random", scale = 2 }'))
    assert config.resolved()["optimizer"] == {"name": "random", "scale": 2.0}
    assert told == []


@pytest.mark.parametrize("name", ["3", "nobody"])
def test_a_name_that_is_none_is_the_only_problem(load: Load, name: str) -> None:
    with pytest.raises(InputError) as caught:
        load(("optimizer.name", name))
    assert len(str(caught.value).splitlines()) == 1


def test_the_file_s_text_is_what_was_written(write: Callable[[str], Path], minimal: str) -> None:
    source = Source.read(write(minimal + MORE), [("optimizer.name", "random")])
    source.leave_out("optimizer", ["iter"])
    assert source.text == minimal + MORE
    assert source.values["optimizer"] == {"name": "random", "m_cp": 4}
    assert source.written("optimizer") == {"name": "lcsc", "m_cp": 4}
