"""What the evaluator makes of the metrics of a config: messages, extractors that are asked once, failures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from toy_run import request_for, write_checkpoints, write_toml
from wsopt.checkpoints import SafetensorsReader, open_checkpoints
from wsopt.engines import Evaluator, EvaluatorSpec, build_metrics
from wsopt.errors import InputError
from wsopt.objectives import DigitsClassifier, InceptionScore
from wsopt.types import Coefficients, Job, Outcome

COUNT = 4
FUNCTIONS = """
def size(state_dict):
    return float(state_dict["mean"].abs().mean())

def brightness(images):
    return float(images.mean())
"""
WEIGHTS = 'name = "callable"\nfunction = "mine.py:size"\non = "weights"\ndirection = "minimize"\n'
IMAGES = 'name = "callable"\nfunction = "mine.py:brightness"\non = "images"\ndirection = "minimize"\n'
SUM = 'name = "weighted"\n\n[[objective.parts]]\nname = "fid"\nfeatures = "pixels"\nreference = "train"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_checkpoints(tmp_path / "checkpoints", COUNT)
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    return tmp_path


def with_objective(folder: Path, lines: str, references: str = "[]") -> None:
    text = write_toml(folder).read_text()
    begin, end = text.index("[objective]"), text.index("[baselines]")
    text = f"{text[:begin]}[objective]\n{lines}\n{text[end:]}"
    (folder / "toy.toml").write_text(text.replace('references = ["train", "test"]', f"references = {references}"))


def scored(folder: Path, *overrides: tuple[str, str]) -> Outcome:
    request = request_for(folder, *overrides)
    checkpoints = open_checkpoints(folder / "checkpoints", [SafetensorsReader()])
    evaluator = Evaluator(EvaluatorSpec(request.config, request.registry, checkpoints))
    (outcome,) = evaluator.evaluate([Job(0, Coefficients(np.eye(COUNT)[None, 1]), "report", 90)])
    return outcome


@pytest.mark.parametrize(
    ("objective", "change", "message"),
    [
        (WEIGHTS, ("objective.features", "pixels"), "looks at weights, not at features"),
        (WEIGHTS, ("objective.reference", "train"), "so it compares with no reference: leave objective.features"),
        (WEIGHTS, ("report.features", '["pixels"]'), "validation.reference and report.features out"),
        (WEIGHTS, ("validation.reference", "test"), "looks at weights, not at features"),
        (
            IMAGES,
            ("objective.features", "pixels"),
            "looks at no features: leave objective.features and report.features",
        ),
        (IMAGES, ("report.features", '["pixels"]'), "name metrics in other features as [[report.metrics]]"),
        (IMAGES, ("objective.reference", "train"), "compares with no reference: leave objective.reference and report."),
        (
            IMAGES,
            ("report.references", '["test"]'),
            "compares with no reference: leave objective.reference and report.",
        ),
        (SUM, ("report.references", '["test"]'), "has features and references in its parts alone"),
        (SUM, ("report.features", '["digits"]'), "name further metrics as [[report.metrics]]"),
        (SUM, ("validation.reference", "test"), "report.references and validation.reference out"),
    ],
)
def test_what_an_objective_does_not_look_at_is_refused(
    folder: Path, objective: str, change: tuple[str, str], message: str
) -> None:
    with_objective(folder, objective)
    plain = request_for(folder)
    assert build_metrics(plain.config, plain.registry, keep=False).search[0].name == plain.config.objective.name
    request = request_for(folder, change)
    with pytest.raises(InputError) as caught:
        build_metrics(request.config, request.registry)
    assert message in str(caught.value)


def test_an_output_that_the_extractor_does_not_have_is_refused(folder: Path) -> None:
    with_objective(folder, 'name = "inception-score"\nfeatures = "pixels"\n')
    request = request_for(folder)
    with pytest.raises(InputError, match=r"needs the logits of an extractor, and features 'pixels' have none"):
        build_metrics(request.config, request.registry)


def test_nothing_is_kept_on_disk_where_that_is_not_asked_for(folder: Path) -> None:
    write_toml(folder)
    request = request_for(folder)
    build_metrics(request.config, request.registry, keep=False)
    assert not (folder / "runs").exists()
    build_metrics(request.config, request.registry)
    assert (folder / "runs" / "cache" / "references").is_dir()


SEVERAL = (
    ("objective.features", "digits"),
    ("report.metrics", '[{name = "kid"}, {name = "inception-score", features = "digits"}, {name = "recall"}]'),
)


def test_an_extractor_is_asked_once_per_batch_for_all_that_is_wanted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_toml(folder)
    asked: list[tuple[int, tuple[str, ...]]] = []
    original = DigitsClassifier.extract

    def extract(self: DigitsClassifier, images: Tensor, outputs: Sequence[str]) -> dict[str, Tensor]:
        asked.append((len(images), tuple(outputs)))
        return original(self, images, outputs)

    request = request_for(folder, *SEVERAL)
    checkpoints = open_checkpoints(folder / "checkpoints", [SafetensorsReader()])
    evaluator = Evaluator(EvaluatorSpec(request.config, request.registry, checkpoints))
    monkeypatch.setattr(DigitsClassifier, "extract", extract)
    target = Coefficients(np.eye(COUNT)[None, 1])
    (outcome,) = evaluator.evaluate([Job(0, target, "report", 90)])
    assert asked == [(50, ("features", "logits")), (40, ("features", "logits"))]
    assert [score.metric for score in outcome.scores] == ["fid", "fid", "kid", "inception-score", "recall"]
    asked.clear()
    list(evaluator.evaluate([Job(0, target, "search", 90)]))
    assert asked == [(50, ("features",)), (40, ("features",))]


def test_each_metric_is_scored_as_it_is_alone(folder: Path) -> None:
    write_toml(folder)
    together = {score.metric: score.score for score in scored(folder, *SEVERAL).scores}
    with_objective(folder, 'name = "inception-score"\nfeatures = "digits"\n')
    (alone,) = scored(folder).scores
    assert alone.metric == InceptionScore.name
    assert alone.direction == "maximize"
    assert alone.score == together["inception-score"]


@pytest.mark.parametrize("output", ["features", "logits"])
def test_features_that_are_not_finite_fail_what_the_search_is_about_and_no_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    write_toml(folder)
    original = DigitsClassifier.extract

    def extract(self: DigitsClassifier, images: Tensor, outputs: Sequence[str]) -> dict[str, Tensor]:
        found = original(self, images, outputs)
        if len(images) == 40 and output in found:
            found[output][3, 1] = torch.inf
        return found

    assert scored(folder, *SEVERAL).failure is None
    monkeypatch.setattr(DigitsClassifier, "extract", extract)
    outcome = scored(folder, *SEVERAL)
    if output == "features":
        assert outcome.scores == ()
        assert outcome.failure == "FloatingPointError: the features 'digits' of the samples are not finite"
    else:
        assert outcome.failure is None
        lost = [score.metric for score in outcome.scores if not math.isfinite(score.score.value)]
        assert lost == ["inception-score"]
