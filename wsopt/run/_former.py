"""Former runs whose winners are baselines (`baselines.runs`), brought to this run's window by training step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsopt.config import Config
from wsopt.errors import InputError
from wsopt.report import RunRecord
from wsopt.types import FloatArray


@dataclass(frozen=True, eq=False)
class FormerRun:
    """The winner of a finished run.

    Args:
        path: the run's folder.
        steps: training steps of its K checkpoints.
        groups: names of its G layer groups.
        values: ``[G, K]`` float64, the coefficients that it exported.
    """

    path: Path
    steps: tuple[int, ...]
    groups: tuple[str, ...]
    values: FloatArray

    @property
    def name(self) -> str:
        """As a baseline: ``run-FOLDER``."""
        return f"run-{self.path.name}"

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of the coefficients with their steps and groups."""
        digest = hashlib.sha256(repr((self.steps, self.groups)).encode())
        digest.update(np.ascontiguousarray(self.values).tobytes())
        return digest.hexdigest()

    def onto(self, steps: Sequence[int], groups: Sequence[str] | None) -> FloatArray:
        """The coefficients on another window, 0 for checkpoints that the former run did not have.

        Args:
            steps: training steps of the K checkpoints of this run.
            groups: names of its G layer groups; None where they are not known yet, then those of the former run.

        Returns:
            ``[G, K]`` float64.

        Raises:
            InputError: where a step that has a coefficient is missing here, or coefficients are per layer group and
                the groups here are others.
        """
        at = {step: column for column, step in enumerate(steps)}
        used = [bool(column.any()) for column in self.values.T]
        missing = [step for step, weight in zip(self.steps, used, strict=True) if weight and step not in at]
        if missing:
            raise InputError(
                f"baselines.runs: {self.path} combines checkpoints of steps {_listed(missing)}, which this run's "
                f"window does not have. Widen [checkpoints] to hold them, or leave the run out."
            )
        rows = self._rows(groups)
        found = np.zeros((len(rows), len(steps)))
        for column, step in enumerate(self.steps):
            if used[column]:
                found[:, at[step]] = rows[:, column]
        return found

    def _rows(self, groups: Sequence[str] | None) -> FloatArray:
        if groups is None:
            return self.values
        if len(self.values) == 1:
            return np.tile(self.values, (len(groups), 1))
        if set(self.groups) != set(groups):
            raise InputError(
                f"baselines.runs: {self.path} has coefficients for each of {len(self.groups)} layer groups "
                f"({_listed(self.groups)}), this run has {_listed(groups)}. Use the parameterization of that run, or "
                f"leave it out."
            )
        return self.values[[self.groups.index(name) for name in groups]]


def former_runs(config: Config) -> list[FormerRun]:
    """Read what `baselines.runs` names.

    Raises:
        InputError: for a folder that is no finished run, or two of one name.
    """
    found: list[FormerRun] = []
    for path in config.baselines.runs:
        former = _read(path)
        if any(one.name == former.name for one in found):
            raise InputError(
                f"baselines.runs names two folders called {path.name}, and both would be the baseline {former.name}. "
                f"Rename one of them."
            )
        found.append(former)
    return found


def _read(path: Path) -> FormerRun:
    try:
        record = RunRecord.load(path)
    except InputError as error:
        raise InputError(f"baselines.runs: {error}") from error
    values = record.coefficients(record.exported)
    assert values is not None  # what RunRecord.load has checked
    return FormerRun(path, record.steps, record.groups, values)


def _listed(items: Sequence[object], most: int = 8) -> str:
    shown = ", ".join(str(item) for item in items[:most])
    return shown + (f", ... ({len(items)} in all)" if len(items) > most else "")
