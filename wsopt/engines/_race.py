"""Racing: an evaluation looks at its own score on the way, and ends where it is sure to lose.

The samples of a job are nested: the first n of them are the same for every candidate. So the difference of two scores
from the first n samples is a paired one, whose standard error is far below that of either score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wsopt.errors import InputError
from wsopt.objectives import AnyObjective, Objective
from wsopt.objectives.jackknife import paired_stderr
from wsopt.types import FloatArray, Job, Partial, Race


@dataclass(eq=False)
class Racer:
    """One evaluation's way through the stages of its race.

    Args:
        objective: the search's own, prepared.
        job: what is evaluated; without a race all its samples are one range and nothing is looked at.
    """

    objective: AnyObjective
    job: Job
    partials: list[Partial] = field(default_factory=list)
    """The scores at the stages reached, of those that are finite."""
    given_up: bool = False

    def ranges(self) -> Iterator[range]:
        """Sample indices up to each stage, then the rest; no more once the evaluation is given up.

        A stage ends a batch, so all evaluations of a run have the same batches and round alike.
        """
        stages = self.job.race.stages if self.job.race is not None else ()
        first = 0
        for last in (*stages, self.job.samples):
            if self.given_up:
                return
            yield range(first, last)
            first = last

    def look(self, acc: Any, samples: int) -> None:  # noqa: ANN401 - whatever the objective accumulates in
        """Take the score of the first `samples` samples, where that is a stage, and decide."""
        race = self.job.race
        if race is None or samples not in race.stages:
            return
        value = float(self.objective.score(acc, stderr=False).value)
        if not np.isfinite(value):
            # The whole set of samples decides whether the candidate has failed.
            return
        partial = Partial(samples, value, _numbers(self.objective.replicates(acc)))
        self.partials.append(partial)
        self.given_up = is_behind(partial, race)


def is_behind(own: Partial, race: Race) -> bool:
    """Whether a score is behind the rival's at the same stage by more than the margin.

    Behind by more than ``race.margin`` times the jackknife standard error of the paired difference; never where the
    rival has no score at this stage, or the error is not known.
    """
    rival = next((one for one in race.rival if one.samples == own.samples), None)
    if rival is None:
        return False
    error = paired_stderr(own.replicates, rival.replicates)
    return error is not None and race.sign * (own.value - rival.value) > race.margin * error


def check_race(stages: tuple[int, ...], name: str, objective: AnyObjective) -> None:
    """Find out before the first evaluation whether an objective can be raced.

    Args:
        stages: ``search.race``; nothing is checked where it is empty.
        name: what the objective is registered as.
        objective: the search's own.

    Raises:
        InputError: for an objective on weights, which has no samples, and for one without `Objective.replicates`.
    """
    if not stages:
        return
    if not objective.takes_samples:
        raise InputError(
            f"search.race = {list(stages)}: objective {name} looks at the weights and at no samples, so there is "
            f"nothing to end early. Leave search.race out."
        )
    if type(objective).replicates is Objective.replicates:
        raise InputError(
            f"search.race = {list(stages)}: objective {name} has no replicates, so nobody knows how certain a score "
            f"from few samples is. Leave search.race out, or give the objective the method replicates "
            f"(wsopt.objectives.Objective.replicates)."
        )


def _numbers(replicates: FloatArray | None) -> tuple[float, ...]:
    """Plain numbers; none of them where one is not finite, since no error can be computed then."""
    if replicates is None or not np.isfinite(replicates).all():
        return ()
    return tuple(float(value) for value in replicates)
