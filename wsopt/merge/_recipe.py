"""A recipe: the coefficients of a merge, one per checkpoint and layer group, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from wsopt.errors import InputError
from wsopt.parameterizations import absolute_sum, amplifies
from wsopt.types import FloatArray
from wsopt.weightspace import Grouping, one_hot

_SUM_TOLERANCE: Final = 1e-6
_EXACT_SUM: Final = 1e-12


@dataclass(frozen=True, eq=False)
class Recipe:
    """What is combined with what.

    Args:
        label: where the coefficients come from, ``ema:0.999`` or a file's name.
        steps: training steps of the K checkpoints; of a post-hoc EMA several may be alike.
        values: ``[G, K]`` float64, finite.
        groups: names of the G layer groups.
        grouping: gives the layer group of each tensor; None where all share their coefficients.
        facts: what else is known of them, as JSON values: the run, the profile error.
        names: what each of the K is called where its step alone does not tell; empty where it does.
        notes: what the user should know besides `warnings`, one sentence each.
        partial: whether a layer group without coefficients is no error: a run has none of groups whose tensors are
            equal in all checkpoints.

    Raises:
        InputError: where the shapes do not agree or a coefficient is not finite.
    """

    label: str
    steps: tuple[int, ...]
    values: FloatArray
    groups: tuple[str, ...] = ("all",)
    grouping: Grouping | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    partial: bool = False

    def __post_init__(self) -> None:
        expected = (len(self.groups), len(self.steps))
        if self.values.shape != expected:
            raise InputError(
                f"{self.label}: the coefficients are {list(self.values.shape)}, expected {expected[0]} layer groups x "
                f"{expected[1]} checkpoints."
            )
        for group, index in np.argwhere(~np.isfinite(self.values)):
            raise InputError(
                f"{self.label}: the coefficient of step {self.steps[index]}{self._of(group)} is "
                f"{self.values[group, index]}. Give finite numbers."
            )

    @property
    def sums(self) -> tuple[float, ...]:
        """Sum of the coefficients of each group."""
        return tuple(float(np.sum(row, dtype=np.float64)) for row in self.values)

    @property
    def sum_abs(self) -> float:
        """Largest sum of absolute coefficients of a group: how much the checkpoints' own errors are amplified."""
        return absolute_sum(self.values)

    @property
    def sums_to_one(self) -> bool:
        """True where every group's coefficients sum to 1 beyond what any combined dtype resolves."""
        return all(abs(total - 1.0) <= _EXACT_SUM for total in self.sums)

    @property
    def single(self) -> int | None:
        """The checkpoint that one-hot coefficients select in every group, or None."""
        return one_hot(self.values)

    @property
    def used(self) -> tuple[int, ...]:
        """The checkpoints with a coefficient other than zero, in order."""
        return tuple(int(index) for index in np.flatnonzero(self.values.any(axis=0)))

    def name(self, index: int) -> str:
        """What checkpoint `index` is called in tables: its step, with its stream where several share one."""
        return self.names[index] if self.names else str(self.steps[index])

    def warnings(self) -> list[str]:
        """What a user should know before trusting the result; empty where there is nothing."""
        found = [
            f"the coefficients{self._of(group)} sum to {total:.9g}, not 1: the weights are scaled by that factor, "
            f"tensors that are equal in all checkpoints are not"
            for group, total in enumerate(self.sums)
            if abs(total - 1.0) > _SUM_TOLERANCE
        ]
        if amplifies(self.values):
            found.append(
                f"the absolute coefficients sum to {self.sum_abs:.3g}: rounding and noise in the checkpoints are "
                f"amplified that much"
            )
        return [*found, *self.notes]

    def as_json(self) -> dict[str, Any]:
        """Everything but the grouping, as JSON values; `read_table` reads it back."""
        return {
            "profile": self.label,
            "steps": list(self.steps),
            "groups": list(self.groups),
            "coefficients": self.values.tolist(),
            **({"names": list(self.names)} if self.names else {}),
            **self.facts,
        }

    def members(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """Layer group, as a row of `values`, of each tensor; of a `partial` recipe those without one are left out.

        Args:
            shapes: shape by name of the tensors.

        Raises:
            InputError: where a tensor falls into a group without coefficients.
        """
        found = None if self.grouping is None else self.grouping({name: tuple(shape) for name, shape in shapes.items()})
        if found is None:
            if len(self.groups) > 1:
                raise InputError(
                    f"{self.label}: there are {len(self.groups)} layer groups ({', '.join(self.groups[:3])}, ...) and "
                    f"nothing says which tensors belong to them. Add a grouping, or give the run's folder."
                )
            return dict.fromkeys(shapes, 0)
        rows = {group: row for row, group in enumerate(self.groups)}
        for name in () if self.partial else shapes:
            if found.get(name) not in rows:
                raise InputError(
                    f"{self.label}: tensor {name} belongs to the layer group {found.get(name)!r}, which has no "
                    f"coefficients (known: {', '.join(self.groups[:5])})."
                )
        return {name: rows[found[name]] for name in shapes if found.get(name) in rows}

    def _of(self, group: int) -> str:
        return f" of group {self.groups[group]!r}" if len(self.groups) > 1 else ""
