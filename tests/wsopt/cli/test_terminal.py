"""What bars and lines stand on: when a line is due, and that lines and bars do not get in each other's way."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from wsopt.cli._terminal import Seldom, Terminal


class Bare(Terminal):
    """A terminal that shows one bar."""

    usual_interval = 7.0

    @property
    def interval(self) -> float:
        return self._interval

    def show(self) -> None:
        self._open().add_task("work", total=2, completed=1, facts="[half]")


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_seldom_counts_from_its_making_and_from_each_time() -> None:
    now = [50.0]
    seldom = Seldom(lambda: now[0], 10.0)
    due = []
    for now[0] in (50.0, 59.9, 60.0, 65.0, 71.0, 80.9, 81.0):
        if seldom.is_time():
            due.append(now[0])
    assert due == [60.0, 71.0, 81.0]


@pytest.mark.parametrize(("given", "interval"), [(None, 7.0), (0.0, 0.0), (3.0, 3.0)])
def test_the_interval_is_the_usual_one_unless_it_is_given(given: float | None, interval: float) -> None:
    assert Bare(interval=given).interval == interval


def test_lines_are_written_as_they_are() -> None:
    stream = io.StringIO()
    with Bare(stream=stream) as terminal:
        terminal.line("[bold]" + "long " * 40)
    assert stream.getvalue() == "[bold]" + "long " * 40 + "\n"


def test_the_question_whether_to_stop_is_handed_on() -> None:
    assert not Bare(stream=io.StringIO()).should_stop()
    assert Bare(lambda: True, io.StringIO()).should_stop()


def test_bars_are_closed_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    stream = Tty()

    def fail(terminal: Bare) -> None:
        with terminal:
            terminal.show()
            terminal.line("[above]")
            raise KeyboardInterrupt

    terminal = Bare(stream=stream)
    with pytest.raises(KeyboardInterrupt):
        fail(terminal)
    text = stream.getvalue()
    assert text.index("[above]") < text.rindex("1/2") < text.rindex("[half]") < text.rindex("\x1b[?25h")
    terminal.line("after")  # below what the bars left, without any of rich
    assert stream.getvalue() == text + "after\n"


def test_neither_rich_nor_numpy_is_loaded_before_something_is_shown() -> None:
    script = (
        "import sys\n"
        "from wsopt.cli import _progress\n"
        "with _progress.RichProgress() as progress: progress.line('a line')\n"
        "print(sorted({'rich', 'numpy', 'torch', 'wsopt.report'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "a line\n")
