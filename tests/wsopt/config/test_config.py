"""The resolved config: plain values, hash, differences."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from wsopt.config import Config, difference, load_config
from wsopt.registry import Registry

Write = Callable[[str], Path]


@pytest.fixture
def load(write: Write, registry: Registry, minimal: str) -> Callable[..., Config]:
    def load_minimal(*overrides: tuple[str, str], more: str = "", plugins: tuple[Path, ...] = ()) -> Config:
        return load_config(write(minimal + more), overrides, lambda files: registry, plugins)[0]

    return load_minimal


def test_resolved_is_plain_complete_and_in_order(load: Callable[..., Config], tmp_path: Path) -> None:
    resolved = load(more="[train]\niterations = 3\n").resolved()
    assert json.loads(json.dumps(resolved)) == resolved
    assert list(resolved) == [
        "name",
        "seed",
        "budget",
        "output",
        "plugins",
        "functions",
        "threads",
        "device",
        "data",
        "family",
        "train",
        "checkpoints",
        "weightspace",
        "parameterization",
        "optimizer",
        "features",
        "objective",
        "baselines",
        "search",
        "validation",
        "report",
    ]
    assert resolved["family"] == {
        "name": "toy",
        "width": 8,
        "blocks": [1, 2],
        "network": {"channels": 4, "depth": 1},
    }
    assert resolved["train"] == {"seed": 0, "iterations": 3}
    assert resolved["checkpoints"] == {
        "path": str(tmp_path / "weights"),
        "ema_path": None,
        "window": None,
        "interval": None,
        "steps": None,
        "include": [],
        "exclude": [],
        "kind": None,
        "rate": None,
        "width": None,
        "part": None,
        "unreadable": "error",
    }
    assert resolved["objective"] == {
        "name": "fid",
        "label": None,
        "features": "digits",
        "reference": "train",
        "preset": None,
        "quantize": "round",
        "parts": [],
        "precision": "float64",
    }
    assert resolved["report"]["features"] == ["digits"]


def test_the_hash_tells_runs_apart_but_not_budgets(load: Callable[..., Config]) -> None:
    lcsc = '[optimizer]\nname = "lcsc"\n'
    base = load(more=lcsc).run_hash()
    assert len(base) == 10
    assert set(base) <= set("0123456789abcdef")
    assert load(more=lcsc).run_hash() == base
    for same in [("budget", "50"), ("output", "elsewhere"), ("optimizer.iter", "20")]:
        assert load(same, more=lcsc).run_hash() == base
    for other in [("seed", "1"), ("threads", "2"), ("optimizer.iter", "21"), ("report.samples", "6000")]:
        assert load(other, more=lcsc).run_hash() != base


def test_the_hash_knows_plugin_files_by_content(load: Callable[..., Config], tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("a = 1\n")
    two.write_text("a = 1\n")
    first = load(plugins=(one,)).run_hash()
    assert first != load().run_hash()
    assert load(plugins=(two,)).run_hash() == first
    two.write_text("a = 2\n")
    assert load(plugins=(two,)).run_hash() != first


def test_difference_names_dotted_keys() -> None:
    old = {"seed": 0, "same": 1, "search": {"samples": 5, "starts": ["ema-*"]}, "train": None}
    new = {"seed": 0, "same": 1, "search": {"samples": 6, "starts": ["last"]}, "train": {"seed": 1}, "device": "cpu"}
    assert difference(old, new) == [
        'device: (absent) -> "cpu"',
        "search.samples: 5 -> 6",
        'search.starts: ["ema-*"] -> ["last"]',
        "train: null -> (absent)",
        "train.seed: (absent) -> 1",
    ]
    assert difference(old, old) == []
