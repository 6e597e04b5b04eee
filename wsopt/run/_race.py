"""The races of a run: whom each candidate has to beat, and what is told of those who were given up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from wsopt.config import Config
from wsopt.errors import InputError
from wsopt.optimizers import Optimizer
from wsopt.run._journal import Event
from wsopt.run._session import outcome_event
from wsopt.types import Outcome, Partial, Race


class Races:
    """Scores at the stages of ``search.race``, by the full loss of whoever has them.

    A candidate races against the one whose loss is the optimizer's bar (`Optimizer.bar`). All that is known of the
    rivals comes from journal events, so a resumed run has the same races.

    Args:
        config: of the run.
        sign: +1 where the objective is minimised, -1 where it is maximised.
        off: whether nobody races whatever the config says.
    """

    def __init__(self, config: Config, sign: float, off: bool = False) -> None:
        self._objective = config.objective.name
        self._race = None if off else open_race(config, sign)
        self._sign = sign
        self._known: dict[float, tuple[Partial, ...]] = {}

    def learn(self, event: Event) -> None:
        """Keep the partial scores of a ``baseline`` or ``told`` event that has a full score."""
        if self._race is not None and event.get("value") is not None:
            partials = tuple(_partial(row) for row in event.get("partials", ()))
            self._known.setdefault(self._sign * event["value"], partials)

    def check(self) -> None:
        """Find out, once the baselines are scored, whether anyone can be compared.

        Raises:
            InputError: where no score so far has replicates.
        """
        if self._race is None or any(partial.replicates for found in self._known.values() for partial in found):
            return
        raise InputError(
            f"search.race = {list(self._race.stages)}: objective {self._objective} gave no replicates for any baseline "
            f"at these sample counts, so nothing could ever be given up. Leave search.race out, or name larger counts."
        )

    def against(self, bar: float | None) -> Race | None:
        """The race of candidates that have to be below `bar`, a loss that was told; None where races are off."""
        if self._race is None or bar is None:
            return self._race
        race = self._race
        return Race(race.stages, self._known.get(bar, ()), race.sign, race.margin)

    def told(self, outcome: Outcome, bar: float | None) -> Event:
        """The ``told`` event of a candidate. `loss` is what the optimizer is told, an estimate for one given up."""
        event = outcome_event("told", outcome, id=outcome.id)
        if outcome.failure is not None:
            return event
        if outcome.given_up:
            assert bar is not None, "nothing is given up without a rival"
            loss = self._estimate(outcome.partials[-1], bar)
        else:
            loss = self._sign * event["value"]
        return {"event": "told", "id": outcome.id, "loss": loss} | event

    def _estimate(self, last: Partial, bar: float) -> float:
        """The bar plus how far the candidate was behind at the stage; above the bar, however it rounds."""
        rival = next(one for one in self._known[bar] if one.samples == last.samples)
        return max(bar + self._sign * (last.value - rival.value), math.nextafter(bar, math.inf))


def open_race(config: Config, sign: float) -> Race | None:
    """The race of a baseline: scores at the stages are recorded and nothing is given up. None where races are off."""
    search = config.search
    return Race(tuple(search.race), (), sign, search.race_margin) if search.race else None


def race_warning(config: Config, optimizer: type[Optimizer]) -> str | None:
    """What to tell the user of a race that can give nobody up; None where it can, or where there is none."""
    if not config.search.race or optimizer.has_bar(config.optimizer.params):
        return None
    return (
        f"search.race gives nobody up: to optimizer {config.optimizer.name} with these keys every loss counts "
        f"(docs/objectives.md names those that it can spare). Leave it out."
    )


def race_facts(config: Config, events: Sequence[Event]) -> dict[str, Any] | None:
    """What racing did, for results.json; None where races are off.

    Args:
        config: of the run.
        events: of the journal.

    Returns:
        ``given_up``: number of candidates; ``samples_saved``: share of the samples of all evaluations on the search
        split, baselines included, that were not drawn; failed evaluations are left out.
    """
    if not config.search.race:
        return None
    scored = [event for event in events if event["event"] in ("baseline", "told") and "failure" not in event]
    drawn = [event["given_up"] for event in scored if "given_up" in event]
    full = config.search.samples
    saved = sum(full - samples for samples in drawn) / (full * len(scored)) if scored else 0.0
    return {"given_up": len(drawn), "samples_saved": saved}


def _partial(row: Sequence[Any]) -> Partial:
    samples, value, replicates = row
    return Partial(samples, value, tuple(replicates))
