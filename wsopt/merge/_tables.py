"""Coefficient files: JSON, CSV, and the results of a run."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from wsopt.errors import InputError
from wsopt.parameterizations import PatternGroups
from wsopt.types import FloatArray

_STEP = re.compile(r"[0-9]{1,15}")
_FORMS: Final = (
    "a JSON object of steps and coefficients, a JSON list of one coefficient per checkpoint, a JSON object with "
    '"coefficients", a CSV with the columns step and coefficient, or a run\'s results.json'
)


@dataclass(frozen=True, eq=False)
class Table:
    """What a coefficient file says.

    Args:
        path: the file, for messages.
        values: ``[G, K]`` float64.
        steps: of the K columns; None where the file gives them in the checkpoints' order.
        groups: names of the G layer groups.
        patterns: regular expressions of the tensors of each group, in order; empty where the file has none.
        facts: further content worth keeping in the merged file, as JSON values.
    """

    path: Path
    values: FloatArray
    steps: tuple[int, ...] | None
    groups: tuple[str, ...] = ("all",)
    patterns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def aligned(self, steps: Sequence[int]) -> FloatArray:
        """The coefficients ``[G, K]`` in the order of `steps`.

        Raises:
            InputError: where a step is missing, unknown, or the number of coefficients is another.
        """
        count = self.values.shape[1]
        if self.steps is None:
            if count != len(steps):
                raise InputError(
                    f"{self.path} has {count} coefficients, and {len(steps)} checkpoints were chosen (steps {steps[0]} "
                    f"to {steps[-1]}). Give one per checkpoint, or name the steps."
                )
            return self.values
        unknown = [step for step in self.steps if step not in steps]
        if unknown:
            raise InputError(
                f"{self.path} has coefficients of {_some(unknown)}, which {_is(unknown)} not among the {len(steps)} "
                f"checkpoints chosen (steps {steps[0]} to {steps[-1]}). Choose them too, or take them out of the file."
            )
        missing = [step for step in steps if step not in self.steps]
        if missing:
            raise InputError(
                f"{self.path} has no coefficient of {_some(missing)}, which {_is(missing)} among the checkpoints "
                f"chosen. Write 0 for checkpoints to leave out, or choose fewer (--steps, --window)."
            )
        return self.values[:, [self.steps.index(step) for step in steps]]

    def grouping(self, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, str] | None:
        """Layer group of each tensor: the first whose patterns match anywhere in its name.

        Raises:
            InputError: where a tensor matches none.
        """
        groups = PatternGroups(
            [(group, pattern) for group, patterns in self.patterns.items() for pattern in patterns],
            strict=True,
            idle=True,
            name=f'{self.path}: the patterns of "grouping"',
            remedy='Add a last group with the pattern ".*" for the rest.',
        )
        return groups.assign(shapes)


def read_table(path: Path, which: str | None = None) -> Table:
    """Read a coefficient file.

    Args:
        path: JSON or CSV; told apart by what is in it.
        which: of a run's results: ``best``, ``validated``, ``recommended``, ``ema*``, ``best-ema`` or ``best-single``;
            None: what the run exported.

    Raises:
        InputError: naming the file and what is wrong in it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(f"{path} cannot be read: {reason}. Give {_FORMS}.") from error
    if text.lstrip()[:1] not in ("{", "["):
        return _from_csv(path, text)
    try:
        value: Any = json.loads(text, object_pairs_hook=lambda pairs: _object(path, pairs))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not JSON: {error}. Give {_FORMS}.") from error
    if isinstance(value, list):
        return Table(path, _matrix(path, value), None)
    if isinstance(value.get("coefficients"), dict):
        return _from_results(path, value, which)
    if "coefficients" in value:
        return _from_object(path, value)
    return _from_steps(path, list(value.items()))


def _object(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InputError(f"{path} names {twice!r} twice. Keep one of them.")
    return value


def _from_csv(path: Path, text: str) -> Table:
    rows = [row for row in csv.reader(text.splitlines()) if row and not row[0].lstrip().startswith("#")]
    if rows and [cell.strip().lower() for cell in rows[0]] == ["step", "coefficient"]:
        rows = rows[1:]
    pairs: list[tuple[str, object]] = []
    for row in rows:
        if len(row) != 2:
            raise InputError(f"{path}: the row {','.join(row)[:60]!r} is not step,coefficient. Give {_FORMS}.")
        try:
            pairs.append((row[0].strip(), float(row[1])))
        except ValueError as error:
            raise InputError(
                f"{path}: {row[1].strip()[:40]!r}, the coefficient of step {row[0].strip()[:20]}, is not a number."
            ) from error
    return _from_steps(path, pairs)


def _from_steps(path: Path, pairs: Sequence[tuple[str, object]]) -> Table:
    if not pairs:
        raise InputError(f"{path} holds no coefficients. Give {_FORMS}.")
    steps = []
    for key, _ in pairs:
        if not _STEP.fullmatch(key):
            raise InputError(f"{path}: {key[:40]!r} is not a training step. Give {_FORMS}.")
        if int(key) in steps:
            raise InputError(f"{path} names step {int(key)} twice. Keep one of them.")
        steps.append(int(key))
    return Table(path, _matrix(path, [value for _, value in pairs]), tuple(steps))


def _from_object(path: Path, value: Mapping[str, Any]) -> Table:
    values = _matrix(path, value["coefficients"])
    patterns = _patterns(path, value.get("grouping", {}))
    groups = _texts(path, "groups", value["groups"]) if "groups" in value else tuple(patterns) or ("all",)
    if len(groups) != len(values):
        raise InputError(f'{path}: "coefficients" has {len(values)} rows and there are {len(groups)} groups.')
    strangers = [group for group in groups if patterns and group not in patterns]
    if strangers:
        raise InputError(f'{path}: "grouping" has no patterns of the group {strangers[0]!r}.')
    facts = {"profile_of_file": value["profile"]} if isinstance(value.get("profile"), str) else {}
    return Table(path, values, _steps(path, value, values), groups, patterns, facts)


def _from_results(path: Path, value: Mapping[str, Any], which: str | None) -> Table:
    known = value["coefficients"]
    if which is None:
        exported = value.get("exported")
        which = exported if isinstance(exported, str) else "best"
    steps = _steps(path, value, None)
    if which not in known:
        raise InputError(f"{path} has no coefficients called {which!r} (known: {', '.join(known) or 'none'}).")
    name = which
    entry: Any = known[which]
    if isinstance(entry, dict) and "step" in entry and steps is not None:
        if entry["step"] not in steps:
            raise InputError(f"{path}: its step {entry['step']} of {which} is not among its steps.")
        entry = [[float(step == entry["step"]) for step in steps]] * len(value.get("groups") or ["all"])
    elif isinstance(entry, dict):
        entry, name = entry.get("values"), str(entry.get("name", which))
    if entry is None:
        raise InputError(
            f"{path} has no coefficients of {which}: there is none, or it is a training-time EMA, which is a file of "
            f"its own. Choose another with --which ({', '.join(key for key in known if known[key] is not None)})."
        )
    values = _matrix(path, entry)
    groups = _texts(path, "groups", value.get("groups", ["all"]))
    facts = {"run": value["name"], "which": name} if isinstance(value.get("name"), str) else {"which": name}
    if steps is None or len(steps) != values.shape[1] or len(groups) != len(values):
        raise InputError(f"{path} is damaged: its coefficients do not fit its steps and groups.")
    return Table(path, values, steps, groups, {}, facts)


def _matrix(path: Path, value: object) -> FloatArray:
    rows = value if isinstance(value, list) else []
    if rows and all(isinstance(row, list) for row in rows):
        if len({len(row) for row in rows}) != 1 or not rows[0]:
            raise InputError(f"{path}: its rows of coefficients differ in length, or are empty.")
    else:
        rows = [rows]
    if not rows[0]:
        raise InputError(f"{path} holds no coefficients. Give {_FORMS}.")
    for number in (number for row in rows for number in row):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise InputError(f"{path}: the coefficient {json.dumps(number)[:40]} is not a number.")
    return np.array([[_float(number) for number in row] for row in rows])


def _float(number: float) -> float:
    """`number`, or infinity for a whole number beyond float64; a recipe refuses what is not finite, naming the step."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _steps(path: Path, value: Mapping[str, Any], values: FloatArray | None) -> tuple[int, ...] | None:
    if "steps" not in value:
        return None
    steps = value["steps"]
    if not isinstance(steps, list) or any(type(step) is not int for step in steps) or len(set(steps)) < len(steps):
        raise InputError(f'{path}: "steps" is not a list of different whole numbers.')
    if values is not None and len(steps) != values.shape[1]:
        raise InputError(f"{path} has {values.shape[1]} coefficients and {len(steps)} steps.")
    return tuple(steps)


def _texts(path: Path, key: str, value: object) -> tuple[str, ...]:
    good = isinstance(value, list) and value and all(isinstance(one, str) for one in value)
    if not good or not isinstance(value, list) or len(set(value)) < len(value):
        raise InputError(f'{path}: "{key}" is not a list of different texts.')
    return tuple(value)


def _patterns(path: Path, value: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise InputError(f'{path}: "grouping" is not an object of group names and lists of regular expressions.')
    patterns = {name: _texts(path, f"grouping.{name}", texts) for name, texts in value.items()}
    for name, texts in patterns.items():
        for text in texts:
            try:
                re.compile(text)
            except re.error as error:
                raise InputError(f'{path}: "grouping.{name}": {text!r} is no regular expression: {error}.') from error
    return patterns


def _some(steps: Sequence[int]) -> str:
    more = f" and {len(steps) - 3} more" if len(steps) > 3 else ""
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(str(step) for step in steps[:3])}{more}"


def _is(steps: Sequence[int]) -> str:
    return "are" if len(steps) > 1 else "is"
