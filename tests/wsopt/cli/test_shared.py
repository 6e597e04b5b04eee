"""Arguments of several subcommands, and subjects and texts below each other, folded to a terminal."""

from __future__ import annotations

import argparse

import pytest

from wsopt.cli._shared import add_set_argument, folded

TEXT = "20 of steps 1,000 to 20,000, 4 tensors, 132 values each, 10.4 KiB on disk in /data/well-known/training"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_text_is_folded_below_itself(width: int) -> None:
    lines = folded("checkpoints", TEXT, 14, width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("checkpoints   20 of steps")
    assert all(line.startswith(" " * 14) for line in lines[1:])
    assert " ".join(line[14:] for line in lines) == TEXT
    assert lines[-1].endswith("/data/well-known/training")


@pytest.mark.parametrize("width", [None, 20])
def test_a_pipe_and_a_terminal_without_room_fold_nothing(width: int | None) -> None:
    assert folded("", TEXT, 14, width) == " " * 14 + TEXT


def set_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="some")
    add_set_argument(parser, "override this")
    return parser


@pytest.mark.parametrize(
    ("argv", "overrides"),
    [
        ([], []),
        (["--set", " a.b = 1", "--set=c=x=y", "--set", "d="], [("a.b", " 1"), ("c", "x=y"), ("d", "")]),
    ],
)
def test_set_gives_pairs_in_order(argv: list[str], overrides: list[tuple[str, str]]) -> None:
    assert set_parser().parse_args(argv).overrides == overrides


@pytest.mark.parametrize("text", ["budget", "=3", " =3", ""])
def test_set_refuses_what_is_no_pair(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        set_parser().parse_args(["--set", text])
    assert f"argument --set: {text!r} is not of the form KEY=VALUE" in capsys.readouterr().err


def test_set_has_the_help_it_is_given() -> None:
    assert "--set KEY=VALUE  override this" in set_parser().format_help()
