"""`wsopt merge` as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from toy_run import PLUGIN, run, write_checkpoints, write_toml
from wsopt.cli import main
from wsopt.families import TrainedSet
from wsopt.merge import StreamingMerger, TensorFile

RATES = ("0.9", "0.99")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(2)
    path = tmp_path / "checkpoints"
    path.mkdir()
    for step in (100, 200, 300, 400):
        for name in ("model", *(f"ema_{rate}" for rate in RATES)):
            save_file({"w": torch.randn(50, generator=generator)}, path / f"{name}_{step:06d}.safetensors")
    return path


Captured = pytest.CaptureFixture[str]


def fails(argv: list[str], capsys: Captured, code: int = 2) -> str:
    """The message of a command that has to fail with nothing on stdout and no traceback."""
    assert main(argv) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_a_merge(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "x.safetensors"
    argv = ["merge", str(folder), "--profile", "uniform", "--out", str(out), "--verify", "--print-coefficients"]
    assert main(argv) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == "merged        4 checkpoints of steps 100 to 400 by uniform"
    assert "sum 1, largest 0.25 at step 100" in lines[1]
    assert any(line.startswith("verified      1 tensor; largest relative error") for line in lines)
    assert lines[-4:] == [f" {step}         0.25" for step in (100, 200, 300, 400)]
    assert "merge: 4/4" in captured.err
    files = [load_file(folder / f"model_{step:06d}.safetensors")["w"].double() for step in (100, 200, 300, 400)]
    assert torch.equal(load_file(out)["w"], (sum(files) / 4).float())  # type: ignore[union-attr]


def test_help_needs_no_torch() -> None:
    script = "import sys\nfrom wsopt.cli import main\nmain(['merge', '--help'])\nassert 'numpy' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "ema-from-first:RATE" in done.stdout


def test_json_can_be_merged_again(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    chosen = ["--window", "150", "400", "--exclude", "*300*"]
    assert main(["merge", str(folder), "--profile", "ema:0.99", "--out", str(one), "--json", *chosen]) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["steps"] == [200, 400]
    assert json.loads(text)["read"] == [200, 400]
    (tmp_path / "c.json").write_text(text)
    argv = ["merge", str(folder), "--coefficients", str(tmp_path / "c.json"), "--out", str(two), *chosen]
    assert main(argv) == 0
    assert torch.equal(load_file(one)["w"], load_file(two)["w"])


def test_a_dry_run_writes_nothing(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    argv = ["merge", str(folder), "--profile", "single:200", "--dry-run"]
    assert main([*argv, "--out", str(tmp_path / "new" / "x.safetensors")]) == 0
    assert "would write" in capsys.readouterr().out
    assert main([*argv, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["read"] == [200]
    assert planned["out"] is None
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints"}


def test_streams(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "x.safetensors"
    assert main(["merge", str(folder), "--profile", "last", "--kind", "ema", "--rate", "0.9", "--out", str(out)]) == 0
    assert torch.equal(load_file(out)["w"], load_file(folder / "ema_0.9_000400.safetensors")["w"])
    capsys.readouterr()
    assert main(["merge", str(folder), "--profile", "ema:0.95", "--from-emas", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["streams"] == ["ema 0.9", "ema 0.99", "raw"]
    assert found["names"][0] == "100 ema 0.9"
    assert 0 < found["profile_error"] < 1
    err = fails(["merge", str(folder), "--profile", "last", "--kind", "ema", "--dry-run"], capsys)
    assert "checkpoints.KEY is --KEY" in err


def test_torn_files(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    torn = folder / "model_000300.safetensors"
    torn.write_bytes(torn.read_bytes()[:-20])
    argv = ["merge", str(folder), "--profile", "uniform", "--out", str(tmp_path / "x.safetensors")]
    assert "model_000300.safetensors is torn" in fails(argv, capsys)
    assert main([*argv, "--unreadable", "skip"]) == 0
    assert "warning       passed over:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--profile", "uniform"], "give the file to write"),
        (["--profile", "mean", "--dry-run"], "no such profile"),
        (["--profile", "uniform", "--dry-run", "--window", "300", "100"], "--window: must be [first, last]"),
        (["--profile", "uniform", "--dry-run", "--interval", "0"], "--interval: "),
        (["--profile", "uniform", "--dry-run", "--rate", "1.5"], "--rate: "),
        (["--profile", "uniform", "--dry-run", "--steps", "100", "150"], "150"),
        (["--profile", "uniform", "--dry-run", "--rank", "0"], "--rank 0"),
        (["--profile", "uniform", "--dry-run", "--style", "kohya"], "are for LoRA checkpoints"),
        (["--profile", "uniform", "--dry-run", "--from-emas"], "--from-emas makes ema:RATE"),
        (["--profile", "uniform", "--dry-run", "--which", "best"], "--which chooses among"),
        (["--coefficients", "absent.json", "--dry-run"], "absent.json cannot be read"),
        (["--coefficients", "absent.json", "--dry-run", "--from-emas"], "--from-emas makes a profile"),
        (["--profile", "uniform", "--coefficients", "c.json", "--dry-run"], "not allowed with"),
        (["--dry-run"], "one of the arguments --profile --coefficients is required"),
    ],
)
def test_mistakes(folder: Path, capsys: Captured, argv: list[str], message: str) -> None:
    assert message in fails(["merge", str(folder), *argv], capsys)


def test_sources_that_are_none(folder: Path, tmp_path: Path, capsys: Captured) -> None:
    tail = ["--profile", "last", "--dry-run"]
    assert "does not exist" in fails(["merge", str(tmp_path / "absent"), *tail], capsys)
    assert "is a single file" in fails(["merge", str(folder / "model_000100.safetensors"), *tail], capsys)
    assert "give the folder of the checkpoints" in fails(["merge", *tail], capsys)
    assert "not a run folder" in fails(["merge", str(folder), "--coefficients", str(folder), "--dry-run"], capsys)
    (tmp_path / "c.json").write_text("[1]")
    err = fails(["merge", "--coefficients", str(tmp_path / "c.json"), "--dry-run"], capsys)
    assert "SOURCE cannot be left out" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_merge_leaves_nothing(
    folder: Path,
    tmp_path: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    number: signal.Signals,
) -> None:
    take = StreamingMerger._take

    def interrupted(self: StreamingMerger, index: int, last: bool) -> None:
        take(self, index, last)
        if index == 2:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(StreamingMerger, "_take", interrupted)
    out = tmp_path / "new" / "x.safetensors"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    former = signal.getsignal(signal.SIGTERM)
    # A shell starts what it puts into the background with SIGINT ignored.
    before_sigint = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before_sigint))
    err = fails(["merge", str(folder), "--profile", "uniform", "--out", str(out)], capsys, 130)
    assert f"interrupted: {out} was not written" in err
    assert list(out.parent.iterdir()) == []
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert signal.getsignal(signal.SIGTERM) is former


def test_a_disk_that_fills_up(folder: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: TensorFile, data: bytes) -> None:
        self._fail(OSError(28, "No space left on device"))

    monkeypatch.setattr(TensorFile, "_write", full)
    out = tmp_path / "x.safetensors"
    err = fails(["merge", str(folder), "--profile", "uniform", "--out", str(out)], capsys, 1)
    assert "could not be written: No space left on device. Nothing was left behind" in err
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    write_checkpoints(folder / "checkpoints")
    write_toml(folder)
    run(folder)
    return folder


def test_coefficients_of_a_run(toy: Path, tmp_path: Path, capsys: Captured) -> None:
    (folder,) = (path.parent for path in (toy / "runs").glob("*/journal.jsonl"))
    out = tmp_path / "x.safetensors"
    plugin = ["--plugin", str(PLUGIN)]
    argv = ["merge", "--coefficients", str(folder), "--out", str(out), "--verify", *plugin]
    assert main(argv) == 0
    best = load_file(folder / "merged.safetensors")
    for name, tensor in load_file(out).items():
        assert torch.allclose(tensor, best[name], rtol=1e-5, atol=1e-6), name
    results = json.loads((folder / "results.json").read_text())
    capsys.readouterr()
    for source in ([], [str(toy / "toy.toml")], [str(toy / "checkpoints")], [str(folder)]):
        argv = ["merge", *source, "--coefficients", str(folder), "--dry-run", "--json", *plugin]
        assert main([*argv, "--which", "recommended"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert np.array_equal(found["coefficients"], results["coefficients"]["recommended"])
        assert (found["run"], found["which"]) == ("toy", "recommended")
    argv = ["merge", "--coefficients", str(folder / "results.json"), "--which", "worst", "--dry-run", *plugin]
    assert "no coefficients called 'worst'" in fails(argv, capsys)


def test_coefficients_of_a_run_with_layer_groups(tmp_path: Path, capsys: Captured) -> None:
    """One group is of a tensor that is equal in all checkpoints: the run has no coefficients of it."""
    write_checkpoints(tmp_path / "checkpoints")
    write_toml(tmp_path)
    done = run(tmp_path, ("parameterization.name", "layerwise"), ("parameterization.grouping", "tensor"))
    out, argv = tmp_path / "x.safetensors", ["merge", "--coefficients", str(done.path), "--plugin", str(PLUGIN)]
    assert main([*argv, "--out", str(out), "--verify"]) == 0
    text = capsys.readouterr().out
    assert "by best of the run toy" in text
    assert "2 combined, 1 constant, 1 not floating" in text
    best = load_file(done.path / "merged.safetensors")
    for name, tensor in load_file(out).items():
        assert torch.allclose(tensor, best[name], rtol=1e-5, atol=1e-6), name
    other = tmp_path / "checkpoints" / "step-000040.safetensors"
    save_file({**load_file(other), "constant": torch.ones(3)}, other, metadata={"step": "40"})
    err = fails([*argv, "--which", "recommended", "--out", str(out), "--force"], capsys)
    assert "tensor constant" in err
    assert "has no coefficients of its layer group (known: mean, spread)" in err


def test_a_config_gives_checkpoints_and_selection(toy: Path, tmp_path: Path, capsys: Captured) -> None:
    text = (toy / "toy.toml").read_text().replace('path = "checkpoints"', 'path = "checkpoints"\nwindow = [30, 80]')
    (toy / "window.toml").write_text(text)
    argv = ["merge", str(toy / "window.toml"), "--profile", "uniform", "--dry-run", "--json", "--plugin", str(PLUGIN)]
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == [30, 40, 50, 60, 70, 80]
    assert main([*argv, "--window", "50", "80"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == [50, 60, 70, 80]
    recalculate = text + '\n[weightspace]\nbatchnorm = "recalculate"\n'
    (toy / "window.toml").write_text(recalculate)
    assert "--batchnorm combine or copy" in fails(argv, capsys)


def test_a_config_that_trains(toy: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (toy / "toy.toml").read_text().replace('path = "checkpoints"', "")
    text = text.replace('name = "analytic"', 'name = "cd"') + "\n[train]\n"
    (toy / "train.toml").write_text(text)
    argv = ["merge", str(toy / "train.toml"), "--profile", "uniform", "--dry-run", "--json"]
    monkeypatch.setattr("wsopt.run.trained_set", lambda config, registry: None, raising=False)
    assert "are still to be trained" in fails(argv, capsys)
    found = TrainedSet(toy / "checkpoints", {}, {})
    monkeypatch.setattr("wsopt.run.trained_set", lambda config, registry: found, raising=False)
    assert main(argv) == 0
    assert len(json.loads(capsys.readouterr().out)["steps"]) == 8
