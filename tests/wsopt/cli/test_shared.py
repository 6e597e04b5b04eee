"""Subjects and texts below each other, folded to a terminal."""

from __future__ import annotations

import pytest

from wsopt.cli._shared import folded

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
