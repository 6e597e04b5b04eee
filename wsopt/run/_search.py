"""The two stages that spend the budget: baselines, then the search. Both run again identically when resumed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from wsopt.errors import ResumeError, WsoptError
from wsopt.optimizers import Optimizer, SearchSpace
from wsopt.parameterizations import Parameterization
from wsopt.progress import Stage
from wsopt.run._baselines import Baseline, check_feasible, ema_baseline, first_baselines, is_start, next_rate
from wsopt.run._journal import Event
from wsopt.run._race import Races, open_race
from wsopt.run._session import Session, outcome_event
from wsopt.run._tally import Tally, Trial
from wsopt.run._validation import Validation
from wsopt.seeding import child_generator
from wsopt.types import Candidate, Coefficients, FloatArray, Job, Outcome, Result, SpaceInfo, Start, WeightsFile

_ASK = 32
"""Most candidates per ask: two merge blocks, so that an optimizer with large generations does not fill the memory."""


def score_baselines(session: Session, info: SpaceInfo, emas: Mapping[str, WeightsFile], tally: Tally) -> None:
    """Score all baselines on the search split, extending the grid of EMA rates where an end of it wins.

    Raises:
        InputError: where the budget does not cover them, or a former run does not fit these checkpoints.
    """
    pending = first_baselines(session.config, info.steps, emas, info.groups)
    check_feasible(session.config, pending)
    extensions = session.config.baselines.extend
    with session.progress.stage("baselines", len(pending)) as stage:
        while pending:
            stage.resize(len(tally.trials) + len(pending), len(tally.trials))
            _score_baselines(session, pending, tally, stage)
            pending = []
            rates = {
                trial.baseline.rate: loss
                for trial in tally.of_kind("ema")
                if trial.baseline and trial.baseline.rate and (loss := tally.loss(trial)) is not None
            }
            rate = next_rate(rates) if extensions > 0 else None
            if rate is not None:
                extensions -= 1
                pending = [ema_baseline(info.steps, rate, info.num_groups)]


def _score_baselines(session: Session, baselines: Sequence[Baseline], tally: Tally, stage: Stage) -> None:
    first = len(tally.trials)
    jobs = []
    samples, race = session.config.search.samples, open_race(session.config, session.sign)
    for offset, baseline in enumerate(baselines):
        event = session.journal.recall("baseline", name=baseline.name)
        if event is None:
            slot = first + offset
            jobs.append(Job(offset, baseline.target, "search", samples, slot, remember=True, race=race))
        else:
            _count_baseline(tally, baseline, event)
    for outcome in session.engine.evaluate(jobs):
        baseline = baselines[outcome.id]
        kind = "coefficients" if isinstance(baseline.target, Coefficients) else "weights"
        event = outcome_event("baseline", outcome, name=baseline.name, kind=kind)
        session.journal.record(event)
        _count_baseline(tally, baseline, event)
        session.note("baselines", baseline.name, outcome)
        best = tally.best()
        facts = {"best": f"{best.value:.3f} ({best.name})"} if best else {}
        stage.update(len(tally.trials), **facts)
        session.stop_if_asked()


def _count_baseline(tally: Tally, baseline: Baseline, event: Event) -> None:
    number = len(tally.trials) + 1
    value, stderr, failure = event.get("value"), event.get("stderr"), event.get("failure")
    trial = Trial(baseline.name, baseline.target, value, stderr, number, number - 1, baseline, failure)
    tally.trials.append(trial)


class Search:
    """The ask/tell loop of one run.

    Raises:
        WsoptError: where all baselines that fit `search.starts` have failed.
    """

    def __init__(
        self,
        session: Session,
        parameterization: Parameterization,
        optimizer_class: type[Optimizer],
        tally: Tally,
        validation: Validation,
    ) -> None:
        config = session.config
        self._session = session
        self._validation = validation
        self._parameterization = parameterization
        self._tally = tally
        self._failures = 0
        self._optimizer_seconds = 0.0
        starts = self._starts()
        self.optimizer = optimizer_class(
            config.optimizer.params,
            SearchSpace(parameterization.dimension, parameterization.scale()),
            starts,
            child_generator(config.seed, "optimizer", config.optimizer.name),
            config.budget - len(tally.trials),
        )
        self._races = self._begin_races()

    def run(self) -> None:
        """Spend the budget, or until the optimizer or the patience of the validation is done."""
        session = self._session
        try:
            self._validation.begin()
            with session.progress.stage("search", session.config.budget, len(self._tally.trials)) as stage:
                self._spend(stage)
        finally:
            session.timings.write({"event": "optimizer", "seconds": self._optimizer_seconds})

    def _spend(self, stage: Stage) -> None:
        while (remaining := self._session.config.budget - len(self._tally.trials)) > 0:
            if self.optimizer.finished():
                return
            left = self._validation.left()
            if left == 0:
                self._validation.stopped = True
                return
            self._skip_former_end()
            candidates = self._ask(remaining if left is None else min(remaining, left))
            if not candidates:
                return
            self._evaluate(candidates, stage)
            self._validation.follow()

    def recommended(self) -> FloatArray:
        """Coefficients ``[G, K]`` that the optimizer recommends."""
        alpha: FloatArray = self._parameterization.coefficients(self.optimizer.recommend()[None])
        shared: FloatArray = alpha[0]
        return shared

    def _begin_races(self) -> Races:
        config = self._session.config
        off = not self.optimizer.has_bar(config.optimizer.params)
        races = Races(config, self._session.sign, off)
        if off:
            return races
        for event in self._session.journal.events:
            if event["event"] == "baseline":
                races.learn(event)
        races.check()
        return races

    def _starts(self) -> list[Start]:
        named = [trial for trial in self._tally.combinations if is_start(self._session.config, trial.name)]
        starts = [
            Start(trial.name, self._parameterization.initial(trial.target.values), loss)
            for trial in named
            if isinstance(trial.target, Coefficients) and (loss := self._tally.loss(trial)) is not None
        ]
        if not starts:
            raise WsoptError(
                f"all {len(named)} baselines that the search would begin from failed, the first ({named[0].name}) "
                f"with: {named[0].failure}. Every reason is in {self._session.folder.journal}."
            )
        return starts

    def _skip_former_end(self) -> None:
        """Pass over the end of a run that ended at a smaller budget and is now continued: all after its last batch."""
        journal = self._session.journal
        while journal.recall("validated") or journal.recall("report") or journal.recall("finished"):
            if self.optimizer.uses_budget:
                raise ResumeError(
                    f"optimizer {self.optimizer.name} depends on the budget, so this finished run cannot be continued "
                    f"with budget {self._session.config.budget}. Start another run with that budget (another name)."
                )

    def _ask(self, remaining: int) -> list[Candidate]:
        recorded = self._session.journal.peek()
        replayed = recorded is not None and recorded["event"] == "asked"
        count = len(recorded["ids"]) if recorded is not None and replayed else min(_ASK, remaining)
        begin = time.perf_counter()
        candidates = self.optimizer.ask(count)
        self._optimizer_seconds += time.perf_counter() - begin
        if candidates:
            points = [candidate.x.tolist() for candidate in candidates]
            self._session.journal.record({"event": "asked", "ids": [c.id for c in candidates], "x": points})
        return candidates

    def _evaluate(self, candidates: Sequence[Candidate], stage: Stage) -> None:
        session = self._session
        # Before the first result is told, so that it does not matter where the run was interrupted.
        bar = self.optimizer.bar()
        race = self._races.against(bar)
        asked = {candidate.id: candidate for candidate in candidates}
        while (event := session.journal.peek()) is not None and event["event"] == "told":
            if event["id"] not in asked:
                raise session.journal.mismatch({"event": "told", "id": sorted(asked)})
            session.journal.recall("told")
            self._take(asked.pop(event["id"]), event)
        if len(asked) < len(candidates):
            stage.resize(session.config.budget, len(self._tally.trials))
        if not asked:
            return
        alpha = self._parameterization.coefficients(np.stack([candidate.x for candidate in asked.values()]))
        jobs = [
            Job(candidate.id, Coefficients(row), "search", session.config.search.samples, candidate.id, race=race)
            for candidate, row in zip(asked.values(), alpha, strict=True)
        ]
        for outcome in session.engine.evaluate(jobs):
            self._tell(asked[outcome.id], outcome, self._races.told(outcome, bar), stage)
            session.stop_if_asked()

    def _tell(self, candidate: Candidate, outcome: Outcome, event: Event, stage: Stage) -> None:
        session = self._session
        session.journal.record(event)
        self._take(candidate, event)
        session.note("search", str(candidate.id), outcome)
        best = self._tally.best(self._tally.combinations)
        last = "failed" if outcome.failure else "given up" if outcome.given_up else f"{event['value']:.3f}"
        found = f"{best.value:.3f} ({best.name})" if best else "-"
        stage.update(len(self._tally.trials), best=found, **self._validation.shown, last=last)

    def _take(self, candidate: Candidate, event: Event) -> None:
        """Count a result, new or replayed, and tell the optimizer."""
        target = Coefficients(self._parameterization.coefficients(candidate.x[None])[0])
        number = len(self._tally.trials) + 1
        trial = Trial(f"trial {candidate.id}", target, event.get("value"), event.get("stderr"), number, candidate.id)
        self._tally.trials.append(trial)
        self._races.learn(event)
        begin = time.perf_counter()
        # Of a candidate that was given up the optimizer is told an estimate, and the tally gets no score.
        loss = event["loss"] if "given_up" in event else self._tally.loss(trial)
        self.optimizer.tell([Result(candidate.id, loss)])
        self._optimizer_seconds += time.perf_counter() - begin
        self._failures = 0 if loss is not None else self._failures + 1
        if self._failures >= self._session.config.search.max_failures:
            raise WsoptError(
                f"{self._failures} candidates in a row failed, the last with: {event.get('failure')}. "
                f"Every one is in {self._session.folder.journal}; lower the optimizer's step or mend the cause."
            )
