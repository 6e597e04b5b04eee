"""Progress: plain lines where stderr is no terminal, bars where it is one."""

from __future__ import annotations

import io

import pytest

from wsopt.cli._progress import RichProgress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_rare_and_tell_pace_and_rest() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = RichProgress(stream=stream, clock=clock, interval=10)
    with progress.stage("search", 60, done=10) as stage:
        for done in range(11, 61):
            clock.now += 4
            stage.update(done, best=f"{100 - done}.0")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "search: 10/60"
    assert lines[1] == "search: 13/60  best 87.0  4 s each  3 min 8 s left"
    assert lines[2] == "search: 16/60  best 84.0  4 s each  2 min 56 s left"
    assert lines[-1] == "search: 60/60  best 40.0  done after 3 min 20 s"
    assert len(lines) == 1 + 50 // 3 + 1


def test_facts_stay_until_there_are_new_ones() -> None:
    clock, stream = Clock(), io.StringIO()
    with RichProgress(stream=stream, clock=clock, interval=1).stage("train", 4) as stage:
        stage.update(1, loss="0.5", rate="3/s")
        clock.now += 2
        stage.update(2)
    assert stream.getvalue().splitlines()[1] == "train: 2/4  loss 0.5  rate 3/s  1 s each  2 s left"


def test_a_stage_that_is_stopped_says_so() -> None:
    stream = io.StringIO()
    progress = RichProgress(stream=stream, clock=Clock())

    def stop() -> None:
        with progress.stage("train", 5) as stage:
            stage.update(2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert stream.getvalue().splitlines() == ["train: 0/5", "train: 2/5  stopped after 0 s"]


def test_lines_that_stay_and_the_question_whether_to_stop() -> None:
    stream = io.StringIO()
    answers = [False, True]
    with RichProgress(should_stop=lambda: answers.pop(0), stream=stream) as progress:
        progress.line("run     [folder] (new)")
        assert [progress.should_stop(), progress.should_stop()] == [False, True]
    assert stream.getvalue() == "run     [folder] (new)\n"


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    with RichProgress(stream=stream, clock=Clock()) as progress, progress.stage("search", 4, done=1) as outer:
        outer.update(2, best="[3.9]")
        with progress.stage("merge", 2) as inner:
            inner.update(2)
        progress.line("kept [line]")
        outer.update(4)
    text = stream.getvalue()
    for part in ("search", "merge", "4/4", "best [3.9]", "kept [line]", "done after 0 s"):
        assert part in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is shown again


def test_the_pace_leaves_out_what_was_replayed() -> None:
    now = [0.0]
    stream = io.StringIO()
    with RichProgress(stream=stream, interval=1.0, clock=lambda: now[0]).stage("search", 100, done=10) as stage:
        stage.resize(100, 90)
        for done in (91, 92, 93):
            now[0] += 2.0
            stage.update(done, best="1")
    lines = stream.getvalue().splitlines()
    assert lines[1:4] == [f"search: {done}/100  best 1  2 s each  {2 * (100 - done)} s left" for done in (91, 92, 93)]
    assert lines[-1] == "search: 93/100  best 1  done after 6 s"
