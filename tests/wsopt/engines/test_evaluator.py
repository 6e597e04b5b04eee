from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from toy_run import request_for
from wsopt.checkpoints import SafetensorsReader, open_checkpoints
from wsopt.datasets import DatasetSplit, Digits
from wsopt.engines import Evaluator, EvaluatorSpec, build_metrics, check_device, make_objective
from wsopt.errors import InputError, PluginError
from wsopt.objectives import FrechetDistance, Pixels, Reference, reference_from_images
from wsopt.objectives.frechet import FrechetReference
from wsopt.seeding import SampleNoise
from wsopt.testing.analytic import AnalyticFamily
from wsopt.types import Batch, Coefficients, FloatArray, Job, Outcome, Score, Split, WeightsFile

COUNT = 8


@pytest.fixture(scope="module")
def evaluator(folder: Path) -> Evaluator:
    request = request_for(folder)
    checkpoints = open_checkpoints(folder / "checkpoints", [SafetensorsReader()])
    return Evaluator(EvaluatorSpec(request.config, request.registry, checkpoints))


def one_hot(index: int) -> FloatArray:
    return np.eye(COUNT)[None, index]


def job(values: FloatArray, slot: int = 0, samples: int = 100, identity: int = 0) -> Job:
    return Job(identity, Coefficients(values), "search", samples, slot)


def value(outcome: Outcome) -> float:
    assert outcome.failure is None
    return outcome.scores[0].score.value


def test_the_score_is_what_a_reader_would_compute_by_hand(evaluator: Evaluator, folder: Path) -> None:
    (outcome,) = evaluator.evaluate([job(one_hot(3))])
    checkpoints = open_checkpoints(folder / "checkpoints", [SafetensorsReader()])
    weights = checkpoints.load(3)
    noise = torch.from_numpy(SampleNoise(0, "search").normal(range(100), (1, 8, 8)))
    images = (weights["mean"] + weights["spread"] * noise).clamp(-1, 1).numpy()
    generated = reference_from_images("generated", images, Pixels(), "round")
    real = reference_from_images("real", Digits().images("train"), Pixels(), "round")
    expected = FrechetReference(real.mean, real.covariance).distance(generated.mean, generated.covariance)
    assert value(outcome) == pytest.approx(expected, rel=1e-6)
    assert outcome.scores[0].reference == "digits/train"
    assert outcome.scores[0].score.samples == 100


def test_a_weights_file_scores_as_its_one_hot_coefficients(evaluator: Evaluator, folder: Path) -> None:
    path = folder / "checkpoints" / "step-000040.safetensors"
    (by_file,) = evaluator.evaluate([Job(0, WeightsFile(path), "search", 100)])
    (by_coefficients,) = evaluator.evaluate([job(one_hot(3))])
    assert value(by_file) == value(by_coefficients)


def test_a_candidate_scores_alike_alone_and_in_company(evaluator: Evaluator) -> None:
    generator = np.random.Generator(np.random.PCG64(0))
    rest = generator.normal(size=(20, 1, COUNT - 1))
    alpha = np.concatenate([1 - rest.sum(axis=2, keepdims=True), rest], axis=2)
    jobs = [job(row, slot=i, identity=i) for i, row in enumerate(alpha)]
    together = [value(outcome) for outcome in evaluator.evaluate(jobs)]
    alone = [value(next(iter(evaluator.evaluate([one])))) for one in jobs]
    assert together == alone


def test_the_report_split_has_every_metric_the_searchs_own_first(evaluator: Evaluator) -> None:
    (outcome,) = evaluator.evaluate([Job(0, Coefficients(one_hot(3)), "report", 100)])
    assert [(score.features, score.reference) for score in outcome.scores] == [
        ("pixels", "digits/train"),
        ("pixels", "digits/test"),
    ]
    assert all(score.score.stderr is not None for score in outcome.scores)
    (search,) = evaluator.evaluate([job(one_hot(3))])
    assert value(outcome) != value(search)
    assert search.scores[0].score.stderr is None


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_samples_that_are_not_finite_fail_with_a_reason(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch, poison: float
) -> None:
    original = AnalyticFamily.sample

    def sample(self: AnalyticFamily, *args: Any) -> Iterator[Batch]:
        for batch in original(self, *args):
            batch.images[0, 0, 0, 0] = poison
            yield batch

    monkeypatch.setattr(AnalyticFamily, "sample", sample)
    (outcome,) = evaluator.evaluate([job(one_hot(0))])
    assert outcome.failure is not None
    assert "not finite" in outcome.failure
    assert outcome.scores == ()


def test_the_floor_is_the_distance_of_real_from_real(evaluator: Evaluator) -> None:
    train, test = evaluator.floor()
    assert train.score.value == pytest.approx(test.score.value, rel=1e-6)  # a distance is symmetric
    assert (train.score.samples, test.score.samples) == (400, 1197)


def test_rendered_samples_are_those_of_the_split(evaluator: Evaluator) -> None:
    rendered = evaluator.render(Coefficients(one_hot(2)), "report", 70)
    assert rendered.images.shape == (70, 1, 8, 8)
    assert rendered.images.dtype == np.uint8
    np.testing.assert_array_equal(rendered.images[:5], evaluator.render(Coefficients(one_hot(2)), "report", 5).images)


def test_a_device_that_is_not_there_is_an_input_error() -> None:
    with pytest.raises(InputError, match='device: "cuda:99" is not available'):
        check_device("cuda:99")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"direction": "minimise"}, "has direction = 'minimise'; it must be one of 'minimize', 'maximize'"),
        ({"needs": "pictures"}, "has needs = 'pictures'; it must be one of 'weights', 'images', 'features'"),
    ],
)
def test_an_objective_with_an_unknown_word_is_a_plugin_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], message: str
) -> None:
    request = request_for(folder)
    for name, value in change.items():
        monkeypatch.setattr(FrechetDistance, name, value)
    with pytest.raises(PluginError, match=re.escape(message)) as caught:
        make_objective(request.config.objective, request.registry)
    assert caught.value.exit_code == 3


def test_an_objective_that_is_not_whole_is_a_plugin_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_for(folder)
    monkeypatch.setattr(FrechetDistance, "__abstractmethods__", frozenset({"merge"}))
    with pytest.raises(PluginError, match=r"objective .fid. cannot be made: .*abstract method"):
        build_metrics(request.config, request.registry)


def test_scores_of_plugins_become_plain_numbers(evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrechetDistance, "replicates", lambda self, acc: None)
    for stderr in (torch.tensor(float("nan")), -1.0):
        careless = Score(torch.tensor(2.5), stderr, 7)  # type: ignore[arg-type]
        monkeypatch.setattr(FrechetDistance, "score", lambda self, acc, stderr=True, s=careless: s)
        (outcome,) = evaluator.evaluate([Job(0, Coefficients(one_hot(0)), "report", 100)])
        assert outcome.scores[0].score == Score(2.5, None, 7)
        assert type(outcome.scores[0].score.value) is float


def test_running_statistics_are_recalculated_for_every_candidate_and_for_the_export(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def recalculate(self: AnalyticFamily, model: torch.nn.Module, dataset: Digits) -> None:
        state = model.state_dict()
        seen.append(state["mean"].clone())
        state["spread"].copy_(state["mean"].abs())

    monkeypatch.setattr(AnalyticFamily, "recalculate", recalculate)
    request = request_for(folder, ("weightspace.batchnorm", "recalculate"))
    checkpoints = open_checkpoints(folder / "checkpoints", [SafetensorsReader()])
    evaluator = Evaluator(EvaluatorSpec(request.config, request.registry, checkpoints))
    (outcome,) = evaluator.evaluate([job(one_hot(2))])
    assert outcome.failure is None
    merged = checkpoints.load(2)
    torch.testing.assert_close(seen[1], merged["mean"], rtol=0, atol=0)  # seen[0]: before the first candidate
    exported = evaluator.export(Coefficients(one_hot(2))).tensors
    torch.testing.assert_close(exported["spread"], merged["mean"].abs(), rtol=0, atol=0)
    torch.testing.assert_close(exported["mean"], merged["mean"], rtol=0, atol=0)


def test_a_family_that_cannot_recalculate_is_told_at_once(folder: Path) -> None:
    request = request_for(folder, ("weightspace.batchnorm", "recalculate"))
    checkpoints = open_checkpoints(folder / "checkpoints", [SafetensorsReader()])
    with pytest.raises(InputError, match=r"analytic family cannot recalculate.*weightspace.batchnorm"):
        Evaluator(EvaluatorSpec(request.config, request.registry, checkpoints))


def evaluator_of(folder: Path, *overrides: tuple[str, str]) -> Evaluator:
    request = request_for(folder, *overrides)
    checkpoints = open_checkpoints(folder / "checkpoints", [SafetensorsReader()])
    return Evaluator(EvaluatorSpec(request.config, request.registry, checkpoints))


def validated(evaluator: Evaluator, split: Split = "validation") -> Outcome:
    (outcome,) = evaluator.evaluate([Job(0, Coefficients(one_hot(3)), split, 100)])
    return outcome


def test_the_validation_split_has_the_search_s_metric_on_other_noise(folder: Path) -> None:
    evaluator = evaluator_of(folder, ("validation.samples", "100"))
    outcome = validated(evaluator)
    (score,) = outcome.scores
    assert (score.metric, score.features, score.reference) == ("fid", "pixels", "digits/train")
    assert score.score.samples == 100
    assert score.score.stderr is None
    assert value(outcome) not in (value(validated(evaluator, "search")), value(validated(evaluator, "report")))
    weights = open_checkpoints(folder / "checkpoints", [SafetensorsReader()]).load(3)
    noise = torch.from_numpy(SampleNoise(0, "validation").normal(range(100), (1, 8, 8)))
    images = (weights["mean"] + weights["spread"] * noise).clamp(-1, 1).numpy()
    generated = reference_from_images("generated", images, Pixels(), "round")
    real = reference_from_images("real", Digits().images("train"), Pixels(), "round")
    expected = FrechetReference(real.mean, real.covariance).distance(generated.mean, generated.covariance)
    assert value(outcome) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("reference", "made"), [("validation", 3), ("test", 2), ("train", 2)])
def test_the_validation_split_has_a_reference_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, reference: str, made: int
) -> None:
    prepared: list[str] = []
    original = FrechetDistance.prepare

    def prepare(self: FrechetDistance, real: Reference | None) -> None:
        prepared.append(real.name if real else "")
        original(self, real)

    monkeypatch.setattr(FrechetDistance, "prepare", prepare)
    evaluator = evaluator_of(folder, ("validation.samples", "100"), ("validation.reference", reference))
    (score,) = validated(evaluator).scores
    assert score.reference == f"digits/{reference}"
    assert len(prepared) == made  # what the report has is not made twice


def test_nothing_is_built_where_nothing_is_validated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    original = Digits.images

    def images(self: Digits, split: DatasetSplit) -> NDArray[np.float32]:
        asked.append(split)
        return original(self, split)

    monkeypatch.setattr(Digits, "images", images)
    evaluator = evaluator_of(folder, ("validation.reference", "validation"))
    assert evaluator.metrics.validation == ()
    assert set(asked) == {"train", "test"}


@pytest.mark.parametrize("split", ["search", "validation"])
def test_a_candidate_that_takes_too_long_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, split: Literal["search", "validation"]
) -> None:
    original = AnalyticFamily.sample
    monkeypatch.setattr(AnalyticFamily, "sample", lambda self, *args: slowly(original(self, *args)))
    settings = [("search.timeout", "0.25"), ("search.batch_size", "10"), ("validation.samples", "100")]
    evaluator = evaluator_of(folder, *settings)
    outcome = validated(evaluator, split)
    assert outcome.scores == ()
    found = re.fullmatch(
        r"took longer than search\.timeout = 0\.25 s \((\d+) of 10 batches done\)", outcome.failure or ""
    )
    assert found
    assert 1 <= int(found[1]) <= 3
    assert sum(outcome.seconds.values()) > 0.25
    assert validated(evaluator, "report").failure is None
    monkeypatch.undo()
    assert validated(evaluator_of(folder, ("search.timeout", "60"), *settings[1:]), split).failure is None


def slowly(batches: Iterator[Batch]) -> Iterator[Batch]:
    for batch in batches:
        time.sleep(0.1)
        yield batch
