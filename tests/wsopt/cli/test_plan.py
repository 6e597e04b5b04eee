"""`wsopt run --dry-run` as a user meets it, on the analytic family."""

from __future__ import annotations

from pathlib import Path

import pytest

from toy_run import PLUGIN, TOML, write_checkpoints
from wsopt.cli import main


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WSOPT_PLUGINS", "cd")
    write_checkpoints(tmp_path / "checkpoints")
    path = tmp_path / "base.toml"
    path.write_text(f'plugins = ["{PLUGIN}"]\n{TOML.format(seed=0, budget=14, output=tmp_path / "runs")}')
    return path


def test_the_optimizer_is_named_as_it_is_taken(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(base), "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert "\noptimizer     lcsc, in difference coordinates: iter 5, m_cp 4, " in captured.out
    assert captured.err == ""


def test_what_an_override_leaves_out_is_told(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(base), "--dry-run", "--set", "optimizer.name=random", "--budget", "20"]) == 0
    captured = capsys.readouterr()
    assert "\noptimizer     random, in sqrt-whitened coordinates: scale 0.01\n" in captured.out
    assert captured.err.splitlines() == [
        "set     optimizer.name=random (leaves out iter, m_cp, mutation_scale of lcsc)",
        "set     budget=20",
    ]
