"""Progress of a comparison on stderr: bars on a terminal, a line now and then in a log file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from wsopt.cli._terminal import Seldom, Terminal
from wsopt.report import duration

if TYPE_CHECKING:
    from rich.progress import TaskID

    from wsopt.compare import Row

_ALL: Final = "all evaluations"


class CompareView(Terminal):
    """Implements `wsopt.compare.Watch`: a bar for all evaluations and one for each running cell, or seldom a line."""

    usual_interval = 60.0
    _begin: tuple[float, int] | None = None
    _seldom: Seldom
    _tasks: dict[object, TaskID]

    def show(self, rows: Sequence[Row], done: int, total: int) -> None:
        """See `wsopt.compare.Watch.show`."""
        if self._begin is None:
            self._begin = self._clock(), done
            self._seldom = Seldom(self._clock, self._interval)
        if self._stream.isatty():
            self._draw(rows, done, total)
        elif self._seldom.is_time():
            running = "; ".join(f"{title(row)} {facts(row)}" for row in rows)
            self.line(f"{_ALL}: {done}/{total}{self._left(done, total)}; {running or 'nothing runs'}")

    def _draw(self, rows: Sequence[Row], done: int, total: int) -> None:
        bars = self._bars
        if bars is None:
            bars = self._open()
            self._tasks = {_ALL: bars.add_task(_ALL, total=total, facts="")}
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
