"""`wsopt plugins`, and subcommands that come from plugins."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import wsopt
from wsopt.cli import main

Install = Callable[[str], None]

COMMANDS = """
from wsopt.hookspecs import hookimpl

class Hello:
    def add_parser(self, subparsers):
        parser = subparsers.add_parser("hello", help="greet")
        parser.add_argument("who")

    def main(self, args):
        print("hello", args.who)
        return 7

class Silent:
    def add_parser(self, subparsers):
        pass

@hookimpl
def register_commands(register):
    register("hello", f"{__name__}:Hello")
    register("silent", f"{__name__}:Silent")
    register("lost", "no_such_module:Lost")
    register("run", f"{__name__}:Hello")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("WSOPT_PLUGINS", "toy")

    def lay_out(code: str) -> None:
        (tmp_path / "wsopt_test_cli_toy.py").write_text(code)
        info = tmp_path / "toy_dist-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-dist\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text("[wsopt]\ntoy = wsopt_test_cli_toy\n")

    yield lay_out
    sys.modules.pop("wsopt_test_cli_toy", None)


def table(out: str) -> list[list[str]]:
    return [[cell for cell in line.split("  ") if cell.strip()] for line in out.splitlines()]


def test_the_table(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(COMMANDS)
    assert main(["plugins"]) == 0
    out, err = capsys.readouterr()
    lines = [[cell.strip() for cell in row] for row in table(out)]
    assert err == ""
    assert lines[0] == ["plugin", "version", "distribution", "status", "components"]
    objectives = lines[1].pop()
    assert lines[1] == ["builtin", wsopt.__version__, "wsopt", "ok"]
    assert objectives.startswith("objective: fid, fcd, fd-clip, kid, inception-score, precision, recall, pickscore, ")
    assert objectives.endswith(", torchmetrics, callable, weighted")
    assert lines[2] == ["optimizer: lcsc, one-plus-one, cmaes, nevergrad, coordinate, random"]
    assert lines[-1] == ["toy", "1.2", "toy-dist", "ok", "command: hello, silent, lost, run"]


def test_a_broken_plugin_in_the_table(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("1 / 0")
    assert main(["plugins"]) == 0
    out, err = capsys.readouterr()
    last = [cell.strip() for cell in table(out)[-1]]
    assert last == ["toy", "1.2", "toy-dist", "broken", "ZeroDivisionError: division by zero"]
    assert err == ""


def test_blocked_plugins_in_the_table(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install("1 / 0")
    monkeypatch.setenv("WSOPT_PLUGINS", "")
    assert main(["plugins"]) == 0
    rows = [[cell.strip() for cell in row] for row in table(capsys.readouterr().out)]
    assert ["toy", "1.2", "toy-dist", "blocked", "none"] in rows


def test_json(install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(COMMANDS)
    path = tmp_path / "mine.py"
    path.write_text(
        "from wsopt.hookspecs import hookimpl\n@hookimpl\ndef register_optimizers(r):\n    pass\n".replace(
            "(r)", "(register)"
        )
        + "    register('lcsc', 'json:JSONDecoder')\n"
    )
    assert main(["plugins", "--json", "--plugin", str(path)]) == 0
    plugins = {plugin["name"]: plugin for plugin in json.loads(capsys.readouterr().out)}
    assert plugins["toy"]["version"] == "1.2"
    assert plugins["mine"]["distribution"] == str(path)
    assert len(plugins["mine"]["sha256"]) == 64
    assert plugins["mine"]["components"] == [
        {
            "kind": "optimizer",
            "name": "lcsc",
            "address": "mine:lcsc",
            "target": "json:JSONDecoder",
            "shadowed": True,
            "failure": None,
        }
    ]


def test_check_imports_the_targets(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(COMMANDS)
    monkeypatch.setattr("wsopt.plugin_manager._builtin", lambda: object())
    assert main(["plugins", "--check"]) == 3
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == (
        "failed: command 'lost' of plugin 'toy' (toy-dist 1.2) could not be imported from no_such_module:Lost "
        "(ModuleNotFoundError: No module named 'no_such_module'). Mend or update the plugin."
    )
    assert out.count("failed: ") == 1


def test_check_of_what_is_sound(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(COMMANDS.replace("no_such_module:Lost", "json:JSONDecoder"))
    monkeypatch.setattr("wsopt.plugin_manager._builtin", lambda: object())
    assert main(["plugins", "--check"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "checked: all 4 components can be imported"


def test_check_fails_for_a_broken_plugin(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install("1 / 0")
    monkeypatch.setattr("wsopt.plugin_manager._builtin", lambda: object())
    assert main(["plugins", "--check"]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == "failed: toy: ZeroDivisionError: division by zero"


def test_help_names_the_commands_of_plugins(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(COMMANDS)
    assert main(["--help"]) == 0
    out, err = capsys.readouterr()
    assert "hello" in out
    assert "(from plugin 'toy')" in out
    assert err == ""


def test_a_command_of_a_plugin_runs(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(COMMANDS)
    assert main(["hello", "world"]) == 7
    assert capsys.readouterr().out == "hello world\n"


def test_a_command_cannot_replace_a_built_in_one(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(COMMANDS)
    assert main(["toy:run", "world"]) == 2
    assert "invalid choice: 'toy:run'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "silent",
            "error: the command 'silent' of plugin 'toy' (toy-dist 1.2) added no parser of that name. Ask the plugin's "
            "author.\n",
        ),
        (
            "lost",
            "error: command 'lost' of plugin 'toy' (toy-dist 1.2) could not be imported from no_such_module:Lost "
            "(ModuleNotFoundError: No module named 'no_such_module'). Mend or update the plugin.\n",
        ),
    ],
)
def test_commands_that_do_not_work(
    command: str, message: str, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(COMMANDS)
    assert main([command]) == 3
    assert capsys.readouterr().err == message


def test_broken_plugins_do_not_stop_the_shell(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("1 / 0")
    assert main(["--version"]) == 0
    assert main(["--help"]) == 0
    assert capsys.readouterr().err.count("warning: ") == 1
