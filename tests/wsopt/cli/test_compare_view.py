"""Progress of a comparison: a line now and then where stderr is no terminal, bars where it is one."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from wsopt.cli._compare_view import CompareView, facts, title
from wsopt.compare import Cell, Row
from wsopt.config import Config


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def cell(method: str, budget: int = 10) -> Cell:
    return Cell(method, "seed=1", Path("base.toml"), (), (), cast(Config, SimpleNamespace(budget=budget)))


def row(of: Cell, evaluations: int = 0, best: float | None = None, begun: bool = True, seconds: float = 0.0) -> Row:
    return Row(of, evaluations, best, begun, seconds)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (row(cell("lcsc"), begun=False, seconds=125.0), "0/10 getting checkpoints for 2 min 5 s"),
        (row(cell("lcsc")), "0/10"),
        (row(cell("lcsc"), 4, 1.23456), "4/10 best 1.235"),
        (row(cell("lcsc"), 10, 1.23456), "10/10 best 1.235, report"),
        (row(cell("lcsc"), 10), "10/10 report"),
    ],
)
def test_a_cell_in_words(shown: Row, text: str) -> None:
    assert (title(shown), facts(shown)) == ("lcsc (seed=1)", text)


def test_lines_are_rare_and_tell_what_runs_and_the_rest() -> None:
    clock, stream = Clock(), io.StringIO()
    first, second = cell("lcsc"), cell("[random]")
    with CompareView(stream=stream, clock=clock) as view:
        view.line("started")
        view.show([row(first), row(second)], 2, 20)  # 2 were done before this command
        clock.now += 50
        view.show([row(first, 3), row(second, 3)], 8, 20)
        clock.now += 30
        view.show([row(first, 4, 2.0), row(second, 4)], 10, 20)
        clock.now += 60
        view.show([], 20, 20)
    assert stream.getvalue().splitlines() == [
        "started",
        "all evaluations: 10/20, about 1 min 40 s left; lcsc (seed=1) 4/10 best 2; [random] (seed=1) 4/10",
        "all evaluations: 20/20; nothing runs",
    ]


def test_bars_come_and_go_with_the_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")  # of the bars only the last state is drawn
    monkeypatch.setenv("COLUMNS", "120")
    clock, stream = Clock(), Tty()
    first, second = cell("lcsc"), cell("[random]")
    with CompareView(stream=stream, clock=clock) as view:
        view.show([row(first), row(second, begun=False, seconds=4)], 0, 20)
        clock.now += 60
        view.show([row(second, 9, 1.5)], 15, 20)
    last = [line.split() for line in stream.getvalue().splitlines() if line.strip()]
    assert [(words[:2], words[3:]) for words in last] == [
        (["all", "evaluations"], ["15/20", "about", "20", "s", "left"]),
        (["[random]", "(seed=1)"], ["9/10", "best", "1.5"]),
    ]


def test_the_question_whether_to_stop() -> None:
    with CompareView(lambda: True, io.StringIO()) as view:
        assert view.should_stop()
