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
        stage = _Lines(self.line, self._clock, self._interval, name, total, done)
        self.line(f"{name}: {done}/{total}")
        try:
            yield stage
        except BaseException:
            self.line(stage.last("stopped"))
            raise
        self.line(stage.last("done"))

    @contextmanager
    def _bar(self, name: str, total: int, done: int) -> Iterator[Stage]:
        if self._bars is None:
            self._bars = _bars(self._stream)
            self._bars.start()
        bars = self._bars
        self._open += 1
        stage = _Bar(bars, bars.add_task(name, total=total, completed=done, facts=""))
        try:
            yield stage
        finally:
            self._open -= 1
            if self._open == 0:
                self._close()

    def _close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


class _Bar:
    """A stage as a bar of rich."""

    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def update(self, done: int, **facts: str) -> None:
        if facts:
            self._bars.update(self._task, completed=done, facts=_join(facts))
        else:
            self._bars.update(self._task, completed=done)


class _Lines:
    """A stage as plain lines, at most one per interval."""

    def __init__(
        self,
        line: Callable[[str], None],
        clock: Callable[[], float],
        interval: float,
        name: str,
        total: int,
        done: int,
    ) -> None:
        self._line = line
        self._clock = clock
        self._interval = interval
        self._name = name
        self._total = total
        self._before = self._done = done
        self._facts = ""
        self._begin = self._shown = clock()

    def update(self, done: int, **facts: str) -> None:
        self._done = done
        self._facts = _join(facts) or self._facts
        now = self._clock()
        if now - self._shown < self._interval:
            return
        self._shown = now
        parts = [f"{self._name}: {done}/{self._total}", self._facts]
        fresh = done - self._before
        if fresh > 0:
            each = (now - self._begin) / fresh
            parts += [f"{each:.3g} s each", f"{duration((self._total - done) * each)} left"]
        self._line("  ".join(part for part in parts if part))

    def last(self, word: str) -> str:
        parts = [f"{self._name}: {self._done}/{self._total}", self._facts]
        parts.append(f"{word} after {duration(self._clock() - self._begin)}")
        return "  ".join(part for part in parts if part)


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
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
    )
