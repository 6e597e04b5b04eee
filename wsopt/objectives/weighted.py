"""`weighted`: several objectives from one pass over the samples, as one number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from wsopt.errors import InputError
from wsopt.objectives._base import AnyObjective, Objective
from wsopt.objectives.jackknife import stderr_of
from wsopt.types import Batch, FloatArray, Score


@dataclass(frozen=True, eq=False)
class Part:
    """One objective of several.

    Args:
        objective: any but another `Weighted`.
        features: name of the features that it is given (`Batch.extracted`); None where it looks at none.
        weight: factor of its loss, which is its value, or minus its value where that is to be large; finite, not 0.
    """

    objective: AnyObjective
    features: str | None = None
    weight: float = 1.0

    @property
    def factor(self) -> float:
        """What its value is multiplied by: negative where it is to be large."""
        sign = 1.0 if self.objective.direction == "minimize" else -1.0
        return sign * self.weight


class Weighted(Objective[list[Any]]):
    """The sum over the parts of weight * value, values that are to be large counted negative. Lower is better.

    Without unit. NaN where a part is not finite. The parts' accumulators are kept side by side, so it can be merged and
    raced wherever they can.

    Args:
        parts: at least one; their objectives have to be prepared before samples are added.

    Raises:
        InputError: for no parts, or a weight of 0.
    """

    name = "weighted"

    def __init__(self, parts: Sequence[Part]) -> None:
        if not parts:
            raise InputError("objective weighted has no parts: give [[objective.parts]].")
        for part in parts:
            if not math.isfinite(part.weight) or part.weight == 0:
                raise InputError(
                    f"objective weighted: part {part.objective.name} has the weight {part.weight}. "
                    f"Give a finite weight that is not 0."
                )
        self.parts = tuple(parts)
        self.needs = "images" if any(part.objective.takes_samples for part in parts) else "weights"

    @property
    def digest(self) -> str:
        """See `Objective.digest`: those of the parts together, empty where no part has one."""
        found = [part.objective.digest for part in self.parts]
        return " ".join(found) if any(found) else ""

    @property
    def takes_weights(self) -> bool:
        """See `Objective.takes_weights`: where one of the parts does."""
        return any(part.objective.takes_weights for part in self.parts)

    @property
    def takes_samples(self) -> bool:
        """See `Objective.takes_samples`: where one of the parts does."""
        return any(part.objective.takes_samples for part in self.parts)

    def new(self) -> list[Any]:
        """See `Objective.new`: one accumulator for each part."""
        return [part.objective.new() for part in self.parts]

    def add(self, acc: list[Any], batch: Batch) -> list[Any]:
        """See `Objective.add`. Each part gets its own features out of ``batch.extracted``.

        Raises:
            InputError: where they are not there, and what the parts raise.
        """
        return [
            part.objective.add(one, _with_features(part, batch)) if part.objective.takes_samples else one
            for part, one in zip(self.parts, acc, strict=True)
        ]

    def add_weights(self, acc: list[Any], weights: dict[str, Tensor]) -> list[Any]:
        """See `Objective.add_weights`."""
        return [
            part.objective.add_weights(one, weights) if part.objective.takes_weights else one
            for part, one in zip(self.parts, acc, strict=True)
        ]

    def merge(self, first: list[Any], second: list[Any]) -> list[Any]:
        """See `Objective.merge`."""
        return [part.objective.merge(one, other) for part, one, other in zip(self.parts, first, second, strict=True)]

    def score(self, acc: list[Any], stderr: bool = True) -> Score:
        """See `Objective.score`.

        The standard error is that of the sum, from the parts' replicates: parts that move together count as such. None
        where a part that takes samples has no replicates, or another number of them.
        """
        scores = [part.objective.score(one, stderr) for part, one in zip(self.parts, acc, strict=True)]
        value = self._sum([score.value for score in scores])
        samples = max(score.samples for score in scores)
        if not stderr:
            return Score(value, None, samples)
        debiased = None
        if any(score.debiased is not None for score in scores):
            debiased = self._sum([score.value if score.debiased is None else score.debiased for score in scores])
        rows = [
            _replicates(part, score.replicates, score.value) for part, score in zip(self.parts, scores, strict=True)
        ]
        combined = self._combined(rows)
        known = () if combined is None else tuple(combined.tolist())
        return Score(value, stderr_of(combined), samples, debiased, known)

    def replicates(self, acc: list[Any]) -> FloatArray | None:
        """See `Objective.replicates`: the weighted sum of the parts' own; None where they do not pair up."""
        rows = []
        for part, one in zip(self.parts, acc, strict=True):
            if part.objective.takes_samples:
                found = part.objective.replicates(one)
                rows.append(_replicates(part, () if found is None else found, 0.0))
            else:
                rows.append(part.objective.score(one, False).value)
        return self._combined(rows)

    def _sum(self, values: Sequence[float]) -> float:
        """NaN where a value is not finite; infinities of two parts could cancel otherwise."""
        if not all(math.isfinite(value) for value in values):
            return math.nan
        return math.fsum(part.factor * value for part, value in zip(self.parts, values, strict=True))

    def _combined(self, rows: Sequence[FloatArray | float | None]) -> FloatArray | None:
        lengths = {len(row) for row in rows if isinstance(row, np.ndarray)}
        if len(lengths) != 1 or any(row is None or not np.isfinite(row).all() for row in rows):
            return None
        total = np.zeros(lengths.pop())
        for part, row in zip(self.parts, rows, strict=True):
            if row is not None:
                total += part.factor * row
        return total


def _with_features(part: Part, batch: Batch) -> Batch:
    if part.features is None:
        return replace(batch, features=None)
    output = part.objective.output
    try:
        return replace(batch, features=batch.extracted[part.features, output])
    except KeyError as error:
        raise InputError(
            f"objective weighted: the {output} of {part.features!r} that part {part.objective.name} needs were not "
            f"extracted."
        ) from error


def _replicates(part: Part, replicates: Sequence[float] | FloatArray, value: float) -> FloatArray | float | None:
    """An array; the value itself for a part on weights, which no sample moves; None where there are none."""
    if not part.objective.takes_samples:
        return value
    return np.asarray(replicates, dtype=np.float64) if len(replicates) else None
