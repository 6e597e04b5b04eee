"""Evaluations that look at their score on the way, and end where they are sure to lose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from toy_run import request_for, write_checkpoints, write_toml
from wsopt.checkpoints import SafetensorsReader, open_checkpoints
from wsopt.engines import Evaluator, EvaluatorSpec, InProcessEngine, RememberingEngine
from wsopt.engines._race import check_race, is_behind
from wsopt.errors import InputError
from wsopt.objectives import FrechetDistance, Objective
from wsopt.testing.analytic import AnalyticFamily
from wsopt.types import Batch, Coefficients, FloatArray, Job, Outcome, Partial, Race, Score

COUNT = 8
STAGES = (20, 60)
SAMPLES = 120


def spec_of(folder: Path) -> EvaluatorSpec:
    request = request_for(folder)
    checkpoints = open_checkpoints(folder / "checkpoints", [SafetensorsReader()])
    return EvaluatorSpec(request.config, request.registry, checkpoints)


@pytest.fixture(scope="module")
def evaluator(folder: Path) -> Evaluator:
    return Evaluator(spec_of(folder))


UNIFORM = np.full((1, COUNT), 1 / COUNT)
WORSE = np.array([[3.0, -3.0, 1.0, 0, 0, 0, 0, 0]])


def evaluate(evaluator: Evaluator, alpha: FloatArray, race: Race | None, samples: int = SAMPLES) -> Outcome:
    (outcome,) = evaluator.evaluate([Job(0, Coefficients(alpha), "search", samples, race=race)])
    assert outcome.failure is None
    return outcome


def rival(evaluator: Evaluator, alpha: FloatArray, **settings: float) -> Race:
    return Race(STAGES, evaluate(evaluator, alpha, Race(STAGES)).partials, **settings)


def test_partial_scores_are_the_scores_of_fewer_samples(evaluator: Evaluator) -> None:
    outcome = evaluate(evaluator, UNIFORM, Race(STAGES))
    assert not outcome.given_up
    assert [partial.samples for partial in outcome.partials] == list(STAGES)
    for partial in outcome.partials:
        fewer = evaluate(evaluator, UNIFORM, None, partial.samples).scores[0].score
        assert partial.value == pytest.approx(fewer.value, rel=1e-6)
        assert len(partial.replicates) >= 2
    plain = evaluate(evaluator, UNIFORM, None)
    assert plain.partials == ()
    assert outcome.scores[0].score.value == pytest.approx(plain.scores[0].score.value, rel=1e-6)


def test_who_is_far_behind_is_given_up_at_the_first_stage(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    race = rival(evaluator, UNIFORM)
    drawn: list[int] = []
    original = AnalyticFamily.sample

    def sample(self: AnalyticFamily, model: nn.Module, indices: Sequence[int], *rest: Any) -> Iterator[Batch]:
        drawn.extend(indices)
        return original(self, model, indices, *rest)

    monkeypatch.setattr(AnalyticFamily, "sample", sample)
    outcome = evaluate(evaluator, WORSE, race)
    assert outcome.given_up
    assert outcome.scores == ()
    assert [partial.samples for partial in outcome.partials] == [20]
    assert drawn == list(range(20))
    drawn.clear()
    assert not evaluate(evaluator, UNIFORM, race).given_up
    assert drawn == list(range(SAMPLES))


def test_the_one_ahead_is_never_given_up_and_direction_turns_it_around(evaluator: Evaluator) -> None:
    assert not evaluate(evaluator, UNIFORM, rival(evaluator, WORSE)).given_up
    assert evaluate(evaluator, UNIFORM, rival(evaluator, WORSE, sign=-1.0)).given_up
    assert not evaluate(evaluator, WORSE, rival(evaluator, UNIFORM, sign=-1.0)).given_up


def test_a_rival_changes_no_number(evaluator: Evaluator) -> None:
    alone, raced = (evaluate(evaluator, UNIFORM, race) for race in (Race(STAGES), rival(evaluator, WORSE, margin=0.5)))
    assert alone.partials == raced.partials
    assert alone.scores == raced.scores


def partial(value: float, replicates: Sequence[float] | FloatArray, samples: int = 20) -> Partial:
    return Partial(samples, value, tuple(replicates))


def test_behind_is_a_matter_of_the_paired_error() -> None:
    # Errors of each are large and common to both; that of the difference is sqrt(3 / 4 * 4 * 0.1^2) = 0.173.
    common = np.array([1.0, -1.0, 2.0, -2.0])
    own, other = 10.6 + common + [0.1, -0.1, 0.1, -0.1], 10.0 + common
    race = Race((20,), (partial(10.0, other),))
    assert is_behind(partial(10.6, own), race)
    assert not is_behind(partial(10.5, own), race)
    assert is_behind(partial(10.5, own), Race((20,), race.rival, margin=2.8))
    assert not is_behind(partial(9.4, own), race)
    assert is_behind(partial(9.4, own), Race((20,), race.rival, sign=-1.0))


@pytest.mark.parametrize(
    "own",
    [partial(99.0, [99.0, 99.0], samples=60), partial(99.0, []), partial(99.0, [99.0, 99.0, 99.0])],
    ids=["another stage", "no replicates", "other blocks"],
)
def test_nothing_is_given_up_where_the_error_is_not_known(own: Partial) -> None:
    assert not is_behind(own, Race((20, 60), (partial(1.0, [1.0, 1.0]),)))
    assert is_behind(partial(99.0, [99.0, 99.0]), Race((20, 60), (partial(1.0, [1.0, 1.0]),)))


class _Count(Objective[int]):
    name = "count"

    def new(self) -> int:
        return 0

    def add(self, acc: int, batch: Batch) -> int:
        return acc + len(batch.indices)

    def merge(self, first: int, second: int) -> int:
        return first + second

    def score(self, acc: int, stderr: bool = True) -> Score:
        return Score(float(acc), None, acc)


class _Raced(_Count):
    def replicates(self, acc: int) -> FloatArray | None:
        return np.full(10, float(acc))


def test_an_objective_without_replicates_or_without_samples_is_refused() -> None:
    with pytest.raises(InputError, match=r"search\.race = \[20\]: objective count has no replicates"):
        check_race((20,), "count", _Count())
    check_race((), "count", _Count())
    check_race((20,), "count", _Raced())
    weights = _Raced()
    weights.needs = "weights"
    with pytest.raises(InputError, match="looks at the weights and at no samples"):
        check_race((20,), "count", weights)


def test_an_evaluator_refuses_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrechetDistance, "replicates", Objective.replicates)
    request = request_for(folder, ("search.race", "[20, 60]"))
    checkpoints = open_checkpoints(folder / "checkpoints", [SafetensorsReader()])
    with pytest.raises(InputError, match="objective fid has no replicates"):
        Evaluator(EvaluatorSpec(request.config, request.registry, checkpoints))


def test_a_score_that_is_not_finite_on_the_way_is_no_stage(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = evaluator.metrics.search[0].objective
    score = objective.score

    def partly(acc: Any, stderr: bool = True) -> Score:
        found = score(acc, stderr)
        return Score(float("nan"), None, found.samples) if found.samples == 20 else found

    monkeypatch.setattr(objective, "score", partly)
    outcome = evaluate(evaluator, UNIFORM, Race(STAGES))
    assert [partial.samples for partial in outcome.partials] == [60]


def test_remembered_scores_have_their_partial_scores_and_stages_keep_them_apart(tmp_path: Path) -> None:
    write_checkpoints(tmp_path / "checkpoints", COUNT)
    write_toml(tmp_path)

    def scored(race: Race | None) -> Outcome:
        engine = RememberingEngine(InProcessEngine())
        engine.start(spec_of(tmp_path))
        (outcome,) = engine.evaluate([Job(0, Coefficients(UNIFORM), "search", SAMPLES, remember=True, race=race)])
        return outcome

    plain = scored(None)
    assert (plain.partials, bool(plain.seconds)) == ((), True)
    measured = scored(Race(STAGES))
    assert measured.seconds
    remembered = scored(Race(STAGES))
    assert not remembered.seconds
    assert remembered.partials == measured.partials
    assert remembered.scores == measured.scores
    assert not scored(None).seconds
    assert scored(Race((20,))).seconds
