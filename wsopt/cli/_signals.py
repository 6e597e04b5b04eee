"""Ctrl-C and SIGTERM: the first asks for a stop after the trial at hand, the second Ctrl-C stops at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final, Self

MESSAGE: Final = "stopping after this trial; press Ctrl-C again to stop at once"


class StopSignals:
    """While entered, SIGINT and SIGTERM set a flag; a SIGINT when it is set raises KeyboardInterrupt.

    Outside the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self._requested = False
        self._former: dict[signal.Signals, Any] = {}

    def should_stop(self) -> bool:
        """True once a signal came."""
        return self._requested

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self._requested = True
        # Not print: the handler may have interrupted a write to the same buffered stream.
        os.write(2, f"\n{MESSAGE}\n".encode())
