"""Running the cells of a comparison: some at a time, each a process; what is done is skipped, what stopped goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from wsopt.compare._cells import Cell, Cells
from wsopt.compare._child import Child, end, log_names
from wsopt.compare._manifest import Manifest
from wsopt.compare._state import Watched, is_finished
from wsopt.errors import ExitCode, Interrupted
from wsopt.report import duration

_IN_USE: Final = "is in use by another process"  # of the refusal of a run folder


@dataclass(frozen=True)
class Row:
    """How far a running cell is.

    Args:
        cell: which one.
        evaluations: scored so far.
        best: the best search score so far; None before the first candidate.
        begun: False while its checkpoints are trained or loaded.
        seconds: since its process was started.
    """

    cell: Cell
    evaluations: int
    best: float | None
    begun: bool
    seconds: float


class Watch(Protocol):
    """Where the running of a comparison is shown, and who may ask for a stop."""

    def line(self, text: str) -> None:
        """Print one line that stays."""

    def show(self, rows: Sequence[Row], done: int, total: int) -> None:
        """Show the running cells, and how many of all evaluations are done."""

    def should_stop(self) -> bool:
        """True once the user asked for a stop."""


@dataclass(frozen=True)
class Failure:
    """A cell whose run failed, its exit code and its last message."""

    cell: Cell
    code: int
    message: str


class Runner:
    """Runs the cells of a comparison.

    A cell that fails is left where it stopped, and the others go on. Of cells with the same training only one runs
    until its checkpoints are there. Where another process holds a run folder, the cell waits for it.

    Args:
        cells: what to run; at most ``cells.jobs`` at a time.
        logs: folder of the cells' output.
        manifest: gets what becomes of each cell.
        watch: where it is shown.
        pause: seconds between two looks at what runs.
        retry: seconds until a folder that was in use is tried again.
        clock: seconds, monotonic.
        program: the command that ``wsopt`` stands for.
        patience: seconds that a run has to end at once before it is killed.
    """

    def __init__(
        self,
        cells: Cells,
        logs: Path,
        manifest: Manifest,
        watch: Watch,
        pause: float = 0.25,
        retry: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        program: Sequence[str] = (sys.executable, "-m", "wsopt.cli"),
        patience: float = 5.0,
    ) -> None:
        self._cells = cells
        self._logs = logs
        self._names = log_names(cells.cells)
        self._manifest = manifest
        self._watch = watch
        self._pause = pause
        self._retry = retry
        self._clock = clock
        self._program = program
        self._patience = patience
        self._watched = {cell: Watched(cell.folder) for cell in cells.cells}
        self._waiting = list(cells.cells)
        self._not_before: dict[Cell, float] = {}
        self._running: list[Child] = []
        self._finished: list[Cell] = []
        self._failures: list[Failure] = []

    def run(self) -> list[Failure]:
        """Run what is not done.

        Returns:
            The cells that failed.

        Raises:
            Interrupted: where the user asked for a stop before all was done; what ran has ended by then.
        """
        self._skip_finished()
        self._manifest.write()
        try:
            while self._running or (self._waiting and not self._watch.should_stop()):
                if self._watch.should_stop():
                    for child in self._running:
                        child.stop()
                else:
                    self._start()
                self._show()
                time.sleep(self._pause)
                self._reap()
        finally:
            end(self._running, self._patience)
        if self._waiting:
            raise Interrupted(
                f"stopped with {len(self._finished)} of {len(self._cells.cells)} runs finished; nothing is lost."
            )
        return self._failures

    # ---- starting

    def _skip_finished(self) -> None:
        for cell in self._cells.cells:
            if is_finished(cell.folder, cell.config.budget):
                self._waiting.remove(cell)
                self._finish(cell)
            else:
                self._watched[cell].look()
        if self._finished:
            self._watch.line(f"{len(self._finished)} of {len(self._cells.cells)} runs are finished already")

    def _start(self) -> None:
        while len(self._running) < self._cells.jobs:
            cell = next((cell for cell in self._waiting if self._may_start(cell)), None)
            if cell is None:
                return
            self._waiting.remove(cell)
            if is_finished(cell.folder, cell.config.budget):  # by the process that held it
                self._finish(cell)
                continue
            again = self._watched[cell].evaluations
            log = self._logs / self._names[cell.folder]
            self._running.append(Child(cell, log, self._watched[cell], self._program))
            self._manifest.set(cell, "running")
            at = f" goes on after {again} evaluations" if again else ""
            self._watch.line(f"started   {_title(cell)}{at}: {cell.folder}")

    def _may_start(self, cell: Cell) -> bool:
        """Not before its time, and not while another one trains the same checkpoints."""
        if self._clock() < self._not_before.get(cell, float("-inf")):
            return False
        training = [child.cell.training for child in self._running if not child.watched.begun]
        return cell.training is None or cell.training not in training

    # ---- ending

    def _reap(self) -> None:
        for child in list(self._running):
            code = child.code()
            if code is not None:
                self._running.remove(child)
                child.watched.look()
                self._ended(child, code)

    def _ended(self, child: Child, code: int) -> None:
        cell = child.cell
        said = "" if code == ExitCode.OK else child.said()
        if code == ExitCode.OK:
            best = "" if child.watched.best is None else f", best {child.watched.best:.4g}"
            taken = duration(time.monotonic() - child.begin)
            self._watch.line(f"finished  {_title(cell)}: {child.watched.evaluations} evaluations{best}, {taken}")
            self._finish(cell)
        elif child.stopped:
            self._waiting.append(cell)
            self._manifest.set(cell, "stopped")
        elif code == ExitCode.RESUME and _IN_USE in said:
            if cell not in self._not_before:
                self._watch.line(f"waiting   {_title(cell)}: {cell.folder} {_IN_USE}")
            self._not_before[cell] = self._clock() + self._retry
            self._waiting.append(cell)
            self._manifest.set(cell, "waiting")
        else:
            message = said if code > 0 else f"ended by signal {-code}; its last words: {said}"
            self._failures.append(Failure(cell, code, message))
            self._manifest.set(cell, "failed", message)
            self._watch.line(f"failed    {_title(cell)}: {message}")

    def _finish(self, cell: Cell) -> None:
        self._finished.append(cell)
        self._manifest.set(cell, "done")

    # ---- showing

    def _show(self) -> None:
        rows = []
        for child in self._running:
            child.watched.look()
            seen = child.watched
            seconds = time.monotonic() - child.begin
            rows.append(Row(child.cell, seen.evaluations, seen.best, seen.begun, seconds))
        done = sum(cell.config.budget for cell in self._finished)
        done += sum(watched.evaluations for cell, watched in self._watched.items() if cell not in self._finished)
        self._watch.show(rows, done, sum(cell.config.budget for cell in self._cells.cells))


def _title(cell: Cell) -> str:
    return f"{cell.method} ({cell.instance})"
