"""The page on merging: its scripts run, its commands do what it says, its output is what they print."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from wsopt.cli import main
from wsopt.cli._main import _dispatch
from wsopt.merge import parse_profile

TEXT = (Path(__file__).parents[3] / "docs" / "merging.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    wsopt (merge .*)$", TEXT, re.MULTILINE)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    script("make_run.py")
    return tmp_path


def script(name: str) -> None:
    (text,) = re.findall(rf"<!-- script: {name} -->\n```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(text, name, "exec"), {})


def printed(command: str) -> str:
    """What the page says that the command prints."""
    (_, after) = TEXT.split(f"    wsopt {command}\n\nprints\n\n")
    lines = after.split("\n\n")[0].splitlines()
    return "".join(line.removeprefix("    ") + "\n" for line in lines)


def lasting(text: str) -> str:
    """Without what the last digits of a processor's sine decide: sizes with coefficients in them, rounding errors."""
    return re.sub(r"error [\d.e-]+|\([\d.]+ KiB\)", "...", text)


@pytest.mark.parametrize("name", ["--verify", "--from-emas"])
def test_output(made: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    command = next(one for one in COMMANDS if name in one and f"wsopt {one}\n\nprints" in TEXT)
    assert main(shlex.split(command)) == 0
    assert lasting(capsys.readouterr().out) == lasting(printed(command))


def test_commands(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "mine.json").write_text(re.findall(r"^\| JSON object of steps \| `(.*)` \|$", TEXT, re.MULTILINE)[0])
    here = [one for one in dict.fromkeys(COMMANDS) if " checkpoints " in one]
    assert len(here) >= 4
    for command in here:
        assert main(shlex.split(command)) == 0, capsys.readouterr().err
    script("merge_in_python.py")
    assert (made / "python.safetensors").read_bytes() == (made / "ema.safetensors").read_bytes()


@pytest.mark.parametrize("row", re.findall(r"^\| JSON [^|]*\| `([^`]*)`", TEXT, re.MULTILINE))
def test_forms_of_coefficient_files(made: Path, capsys: pytest.CaptureFixture[str], row: str) -> None:
    (made / "c").write_text(row)
    argv = ["merge", "checkpoints", "--coefficients", "c", "--steps", "200", "300", "400", "--dry-run", "--json"]
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["coefficients"] == [[-0.2, 0.5, 0.7]]


def test_the_example_with_groups(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = re.findall(r'^    (\{"coefficients".*\})$', TEXT, re.MULTILINE)
    (made / "c").write_text(text)
    argv = ["merge", "checkpoints", "--coefficients", "c", "--steps", "200", "300", "400", "--dry-run", "--json"]
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == ["head", "rest"]


def test_profiles_are_named() -> None:
    names = re.findall(r"^\| `([a-z-]+)(?::[A-Z]+)?` \|", TEXT.partition("## An EMA")[0], re.MULTILINE)
    numbers = {"single": ":1", "ema": ":0.9", "ema-from-first": ":0.9", "power": ":0.1"}
    assert [parse_profile(name + numbers.get(name, "")).rule for name in names] == names


def test_options_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _dispatch(["merge", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    named = set(re.findall(r"`(--[a-z-]+)", TEXT)) | {
        word for one in COMMANDS for word in one.split() if word[:2] == "--"
    }
    assert named <= known
    assert known - named <= {"--help", "--plugin", "--profile", "--coefficients", "--out", "--which"}
