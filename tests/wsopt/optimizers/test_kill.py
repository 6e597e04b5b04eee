"""Every optimizer, killed in its search by a real SIGKILL and resumed: the same journal, the same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import toy_run
from toy_run import run, write_checkpoints, write_toml

BUDGET = 41
SETTINGS: dict[str, dict[str, str]] = {
    "lcsc": {"name": "lcsc", "iter": "7"},
    "one-plus-one": {"name": "one-plus-one"},
    "one-plus-one-slope": {"name": "one-plus-one", "slope": "true"},
    "coordinate": {"name": "coordinate"},
    "cmaes": {"name": "cmaes", "popsize": "7"},
    "cmaes-vkd-lq": {"name": "cmaes", "covariance": "vkd", "surrogate": "lq"},
    "nevergrad": {"name": "nevergrad", "optimizer": "CMA"},
    "random": {"name": "random"},
}
SLOW_RUN = """
import json, sys, time
from pathlib import Path
import wsopt.run._execute
from toy_run import run
from wsopt.progress import SilentProgress

class Slow(SilentProgress):
    def should_stop(self):
        time.sleep(0.05)
        return False

wsopt.run._execute.write_figures = lambda folder: []
folder, overrides = json.loads(sys.argv[1])
run(Path(folder), *map(tuple, overrides), progress=Slow())
"""
"""A run that takes long enough to be killed in its search."""


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the figures, which take longer than the rest of a run."""
    monkeypatch.setattr("wsopt.run._execute.write_figures", lambda folder: [])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Checkpoints and a config without the keys of one optimizer."""
    write_checkpoints(tmp_path / "checkpoints")
    lines = write_toml(tmp_path, budget=BUDGET).read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("iter", "m_cp", "mutation_scale"))]
    (tmp_path / "toy.toml").write_text("\n".join(kept))
    return tmp_path


def overrides(name: str, output: Path) -> list[tuple[str, str]]:
    return [("output", str(output)), *((f"optimizer.{key}", value) for key, value in SETTINGS[name].items())]


def told(journal: Path) -> int:
    return journal.read_text(encoding="utf-8").count('"event":"told"') if journal.exists() else 0


def killed(folder: Path, keys: list[tuple[str, str]], journal: Path, after: int) -> None:
    """Run in another process, and kill it as soon as the journal has `after` results."""
    paths = [str(Path(toy_run.__file__).parent), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN, json.dumps([str(folder), keys])],
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    deadline = time.monotonic() + 600
    while told(journal) < after and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, stderr.decode()


@pytest.mark.slow
@pytest.mark.timeout(900)  # three runs and a start of torch: minutes on a machine with other work
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", SETTINGS)
def test_a_killed_run_is_continued_to_the_same_end(name: str, folder: Path) -> None:
    whole = run(folder, *overrides(name, folder / "whole"))
    assert whole.journal.read_text().count('"event":"baseline"') + told(whole.journal) == BUDGET
    keys = overrides(name, folder / "cut")
    journal = folder / "cut" / whole.path.name / "journal.jsonl"
    killed(folder, keys, journal, after=9)
    assert 9 <= told(journal) < told(whole.journal)
    again = run(folder, *keys)
    assert again.journal == journal
    assert journal.read_bytes() == whole.journal.read_bytes()
    merged = "merged.safetensors"
    assert (again.path / merged).read_bytes() == (whole.path / merged).read_bytes()
