"""Progress on stderr: bars on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from wsopt.progress import Stage

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class RichProgress:
    """Implements `wsopt.progress.Progress`. As a context manager it leaves the terminal tidy, whatever happens.

    Args:
        should_stop: asked by the method of that name; `StopSignals.should_stop`, for one.
        stream: where to write; None is stderr.
        interval: least number of seconds between two lines of a stage, where `stream` is no terminal.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        stream: TextIO | None = None,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._should_stop = should_stop
        self._stream = sys.stderr if stream is None else stream
        self._interval = interval
        self._clock = clock
        self._bars: Bars | None = None
        self._open = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def stage(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Stage]:
        """See `wsopt.progress.Progress.stage`."""
        return self._bar(name, total, done) if self._stream.isatty() else self._lines(name, total, done)

    def line(self, text: str) -> None:
        """See `wsopt.progress.Progress.line`."""
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)

    def should_stop(self) -> bool:
        """See `wsopt.progress.Progress.should_stop`."""
        return self._should_stop()

    @contextmanager
    def _lines(self, name: str, total: int, done: int) -> Iterator[Stage]:
        stage = _Lines(self.line, self._clock, self._interval, name, _Pace(self._clock, total, done))
        self.line(f"{name}: {done}/{total}")
        with _closing(stage):
            yield stage

    @contextmanager
    def _bar(self, name: str, total: int, done: int) -> Iterator[Stage]:
        if self._bars is None:
            self._bars = _bars(self._stream)
            self._bars.start()
        bars = self._bars
        self._open += 1
        task = bars.add_task(name, total=total, completed=done, facts="")
        stage = _Bar(bars, task, _Pace(self._clock, total, done))
        try:
            with _closing(stage):
                yield stage
        finally:
            self._open -= 1
            if self._open == 0:
                self._close()

    def _close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


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
        return [f"{each:.3g} s each", f"{duration(max(0, self.total - self.done) * each)} left"]

    def elapsed(self) -> str:
        return duration(self._clock() - self.opened)


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

    def __init__(
        self, line: Callable[[str], None], clock: Callable[[], float], interval: float, name: str, pace: _Pace
    ) -> None:
        self._line = line
        self._clock = clock
        self._interval = interval
        self._name = name
        self._pace = pace
        self._facts = ""
        self._shown = clock()

    def update(self, done: int, **facts: str) -> None:
        self._pace.done = done
        self._facts = _join(facts) or self._facts
        now = self._clock()
        if now - self._shown >= self._interval:
            self._shown = now
            self._line(self._text(*self._pace.parts()))

    def resize(self, total: int, done: int) -> None:
        self._pace.restart(total, done)

    def close(self, word: str) -> None:
        self._line(self._text(f"{word} after {self._pace.elapsed()}"))

    def _text(self, *parts: str) -> str:
        head = f"{self._name}: {self._pace.done}/{self._pace.total}"
        return "  ".join(part for part in (head, self._facts, *parts) if part)


def duration(seconds: float) -> str:
    """``42 s``, ``6 min 03 s``, ``7 h 08 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _join(facts: dict[str, str]) -> str:
    return "  ".join(f"{key} {value}" for key, value in facts.items())


def _bars(stream: TextIO) -> Bars:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        console=Console(file=stream),
    )
