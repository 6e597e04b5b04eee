"""Progress of a comparison on stderr: bars on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

from wsopt.cli._progress import duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from wsopt.compare import Row

_ALL: Final = "all evaluations"


class CompareView:
    """Implements `wsopt.compare.Watch`. As a context manager it leaves the terminal tidy, whatever happens.

    Args:
        should_stop: asked by the method of that name.
        stream: where to write; None is stderr.
        interval: seconds between two lines about what runs, where `stream` is no terminal.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        stream: TextIO | None = None,
        interval: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._should_stop = should_stop
        self._stream = sys.stderr if stream is None else stream
        self._interval = interval
        self._clock = clock
        self._bars: Bars | None = None
        self._tasks: dict[object, TaskID] = {}
        self._begin: tuple[float, int] | None = None
        self._shown = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def line(self, text: str) -> None:
        """See `wsopt.compare.Watch.line`."""
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)

    def show(self, rows: Sequence[Row], done: int, total: int) -> None:
        """See `wsopt.compare.Watch.show`."""
        if self._begin is None:
            self._begin = self._clock(), done
        if self._stream.isatty():
            self._draw(rows, done, total)
        elif self._clock() - self._shown >= self._interval:
            self._shown = self._clock()
            running = "; ".join(f"{title(row)} {facts(row)}" for row in rows)
            self.line(f"{_ALL}: {done}/{total}{self._left(done, total)}; {running or 'nothing runs'}")

    def should_stop(self) -> bool:
        """See `wsopt.compare.Watch.should_stop`."""
        return self._should_stop()

    def _draw(self, rows: Sequence[Row], done: int, total: int) -> None:
        if self._bars is None:
            self._bars = _bars(self._stream)
            self._tasks = {_ALL: self._bars.add_task(_ALL, total=total, facts="")}
            self._bars.start()
        bars = self._bars
        bars.update(self._tasks[_ALL], completed=done, facts=self._left(done, total).removeprefix(", "))
        for key in self._tasks.keys() - {row.cell for row in rows} - {_ALL}:
            bars.remove_task(self._tasks.pop(key))
        for row in rows:
            if row.cell not in self._tasks:
                self._tasks[row.cell] = bars.add_task(title(row), total=row.cell.config.budget, facts="")
            bars.update(self._tasks[row.cell], completed=row.evaluations, facts=_best(row))

    def _left(self, done: int, total: int) -> str:
        """The time that the rest takes at the pace of this command, trainings and reports included."""
        assert self._begin is not None
        at, before = self._begin
        if done <= before or done >= total:
            return ""
        return f", about {duration((self._clock() - at) / (done - before) * (total - done))} left"


def title(row: Row) -> str:
    """The cell of a row."""
    return f"{row.cell.method} ({row.cell.instance})"


def facts(row: Row) -> str:
    """How far a row is, in words."""
    best = _best(row)
    return f"{row.evaluations}/{row.cell.config.budget}" + (f" {best}" if best else "")


def _best(row: Row) -> str:
    if not row.begun:
        return f"getting checkpoints for {duration(row.seconds)}"
    if row.evaluations >= row.cell.config.budget:
        return f"best {row.best:.4g}, report" if row.best is not None else "report"
    return "" if row.best is None else f"best {row.best:.4g}"


def _bars(stream: TextIO) -> Any:  # noqa: ANN401 - rich is imported here only
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        console=Console(file=stream),
    )
