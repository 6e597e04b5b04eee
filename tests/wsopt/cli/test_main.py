"""The command as a user meets it: output, exit codes, what is imported, and that errors are one message."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wsopt
from wsopt.cli import _main, main
from wsopt.errors import Interrupted, ResumeError

HEAVY = {"torch", "numpy", "nevergrad", "cma", "sklearn", "matplotlib", "scipy"}

FAMILY = """
from wsopt.hookspecs import hookimpl

@hookimpl
def register_model_families(register):
    register("toy", "json:JSONDecoder")
"""

CONFIG = """\
name = "tiny"
budget = 40
plugins = ["toy.py"]
[family]
name = "toy"
[checkpoints]
path = "weights"
[objective]
features = "digits"
reference = "train"
"""


@pytest.fixture(autouse=True)
def _no_installed_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOPT_PLUGINS", "")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "toy.py").write_text(FAMILY)
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    return path


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["plugins"], ["schema"], ["validate"], ["run", "--help"]])
def test_nothing_heavy_is_imported(argv: list[str], config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WSOPT_PLUGINS")  # with the families that come with wsopt
    argv = [*argv, str(config)] if argv == ["validate"] else argv
    script = (
        f"import contextlib, io, sys\nfrom wsopt.cli import main\n"
        f"with contextlib.redirect_stdout(io.StringIO()) as out:\n    code = main({argv!r})\n"
        f"print(code, len(out.getvalue()) > 5, sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "0 True []\n"
    assert done.stderr == ""


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"wsopt {wsopt.__version__}\n"


def test_help_lists_the_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    listed = re.findall(r"^    (\w+) +\w", out, re.MULTILINE)
    assert listed[:8] == ["run", "report", "compare", "inspect", "merge", "validate", "plugins", "schema"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["nope"], "argument COMMAND: invalid choice: 'nope'"),
        (["validate"], "the following arguments are required: FILE"),
        (["validate", "c.toml", "--set", "x"], "argument --set: 'x' is not of the form KEY=VALUE"),
        (["plugins", "--nope"], "unrecognized arguments: --nope"),
    ],
)
def test_usage_errors(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_validate(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(config), "--set", "optimizer.name=random"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    facts = "budget 40, family toy, parameterization difference, optimizer random, objective fid, hash "
    assert out.startswith(f"ok: {config} ({facts}")


def test_validate_prints_one_problem_per_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text().replace("budget", "buget"))
    assert main(["validate", str(config), "--set", "seed=-1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{config}: budget: missing: give the total number of objective evaluations, baselines included",
        f"{config}:2: buget: unknown key; did you mean 'budget'?",
        "--set seed=-1: must be at least 0, not -1",
    ]


def test_validate_a_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "no.toml"]) == 2
    assert capsys.readouterr().err == ("error: the config file no.toml does not exist. Give the path of a TOML file.\n")


def test_a_broken_plugin_that_is_needed_exits_with_3(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.with_name("toy.py").write_text("import no_such_package\n")
    assert main(["validate", str(config)]) == 3
    warning, error = capsys.readouterr().err.splitlines()
    cause = "ModuleNotFoundError: No module named 'no_such_package'"
    source = f"plugin 'toy' ({config.with_name('toy.py')})"
    assert warning == f"warning: {source} is not used: {cause}"
    assert error == (
        f"error: {config}:5: family.name: unknown model family 'toy'; it may belong to a plugin that failed to load: "
        f"{source}: {cause}. Mend or uninstall that plugin, or use one of: module."
    )


def test_schema_is_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--plugin", str(config.with_name("toy.py"))]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert [one["title"] for one in schema["properties"]["family"]["oneOf"]] == ["module", "toy"]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ResumeError("no."), 4, "error: no.\n"),
        (Interrupted("stopped after 3."), 130, "stopped after 3.\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (OSError(28, "No space left on device", "journal.jsonl"), 1, "error: [Errno 28] No space left on device: "),
    ],
)
def test_errors_are_one_message_and_an_exit_code(
    error: BaseException,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Failing:
        def add_parser(self, subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
            subparsers.add_parser("fail")

        def main(self, args: argparse.Namespace) -> int:
            raise error

    monkeypatch.setitem(_main._COMMANDS, "fail", Failing())
    assert main(["fail"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_a_reader_that_stops_reading(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "wsopt.cli", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_output_that_cannot_be_encoded_is_replaced(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wsopt.cli", "validate", str(tmp_path / "caf\u00e9.toml")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "1"},
        timeout=60,
    )
    assert done.returncode == 2
    assert b"caf?.toml does not exist" in done.stderr
    script = (
        "import sys; from wsopt.cli import _main; _main._dispatch = lambda argv: print('\\u00b1') or 0; _main.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
        timeout=60,
    )
    assert done.stdout == b"?\n"
