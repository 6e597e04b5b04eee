"""What has been scored on the search split so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from wsopt.run._baselines import Baseline
from wsopt.types import Coefficients, Target


@dataclass(frozen=True, eq=False)
class Trial:
    """A target with its search score.

    Args:
        name: the baseline's, or ``trial ID``.
        target: its coefficients or weights.
        value: the score; None where it failed.
        stderr: its standard error.
        evaluation: which evaluation of the run it was, from 1.
        slot: `Job.slot` it was evaluated in.
        baseline: which one it is; None for a candidate.
        failure: why there is no score.
    """

    name: str
    target: Target
    value: float | None
    stderr: float | None
    evaluation: int
    slot: int
    baseline: Baseline | None = None
    failure: str | None = None


@dataclass
class Tally:
    """Everything scored on the search split, in the order of evaluation; loss = sign * value."""

    sign: float
    trials: list[Trial] = field(default_factory=list)

    def loss(self, trial: Trial) -> float | None:
        """The minimised number."""
        return None if trial.value is None else self.sign * trial.value

    def best(self, trials: Sequence[Trial] | None = None) -> Trial | None:
        """Lowest loss, the earliest of equals; None where all failed."""
        scored = [(self.loss(trial), trial) for trial in (self.trials if trials is None else trials)]
        valid = [(loss, trial) for loss, trial in scored if loss is not None]
        return min(valid, key=lambda pair: (pair[0], pair[1].evaluation))[1] if valid else None

    def of_kind(self, *kinds: str) -> list[Trial]:
        """The baselines of some kinds."""
        return [trial for trial in self.trials if trial.baseline is not None and trial.baseline.kind in kinds]

    @property
    def baselines(self) -> int:
        """How many of the trials are baselines."""
        return sum(trial.baseline is not None for trial in self.trials)

    @property
    def combinations(self) -> list[Trial]:
        """All trials given by coefficients: the space that the search searches."""
        return [trial for trial in self.trials if isinstance(trial.target, Coefficients)]
