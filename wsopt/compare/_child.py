"""One cell in a process of its own: started, watched, told to stop, and what it said at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from wsopt.compare._cells import Cell
from wsopt.compare._state import Watched

_TAIL: Final = 20_000


class Child:
    """A ``wsopt run`` of one cell, whose output goes to the end of a log file.

    It is a session of its own, so that a terminal's Ctrl-C does not reach it: who started it passes on what is asked.

    Args:
        cell: what it runs.
        log: the file, made with its folder where it does not exist.
        watched: its run folder.
        program: the command that ``wsopt`` stands for.
    """

    def __init__(self, cell: Cell, log: Path, watched: Watched, program: Sequence[str]) -> None:
        self.cell = cell
        self.watched = watched
        self.begin = time.monotonic()
        self._log = log
        self._stopping = False
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(f"$ {cell.command}\n".encode())
            file.flush()
            self._from = file.tell()
            self._process = subprocess.Popen(
                [*program, *cell.arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def code(self) -> int | None:
        """Its exit code (negative: the signal that ended it), None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it, once, to end after the trial at hand."""
        if not self._stopping:
            self._stopping = True
            self._process.terminate()

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop, and ended because of that."""
        code = self.code()
        return self._stopping and code is not None and code in (130, -signal.SIGTERM, -signal.SIGINT, -signal.SIGKILL)

    def said(self) -> str:
        """The last message of its output: from ``error:`` on, or else its last line."""
        with self._log.open("rb") as file:
            file.seek(max(self._from, file.seek(0, 2) - _TAIL))
            lines = [line.rstrip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        begins = [at for at, line in enumerate(lines) if line.startswith("error: ")]
        return "\n".join(lines[begins[-1] if begins else -1 :]).removeprefix("error: ")


def end(children: Sequence[Child], patience: float) -> None:
    """End what still runs, within seconds, and wait until it is gone.

    A run that was already asked to stop takes the interrupt as a second Ctrl-C; all that it has journalled is kept.

    Args:
        children: that were started.
        patience: seconds until those that are still there are killed.
    """
    left = [child for child in children if child.code() is None]
    for child in left:
        child._process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + patience
    try:
        while time.monotonic() < deadline and any(child.code() is None for child in left):
            time.sleep(0.05)
    finally:
        for child in left:
            if child.code() is None:
                os.killpg(child._process.pid, signal.SIGKILL)
            child._process.wait()


def log_names(cells: Sequence[Cell]) -> Mapping[Path, str]:
    """By run folder: a file name for each cell's log, ``METHOD--INSTANCE.log``, without two alike."""
    names: dict[Path, str] = {}
    for cell in cells:
        name = f"{_slug(cell.method)}--{_slug(cell.instance)}"
        while f"{name}.log" in names.values():
            name += "_"
        names[cell.folder] = f"{name}.log"
    return names


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._=+-]+", "-", text)[:100]
