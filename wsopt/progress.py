"""How long work tells what it is doing and learns that it should stop. The command line supplies the bars."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Stage(Protocol):
    """One stretch of work of known length."""

    def update(self, done: int, **facts: str) -> None:
        """Say that `done` of the total are finished, with short facts to show beside (``loss="0.12"``)."""

    def resize(self, total: int, done: int) -> None:
        """The total is `total` from now on, and `done` of it are finished without counting for the pace (replayed)."""


class Progress(Protocol):
    """Where progress is shown. Everything goes to stderr."""

    def stage(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Stage]:
        """Open a stage of `total` units, `done` of which were finished by an earlier run."""

    def line(self, text: str) -> None:
        """Print one line that stays."""

    def should_stop(self) -> bool:
        """True once the user asked for a stop: finish the unit at hand, save, and raise `wsopt.errors.Interrupted`."""


class _SilentStage:
    def update(self, done: int, **facts: str) -> None:
        pass

    def resize(self, total: int, done: int) -> None:
        pass


class _SilentContext(AbstractContextManager["Stage"]):
    def __enter__(self) -> Stage:
        return _SilentStage()

    def __exit__(self, *exc: object) -> None:
        pass


class SilentProgress:
    """A progress that shows nothing and never stops, for library use and tests."""

    def stage(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Stage]:
        """See `Progress.stage`."""
        return _SilentContext()

    def line(self, text: str) -> None:
        """See `Progress.line`."""

    def should_stop(self) -> bool:
        """See `Progress.should_stop`."""
        return False
