"""Every shipped benchmark is a valid config whose parts fit one another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wsopt.config import load_config
from wsopt.families import ModelFamily
from wsopt.plugin_manager import load_plugins

FOLDER = Path(__file__).parents[3] / "benchmarks"
BENCHMARKS = sorted(FOLDER.glob("lcsc_*.toml"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_benchmark_is_valid_and_its_parts_fit(path: Path, tmp_path: Path) -> None:
    config, text = load_config(path, [("output", str(tmp_path))])
    registry = load_plugins().registry
    family: ModelFamily = registry.make("family", config.family)
    images = registry.make("dataset", config.data).images("validation")
    assert images.shape[1:] == family.image_shape
    assert config.train is not None
    assert len(family.planned_steps(config.train)) == int(re.findall(r"# (\d+) checkpoints", text)[0])
    for stated in re.findall(r"# ([\d,]+) weights", text):
        assert sum(one.numel() for one in family.build().parameters()) == int(stated.replace(",", ""))
    assert {config.objective.features, *config.report.features} == {config.data.name, f"{config.data.name}-mlp"}
