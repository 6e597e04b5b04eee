"""A registry with the built-ins and a family that trains, and a writer of config files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from wsopt.plugin_manager import load_plugins
from wsopt.registry import Component, Registry

MINIMAL = """\
name = "tiny"
budget = 40

[family]
name = "toy"

[checkpoints]
path = "weights"

[objective]
features = "digits"
reference = "train"
"""


class ToyNetwork(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    channels: int = 4
    depth: int = Field(default=1, description="blocks")


class ToyParams(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    width: int = Field(default=8, ge=1, description="channels")
    blocks: tuple[int, ...] = (1, 2)
    network: ToyNetwork = ToyNetwork()


class ToyRecipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    seed: int = 0
    iterations: int = Field(description="number of training steps")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("WSOPT_PLUGINS", "")
    registry = load_plugins().registry
    registry.blocked.clear()
    registry.add(Component("family", "toy", "toy:Toy", ToyParams, ToyRecipe, "toys", "toys-dist", "1.0"))
    registry.add(Component("family", "fixed", "toy:Fixed", None, None, "toys", "toys-dist", "1.0"))
    return registry


@pytest.fixture
def minimal() -> str:
    return MINIMAL


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_config(text: str) -> Path:
        path = tmp_path / "c.toml"
        path.write_text(text)
        return path

    return write_config
