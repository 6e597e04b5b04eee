"""What bad input gets: one message, its exit code, no traceback, nothing overwritten (DESIGN: what bad input gets)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from toy_run import PLUGIN, write_checkpoints, write_toml
from wsopt.cli import main


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    write_checkpoints(tmp_path / "checkpoints")
    write_toml(tmp_path)
    return tmp_path


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(toy: Path) -> None:
        path = toy / "toy.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def checkpoint(toy: Path) -> Path:
    return toy / "checkpoints" / "step-000030.safetensors"


def truncate(toy: Path) -> None:
    checkpoint(toy).write_bytes(checkpoint(toy).read_bytes()[:-100])


def reshape(toy: Path) -> None:
    tensors = load_file(checkpoint(toy))
    save_file(tensors | {"mean": tensors["mean"][:, :4].contiguous()}, checkpoint(toy), metadata={"step": "30"})


def poison(toy: Path) -> None:
    tensors = load_file(checkpoint(toy))
    tensors["spread"][0, 1, 2] = torch.nan
    save_file(tensors, checkpoint(toy), metadata={"step": "30"})


def break_plugin(toy: Path) -> None:
    (toy / "broken.py").write_text("import a_package_that_is_not_there\n")
    edit("budget = 30", 'budget = 30\nplugins = ["broken.py"]')(toy)
    edit('name = "fid"', 'name = "brightness"')(toy)


CASES: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "misspelt key": (
        edit("mutation_scale", "mutaton_scale"),
        2,
        "unknown key for optimizer 'lcsc'; did you mean 'mutation_scale'?",
    ),
    "wrong type": (edit("samples = 120", 'samples = "many"'), 2, "search.samples: must be a whole number"),
    "missing folder": (edit('path = "checkpoints"', 'path = "checkpints"'), 2, "is not a folder. Set checkpoints.path"),
    "truncated checkpoint": (truncate, 2, "step-000030.safetensors is torn: its header announces"),
    "another shape": (reshape, 2, "tensor mean is [1, 4, 8] float32 and [1, 8, 8] float32 in the other"),
    "a NaN": (poison, 2, "step-000030.safetensors: tensor spread has 1 of 64 values that are NaN or infinite"),
    "unknown objective": (edit('name = "fid"', 'name = "fidd"'), 2, "fidd"),
    "broken plugin": (break_plugin, 3, "a_package_that_is_not_there"),
}


@pytest.mark.parametrize("name", CASES)
def test_message_and_exit_code(toy: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, code, message = CASES[name]
    change(toy)
    before = {path: path.read_bytes() for path in (toy / "checkpoints").iterdir()}
    assert main(["run", str(toy / "toy.toml"), "--plugin", str(PLUGIN)]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert {path: path.read_bytes() for path in (toy / "checkpoints").iterdir()} == before


def test_a_missing_config_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "absent.toml")]) == 2
    assert "absent.toml does not exist" in capsys.readouterr().err


def test_nothing_to_run_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 2
    assert "give a config: wsopt run FILE" in capsys.readouterr().err


def test_resume_without_a_file_continues_from_the_folder_alone(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = ["--plugin", str(PLUGIN)]
    assert main(["run", str(toy / "toy.toml"), *plugin, "--set", "report.figure_pairs=0"]) == 0
    (folder,) = [path.parent for path in (toy / "runs").glob("*/journal.jsonl")]
    (toy / "toy.toml").unlink()
    assert main(["run", "--resume", str(folder), *plugin, "--budget", "35"]) == 0
    assert "35 of 35 evaluations" in " ".join(capsys.readouterr().out.split())
    assert main(["run", "--resume", str(toy), *plugin]) == 4
    assert "is no run folder" in capsys.readouterr().err
