"""`wsopt inspect`: the command."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from wsopt.checkpoints import SafetensorsReader, inspect, look_deep
from wsopt.cli import main
from wsopt.cli._inspect_view import count, view

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    for step in (1000, 2000, 3000, 5000):
        weights = {"module.w": torch.full((20, 50), step / 1000), "module.freqs": torch.arange(4.0)}
        save_file(weights, folder / f"model{step:06d}.safetensors")
        save_file({name: 2 * value for name, value in weights.items()}, folder / f"ema_0.999_{step:06d}.safetensors")
    shutil.copy(folder / "model005000.safetensors", folder / "latest.safetensors")
    (folder / "model006000.safetensors").write_bytes(b"torn")
    (folder / "log.txt").write_text("loss")
    return folder


def test_the_table(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(run)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == f"{run}/"
    assert lines[1] == "stream steps count every tensors values dtype size format"
    assert lines[3] == "raw 1,000 .. 5,000 4 1,000 2 1k float32 15.7 KiB safetensors"
    assert lines[4] == "ema 0.999 1,000 .. 5,000 4 1,000 2 1k float32 15.7 KiB safetensors"
    assert "raw 1 missing: 4,000" in lines
    assert "prefix module. left out of the names of tensors" in lines
    assert "copies latest.safetensors = model005000.safetensors" in lines
    assert any(line.startswith("torn") and "model006000.safetensors is torn" in line for line in lines)
    assert lines[-1] == "other 1 x text: log.txt"


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_cut_off_in_a_terminal(run: Path, width: int) -> None:
    found = inspect([run], [SafetensorsReader()])
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, highlight=False, markup=False, emoji=False)
    console.print(view(found, [look_deep(one) for one in found.streams], tensors=True, width=width))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert "\u2026" not in plain
    assert max(map(len, plain.splitlines())) <= width
    for text in ("ema 0.999", "1,000 .. 5,000", "float32", "15.7 KiB", "4,000", "to copy, the same in all: 1 (freqs)"):
        assert text in plain
    (torn,) = [line for line in stream.getvalue().splitlines() if "torn  " in line]
    assert "\x1b[31m" in torn


def test_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(run), "--json", "--deep"]) == 0
    data = json.loads(capsys.readouterr().out)
    raw, ema = data["streams"]
    assert (raw["kind"], raw["steps"], raw["missing"]) == ("raw", [1000, 2000, 3000, 5000], [4000])
    assert ema["rate"] == 0.999
    assert raw["deep"]["constant"] == ["freqs"]
    assert data["duplicates"][0][0] == {"path": str(run / "latest.safetensors"), "part": "", "step": None}
    assert data["problems"][0]["kind"] == "torn"


def test_the_keys_of_the_json_are_documented(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(run), "--json", "--deep", "--tensors"]) == 0
    data = json.loads(capsys.readouterr().out)
    rows = re.findall(r"^\| `([^|]+)` \|", (DOCS / "checkpoints.md").read_text(encoding="utf-8"), re.MULTILINE)
    documented = {key for row in rows for key in row.split("`, `")}
    stream = data["streams"][0]
    assert {*data, *stream, *stream["deep"], *stream["tensor_list"][0]} <= documented


def test_a_single_file_lists_its_tensors(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(run / "model001000.safetensors")]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "tensors of raw shape dtype size" in lines
    assert lines[-2:] == ["freqs 4 float32 16 B", "w 20 x 50 float32 3.91 KiB"]


def test_names_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "[red]x"
    folder.mkdir()
    save_file({"[bold]w": torch.zeros(2)}, folder / "[b]1.safetensors")
    assert main(["inspect", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "[red]x" in out
    assert "[bold]w" in out


def test_where_nothing_can_be_read_the_code_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "1.safetensors").write_bytes(b"torn")
    assert main(["inspect", str(tmp_path)]) == 2
    out = capsys.readouterr().out
    assert "1.safetensors is torn" in out
    assert out.splitlines()[-1].strip() == "No checkpoint could be read."
    assert main(["inspect", str(tmp_path / "absent")]) == 2
    assert "absent does not exist" in capsys.readouterr().err


def test_the_help_needs_no_torch() -> None:
    script = (
        "import sys, wsopt.cli\nassert wsopt.cli.main(['inspect', '--help']) == 0\n"
        "print('found', sorted({'torch', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "found []"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1k"),
        (999_999, "1M"),
        (1_234_000, "1.23M"),
        (295_899_267, "296M"),
        (5e15, "5000T"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert count(value) == text


def test_several_dtypes_and_no_trailing_spaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {"w": torch.zeros(299), "half": torch.zeros(100).half(), "count": torch.tensor(1)}
    save_file(tensors, tmp_path / "model1.safetensors")
    shutil.copy(tmp_path / "model1.safetensors", tmp_path / "latest.safetensors")
    (tmp_path / "model2.safetensors").write_bytes(b"torn")
    assert main(["inspect", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("float32 75%, float16 25%, int64 <1%" in line for line in lines), lines
    assert [line for line in lines if line != line.rstrip()] == []
    (torn,) = [line for line in lines if "is torn" in line]
    assert torn.endswith("again.")


def test_the_sample_of_the_page_is_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / "checkpoints.md").read_text(encoding="utf-8")
    sample = re.search(r"\n\n    training/\n(?:(?:    .*)?\n)+", page)
    assert sample is not None
    monkeypatch.chdir(tmp_path)
    folder = Path("training")
    folder.mkdir()
    for step in (*range(10_000, 70_000, 10_000), *range(90_000, 210_000, 10_000)):
        weights = {
            "module.input.weight": torch.full((64, 64), float(step)),
            "module.mid.weight": torch.zeros(512, 64),
            "module.mid.bias": torch.zeros(512),
            "module.freqs": torch.zeros(16),
        }
        save_file(weights, folder / f"model{step:06d}.safetensors")
        if step in (40_000, 120_000, 160_000, 200_000):
            averages = {name: value + 0.5 for name, value in weights.items()}
            save_file(averages, folder / f"ema_0.999_{step:06d}.safetensors")
    whole = (folder / "model200000.safetensors").read_bytes()
    (folder / "latest.safetensors").write_bytes(whole)
    (folder / "model210000.safetensors").write_bytes(whole[:90_000])
    (folder / "log.txt").write_text("step 1")
    (folder / "progress.csv").write_text("a,b")
    (folder / "sample_0001.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    stream = io.StringIO()
    found = inspect([folder], [SafetensorsReader()])
    Console(file=stream, width=80).print(view(found, None, tensors=False, width=80))
    printed = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert printed == [line[4:].rstrip() for line in sample[0].strip("\n").splitlines()]
