"""Progress on stderr: bars on a terminal, a line now and then in a log file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from wsopt.cli._terminal import Seldom, Terminal
from wsopt.progress import Stage

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class RichProgress(Terminal):
    """Implements `wsopt.progress.Progress`: a bar, or seldom a line, for every stage that is open."""

    _stages = 0

    def stage(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Stage]:
        """See `wsopt.progress.Progress.stage`."""
        return self._bar(name, total, done) if self._stream.isatty() else self._lines(name, total, done)

    @contextmanager
    def _lines(self, name: str, total: int, done: int) -> Iterator[Stage]:
        stage = _Lines(self.line, Seldom(self._clock, self._interval), name, _Pace(self._clock, total, done))
        self.line(f"{name}: {done}/{total}")
        with _closing(stage):
            yield stage

    @contextmanager
    def _bar(self, name: str, total: int, done: int) -> Iterator[Stage]:
        bars = self._open() if self._bars is None else self._bars
        self._stages += 1
        task = bars.add_task(name, total=total, completed=done, facts="")
        stage = _Bar(bars, task, _Pace(self._clock, total, done))
        try:
            with _closing(stage):
                yield stage
        finally:
            self._stages -= 1
            if self._stages == 0:
                self._close()


@contextmanager
def _closing(stage: _Bar | _Lines) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stage.close("stopped")
        raise
    stage.close("done")


class _Pace:
    """How fast a stage goes: seconds per unit and time left, counted from the last resize."""

    def __init__(self, clock: Callable[[], float], total: int, done: int) -> None:
        self._clock = clock
        self.opened = clock()
        self.restart(total, done)

    def restart(self, total: int, done: int) -> None:
        self.total = total
        self.done = self._before = done
        self._begin = self._clock()

    def parts(self) -> list[str]:
        fresh = self.done - self._before
        if fresh <= 0:
            return []
        each = (self._clock() - self._begin) / fresh
        return [f"{each:.3g} s each", f"{_time(max(0, self.total - self.done) * each)} left"]

    def elapsed(self) -> str:
        return _time(self._clock() - self.opened)


class _Bar:
    """A stage as a bar of rich."""

    def __init__(self, bars: Bars, task: TaskID, pace: _Pace) -> None:
        self._bars = bars
        self._task = task
        self._pace = pace
        self._facts = ""

    def update(self, done: int, **facts: str) -> None:
        self._pace.done = done
        self._facts = _join(facts) or self._facts
        text = "  ".join(part for part in (self._facts, *self._pace.parts()) if part)
        self._bars.update(self._task, completed=done, facts=text)

    def resize(self, total: int, done: int) -> None:
        self._pace.restart(total, done)
        self._bars.update(self._task, total=total, completed=done)

    def close(self, word: str) -> None:
        parts = (self._facts, f"{word} after {self._pace.elapsed()}")
        self._bars.update(self._task, facts="  ".join(part for part in parts if part))


class _Lines:
    """A stage as plain lines, at most one per interval."""

    def __init__(self, line: Callable[[str], None], seldom: Seldom, name: str, pace: _Pace) -> None:
        self._line = line
        self._seldom = seldom
        self._name = name
        self._pace = pace
        self._facts = ""

    def update(self, done: int, **facts: str) -> None:
        self._pace.done = done
        self._facts = _join(facts) or self._facts
        if self._seldom.is_time():
            self._line(self._text(*self._pace.parts()))

    def resize(self, total: int, done: int) -> None:
        self._pace.restart(total, done)

    def close(self, word: str) -> None:
        self._line(self._text(f"{word} after {self._pace.elapsed()}"))

    def _text(self, *parts: str) -> str:
        head = f"{self._name}: {self._pace.done}/{self._pace.total}"
        return "  ".join(part for part in (head, self._facts, *parts) if part)


def _time(seconds: float) -> str:
    from wsopt.report import duration  # it loads numpy: not before there is something to time

    return duration(seconds)


def _join(facts: dict[str, str]) -> str:
    return "  ".join(f"{key} {value}" for key, value in facts.items())
