"""The guard against luck with the search's noise: what improves is scored on the validation split, and chosen there.

Nothing here reaches the optimizer or is charged to the budget. With `validation.samples = 0` nothing happens at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsopt.config import Config
from wsopt.errors import InputError
from wsopt.run._session import Session, outcome_event
from wsopt.run._tally import Tally, Trial
from wsopt.types import Coefficients, FloatArray, Job


@dataclass(frozen=True, eq=False)
class Point:
    """A combination that is scored on the validation split.

    Args:
        name: as in the journal: a trial's, ``recommended`` or ``shrink-SHARE``.
        target: its coefficients.
        evaluation: how many evaluations of the search were done when it was found.
        search: its score on the search split; None where it has none.
        origin: the trial (or ``recommended``) that it is, or is a mix with the best EMA of.
        share: how much of it is the best EMA, in [0, 1).
        value: its score on the validation split; None where it failed, or is not scored yet.
    """

    name: str
    target: Coefficients
    evaluation: int
    search: float | None
    origin: str
    share: float = 0.0
    value: float | None = None


class Validation:
    """Scores on the validation split, in the order in which they are journalled."""

    def __init__(self, session: Session, tally: Tally) -> None:
        self._session = session
        self._tally = tally
        self._settings = session.config.validation
        self._looked_at = 0
        self._best_loss = float("inf")
        self._improved_at = 0
        self.points: list[Point] = []
        self.stopped = False

    @property
    def on(self) -> bool:
        """Whether anything is validated."""
        return self._settings.samples > 0

    @property
    def best(self) -> Point | None:
        """The lowest loss on the validation split, the earliest of equals; None where nothing has a score."""
        sign = self._tally.sign
        scored = [(sign * point.value, at) for at, point in enumerate(self.points) if point.value is not None]
        return self.points[min(scored)[1]] if scored else None

    def begin(self) -> None:
        """Score the best of the baselines, from which the search has to improve."""
        if not self.on:
            return
        self._improved_at = self._looked_at = len(self._tally.trials)
        best = self._tally.best(self._tally.combinations)
        if best is not None:
            self._best_loss = self._tally.sign * float(best.value or 0.0)
            self._score([_of(best)], [best])

    def follow(self) -> None:
        """Score every improvement of the best combination among the trials since the last call."""
        if not self.on:
            return
        improved: list[Trial] = []
        for trial in self._tally.trials[self._looked_at :]:
            loss = self._tally.loss(trial)
            if loss is not None and loss < self._best_loss:
                self._best_loss = loss
                improved.append(trial)
        self._looked_at = len(self._tally.trials)
        before = self.best
        self._score([_of(trial) for trial in improved], improved)
        if (after := self.best) is not None and after is not before:
            self._improved_at = after.evaluation

    def left(self) -> int | None:
        """Evaluations of the search until it ends for want of a better validation score; None where it never does.

        An ask of no more than these makes the end a matter of the evaluations alone, however they were asked for.
        """
        if not self.on or self._settings.patience is None:
            return None
        return max(0, self._settings.patience - (self._looked_at - self._improved_at))

    def conclude(self, recommended: FloatArray, best_ema: Trial | None) -> None:
        """After the search: score what the optimizer recommends, then mixes of the best so far with the best EMA.

        Args:
            recommended: ``[G, K]`` coefficients.
            best_ema: the best EMA that is given by coefficients.
        """
        if not self.on:
            return
        done = len(self._tally.trials)
        if not any(np.array_equal(point.target.values, recommended) for point in self.points):
            self._score([Point("recommended", Coefficients(recommended), done, None, "recommended")])
        best = self.best
        ema = best_ema and best_ema.target
        if best is None or not isinstance(ema, Coefficients) or np.array_equal(ema.values, best.target.values):
            return
        self._score([_mix(best, ema, share) for share in dict.fromkeys(self._settings.shrinkage)])

    @property
    def shown(self) -> dict[str, str]:
        """The best so far, for the line of progress."""
        best = self.best
        return {} if best is None else {"validation": f"{best.value:.3f} ({best.name})"}

    def _score(self, points: Sequence[Point], trials: Sequence[Trial] = ()) -> None:
        """Score points in order, from the journal where they are there already.

        `trials` are the trials that the points are: they are merged in the slot that they had in the search, so the
        weights are the same to the bit.
        """
        session = self._session
        jobs = []
        for number, point in enumerate(points):
            event = session.journal.recall("validated", name=point.name, evaluation=point.evaluation)
            if event is None:
                slot = trials[number].slot if trials else number
                baseline = bool(trials) and trials[number].baseline is not None
                jobs.append(Job(number, point.target, "validation", self._settings.samples, slot, remember=baseline))
            else:
                self.points.append(_scored(point, event.get("value")))
        for outcome in session.engine.evaluate(jobs):
            point = points[outcome.id]
            event = outcome_event("validated", outcome, name=point.name, evaluation=point.evaluation)
            event.pop("stderr", None)  # not computed on this split
            session.journal.record(event)
            self.points.append(_scored(point, event.get("value")))
            session.note("validation", point.name, outcome)
            session.stop_if_asked()


def check_validation(config: Config) -> None:
    """Raise InputError where `validation.patience` is set and nothing is validated."""
    if config.validation.patience is not None and config.validation.samples == 0:
        raise InputError(
            "validation.patience ends the search for want of a better validation score, but validation.samples = 0 "
            "scores none. Set validation.samples, or leave patience out."
        )


def _of(trial: Trial) -> Point:
    assert isinstance(trial.target, Coefficients)
    return Point(trial.name, trial.target, trial.evaluation, trial.value, trial.name)


def _mix(best: Point, ema: Coefficients, share: float) -> Point:
    alpha = share * ema.values + (1.0 - share) * best.target.values
    return Point(f"shrink-{share:g}", Coefficients(alpha), best.evaluation, None, best.origin, share)


def _scored(point: Point, value: float | None) -> Point:
    return Point(point.name, point.target, point.evaluation, point.search, point.origin, point.share, value)
