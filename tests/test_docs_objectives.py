"""The examples of the pages on objectives and plugins do what the pages say, in whole runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pages import FILES
from toy_run import PLUGIN, write_checkpoints
from wsopt.cli import main


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_plugins_with_parameters_work_as_the_page_says(tmp_path: Path) -> None:
    for name in ("sharpness.py", "pooled.py"):
        (tmp_path / name).write_text(FILES[name].text)
    write_checkpoints(tmp_path / "checkpoints")
    (tmp_path / "c.toml").write_text(
        """
name = "both"
budget = 20
plugins = ["sharpness.py", "pooled.py"]
[family]
name = "analytic"
[checkpoints]
path = "checkpoints"
[features.coarse]
name = "pooled"
size = 4
[objective]
name = "sharpness"
power = 2.0
[optimizer]
name = "lcsc"
iter = 4
m_cp = 2
[baselines]
singles = 3
[search]
samples = 60
race = [20]
race_margin = 1.0
[report]
samples = 120
[[report.metrics]]
name = "fid"
features = "coarse"
reference = "train"
[[report.metrics]]
name = "fid"
features = "pooled"
reference = "train"
"""
    )
    argv = ["run", str(tmp_path / "c.toml"), "--plugin", str(PLUGIN), "--set", f"output={tmp_path / 'runs'}"]
    assert main(argv) == 0
    (journal,) = (tmp_path / "runs").glob("*/journal.jsonl")
    rows = [row for row in read(journal.parent / "results.json")["scores"] if row["split"] == "report"]
    assert {(row["metric"], row["features"]) for row in rows} == {
        ("sharpness", None),
        ("fid", "coarse"),
        ("fid", "pooled"),
    }
    assert all(row["stderr"] > 0 for row in rows if row["metric"] == "sharpness")
    assert any(row["difference_stderr"] for row in rows if row["metric"] == "sharpness")


@pytest.mark.parametrize("name", ["weighted.toml", "conventions.toml", "torchmetrics_fid.toml"])
def test_configs_of_the_page_on_objectives_run(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name].text)
    write_checkpoints(tmp_path / "checkpoints")
    changes = {
        "family.name": "analytic",
        "checkpoints.path": str(tmp_path / "checkpoints"),
        "output": str(tmp_path / "runs"),
        "baselines.singles": "2",
        "search.samples": "80",
        "report.samples": "80",
        "report.figure_pairs": "0",
    }
    argv = ["run", str(tmp_path / name), "--plugin", str(PLUGIN), "--budget", "20"]
    assert main(argv + [text for key, value in changes.items() for text in ("--set", f"{key}={value}")]) == 0
    (journal,) = (tmp_path / "runs").glob("*/journal.jsonl")
    scores = read(journal.parent / "results.json")["scores"]
    (best,) = [row for row in scores if row["name"] == "best" and row["split"] == "search"]
    report = {row["metric"]: row["value"] for row in scores if row["name"] == "best" and row["split"] == "report"}
    assert best["value"] is not None
    if name == "weighted.toml":
        assert report["weighted"] == pytest.approx(report["fid"] - 2.0 * report["recall"], rel=1e-9)
    if name == "torchmetrics_fid.toml":
        assert report["torchmetrics' FID"] == pytest.approx(report["fid"], rel=1e-6)
