"""What all progress on stderr stands on: lines that stay and, on a terminal, bars below them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bars


class Terminal:
    """Lines that stay and bars that move, which a subclass fills.

    As a context manager it leaves the terminal tidy, whatever happens.

    Args:
        should_stop: asked by the method of that name; `StopSignals.should_stop`, for one.
        stream: where to write; None is stderr.
        interval: least number of seconds between two lines about the same, where `stream` is no terminal; None is
            `usual_interval`.
        clock: seconds, monotonic.
    """

    usual_interval: ClassVar[float] = 10.0

    def __init__(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        stream: TextIO | None = None,
        interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._should_stop = should_stop
        self._stream = sys.stderr if stream is None else stream
        self._interval = self.usual_interval if interval is None else interval
        self._clock = clock
        self._bars: Bars | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def line(self, text: str) -> None:
        """Print one line that stays, above the bars where there are any."""
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)

    def should_stop(self) -> bool:
        """True once the user asked for a stop."""
        return self._should_stop()

    def _open(self) -> Bars:
        """Bars, drawn from now until `_close`. Each is a task of rich with the field ``facts``: text beside it."""
        self._bars = _bars(self._stream)
        self._bars.start()
        return self._bars

    def _close(self) -> None:
        """Draw the bars a last time and leave them; nothing where there are none."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


class Seldom:
    """Says when it is time for another line: at most once per interval, the first one interval from now."""

    def __init__(self, clock: Callable[[], float], interval: float) -> None:
        self._clock = clock
        self._interval = interval
        self._shown = clock()

    def is_time(self) -> bool:
        """True where an interval has passed; the next one begins then."""
        now = self._clock()
        if now - self._shown < self._interval:
            return False
        self._shown = now
        return True


def _bars(stream: TextIO) -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        console=Console(file=stream),
    )
