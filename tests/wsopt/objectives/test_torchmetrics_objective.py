from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from wsopt.config.params import TorchmetricsParams
from wsopt.errors import InputError, MissingDependencyError
from wsopt.objectives import Reference
from wsopt.objectives.any_metric import TorchmetricsObjective
from wsopt.objectives.frechet import FrechetReference
from wsopt.types import Batch, Score

FID = "image.fid.FrechetInceptionDistance"
KID = "image.kid.KernelInceptionDistance"
D = 6


def objective(metric: str, reference: Reference | None = None, **params: Any) -> TorchmetricsObjective:
    made = TorchmetricsObjective(TorchmetricsParams.model_validate({"metric": metric, **params}))
    made.prepare(reference)
    return made


def features(count: int, seed: int) -> torch.Tensor:
    draws = np.random.default_rng(seed)
    mixed = draws.standard_normal((count, D)) @ draws.standard_normal((D, D)) + draws.standard_normal(D)
    return torch.from_numpy(mixed).float()


def reference_of(vectors: torch.Tensor | None, images: torch.Tensor | None = None) -> Reference:
    rows = torch.zeros(2, D) if vectors is None else vectors
    moments = rows.double().numpy()
    return Reference(
        "digits/train", "digits", "", "round", moments.mean(axis=0), np.cov(moments.T), len(rows),
        vectors=None if vectors is None else vectors.numpy(),
        images=None if images is None else lambda: images.numpy(),
    )  # fmt: skip


def batches(vectors: torch.Tensor, size: int, conditions: list[Any] | None = None) -> list[Batch]:
    images = (vectors.abs() * 40).clamp(0, 255).round().reshape(len(vectors), 1, 2, 3)
    return [
        Batch(images[a : a + size], range(a, min(a + size, len(vectors))),
              None if conditions is None else conditions[a : a + size], vectors[a : a + size])
        for a in range(0, len(vectors), size)
    ]  # fmt: skip


def scored(made: TorchmetricsObjective, parts: list[Batch], stderr: bool = True) -> Score:
    acc = made.new()
    for part in parts:
        acc = made.add(acc, part)
    return made.score(acc, stderr)


def test_frechet_in_our_features_is_fid() -> None:
    real, made = features(200, 1), features(150, 2)
    metric = objective(FID, reference_of(real), inputs=["features"])
    assert (metric.direction, metric.needs, metric.output) == ("minimize", "features", "features")
    assert (metric.reference_vectors, metric.reference_images) == (True, False)
    ours = FrechetReference(*_moments(real)).distance(*_moments(made))
    score = scored(metric, batches(made, 64))
    assert score.value == pytest.approx(ours, rel=1e-9)
    assert score.samples == 150
    assert len(score.replicates) == 10
    expected = FrechetReference(*_moments(real)).distance(*_moments(made[np.arange(150) % 10 != 3]))
    assert score.replicates[3] == pytest.approx(expected, rel=1e-9)
    assert score.stderr is not None
    # The real features are kept over the resets in between.
    assert scored(metric, batches(made, 64)) == score


def _moments(rows: torch.Tensor) -> tuple[Any, Any]:
    return rows.double().numpy().mean(axis=0), np.cov(rows.double().numpy().T)


@pytest.mark.parametrize("metric", [KID, "image.inception.InceptionScore"])
def test_random_metrics_are_the_same_each_time_and_move_nothing(metric: str) -> None:
    arguments = {"subsets": 5, "subset_size": 40} if metric == KID else {"splits": 4}
    inputs = "features" if metric == KID else "logits"
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["pos"], random.getstate()  # noqa: NPY002
    made = objective(metric, reference_of(features(120, 1)), inputs=[inputs], arguments=arguments)
    vectors = features(100, 2)
    first = scored(made, batches(vectors, 30))
    again = scored(made, batches(vectors, 30))
    turned = scored(made, batches(vectors, 17)[::-1])
    assert first == again == turned
    # The subsets of replicates would differ, so there are none.
    assert (first.stderr, first.replicates) == (None, ())
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state(legacy=False)["state"]["pos"]  # noqa: NPY002
    assert before[2] == random.getstate()


def test_inception_score_of_logits() -> None:
    made = objective("image.inception.InceptionScore", inputs=["logits"], arguments={"splits": 1})
    assert (made.direction, made.output, made.needs) == ("maximize", "logits", "features")
    vectors = features(80, 3)
    p = vectors.double().softmax(dim=1)
    expected = (p * (p / p.mean(dim=0)).log()).sum(dim=1).mean().exp()
    assert scored(made, batches(vectors, 25)).value == pytest.approx(float(expected), rel=1e-9)


def test_parts_merge_in_any_order() -> None:
    made = objective(FID, reference_of(features(200, 1)), inputs=["features"])
    parts = batches(features(90, 2), 20)
    first, second = made.new(), made.new()
    for part in parts[:2]:
        first = made.add(first, part)
    for part in parts[2:]:
        second = made.add(second, part)
    assert made.score(made.merge(second, first)) == scored(made, parts)


def test_labels_against_logits() -> None:
    vectors = features(50, 4)
    labels = vectors.argmax(dim=1)
    labels[:10] = (labels[:10] + 1) % D
    made = objective(
        "classification.MulticlassAccuracy", inputs=["logits", "conditions"],
        arguments={"num_classes": D, "average": "micro"},
    )  # fmt: skip
    score = scored(made, batches(vectors, 20, labels.tolist()))
    assert made.direction == "maximize"
    assert score.value == pytest.approx(0.8)
    assert score.stderr is not None


def test_prompts_are_given_as_a_list() -> None:
    made = objective("text.CharErrorRate", inputs=["conditions", "conditions"])
    assert made.direction == "minimize"
    parts = batches(features(6, 5), 4, ["a cat", "a dog", "x", "y", "z", "w"])
    assert scored(made, parts, stderr=False).value == 0.0


def test_images_are_floats_from_0_to_1() -> None:
    made = objective("image.TotalVariation", arguments={"reduction": "mean"})
    parts = batches(features(30, 6), 12)
    images = torch.cat([part.images for part in parts]).double() / 255
    across = (images[..., 1:] - images[..., :-1]).abs().sum(dim=(1, 2, 3))
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().sum(dim=(1, 2, 3))
    assert scored(made, parts).value == pytest.approx(float((across + down).mean()), rel=1e-5)


@pytest.mark.parametrize(("inputs", "factor"), [(["grey"], 1.0), (["images"], 1 / 255)])
def test_grey_levels(inputs: list[str], factor: float) -> None:
    made = objective("MeanMetric", inputs=inputs, direction="maximize")
    parts = batches(features(30, 6), 12)
    mean = torch.cat([part.images for part in parts]).double().mean()
    assert scored(made, parts).value == pytest.approx(float(mean) * factor, rel=1e-5)


def collected() -> type[Any]:
    """A class that stands for a metric with an Inception network: it sums what it is given."""
    import torchmetrics

    class RealAndFake(torchmetrics.Metric):
        higher_is_better = False
        sum_real: torch.Tensor
        sum_fake: torch.Tensor

        def __init__(self, feature: int = 2048) -> None:
            super().__init__()
            self.add_state("sum_real", torch.zeros(()), dist_reduce_fx="sum")
            self.add_state("sum_fake", torch.zeros(()), dist_reduce_fx="sum")

        def update(self, imgs: torch.Tensor, real: bool) -> None:
            assert imgs.dtype == torch.uint8
            if real:
                self.sum_real = self.sum_real + imgs.double().sum()
            else:
                self.sum_fake = self.sum_fake + imgs.double().sum()

        def compute(self) -> Mapping[str, torch.Tensor]:
            return {"fake": self.sum_fake, "real": self.sum_real, "both": torch.stack([self.sum_fake] * 2)}

    return RealAndFake


def test_real_images_are_given_first(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchmetrics.image

    monkeypatch.setattr(torchmetrics.image, "Collected", collected(), raising=False)
    real = torch.tensor([[-1.0, 1.0], [0.0, 0.0]]).reshape(2, 1, 1, 2)
    parts = batches(features(30, 6), 12)
    for result, expected in (("real", 255 + 2 * 128), ("fake", sum(float(part.images.sum()) for part in parts))):
        made = objective("torchmetrics.image:Collected", reference_of(None, real), result=result)
        assert (made.reference_images, made.needs) == (True, "images")
        # Twice: a metric that forgets the real ones at a reset is given them again.
        assert [scored(made, parts, stderr=False).value for _ in range(2)] == [expected, expected]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, r"several numbers \(fake, real, both\)"),
        ("both", r"several numbers of shape \[2\]"),
        ("more", r"no result 'more' \(fake, real, both\)"),
    ],
)
def test_one_of_several_numbers(monkeypatch: pytest.MonkeyPatch, result: str | None, message: str) -> None:
    import torchmetrics.image

    monkeypatch.setattr(torchmetrics.image, "Collected", collected(), raising=False)
    made = objective("image.Collected", reference_of(None, torch.zeros(2, 1, 1, 2)), result=result)
    with pytest.raises(InputError, match=message):
        scored(made, batches(features(30, 6), 12))


def test_in_inference_mode_as_outside() -> None:
    made = objective(FID, reference_of(features(200, 1)), inputs=["features"])
    vectors = features(60, 2)
    outside = scored(made, batches(vectors, 20))
    with torch.inference_mode():
        inside = scored(made, batches(vectors.clone(), 20))
    assert inside == outside == scored(made, batches(vectors, 20))


def test_too_few_samples_are_the_candidates_failure() -> None:
    made = objective(FID, reference_of(features(200, 1)), inputs=["features"])
    with pytest.raises(RuntimeError, match="More than one sample"):
        scored(made, batches(features(1, 2), 5))


def test_features_that_are_not_finite_give_a_value_or_an_error_of_the_metric() -> None:
    made = objective("MeanMetric", inputs=["features"], direction="minimize", arguments={"nan_strategy": "disable"})
    vectors = features(20, 1)
    vectors[3] = float("nan")
    assert np.isnan(scored(made, batches(vectors, 5)).value)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"metric": "image.fid.FrechetInceptionDistanc"}, "torchmetrics.image.fid has no .*Near are: FrechetInception"),
        ({"metric": "nowhere.at.all"}, "torchmetrics has no 'nowhere'"),
        ({"metric": "functional.accuracy"}, "is no metric"),
        ({"metric": "MeanMetric"}, "does not say whether MeanMetric is better high or low"),
        ({"metric": FID, "inputs": ["features"]}, "compares with real data: set its reference"),
        ({"metric": FID, "inputs": ["logits"]}, r'set its inputs to \["features"\]'),
        ({"metric": "image.TotalVariation", "arguments": {"reduction": "no"}}, "cannot be made with argum"),
        ({"metric": "MinMaxMetric", "direction": "minimize", "arguments": {"base_metric": 1}}, "cannot be made"),
        ({"metric": "retrieval.RetrievalMAP"}, "takes preds, target, indexes, and what each is to get is not known"),
    ],
)
def test_mistakes_in_the_config(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        objective(**params)


def test_a_reference_without_what_is_needed() -> None:
    with pytest.raises(InputError, match="has no feature vectors"):
        objective(FID, reference_of(None), inputs=["features"])


def test_a_package_that_is_missing() -> None:
    pytest.importorskip("torchmetrics")
    try:
        import torch_fidelity  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match=r"fid.FrechetInceptionDistance cannot be used:.*fidelity"):
            objective(FID, reference_of(features(9, 1)))
    else:
        pytest.skip("torch-fidelity is installed, so that nothing is missing")


def test_what_the_batches_must_have() -> None:
    without = Batch(torch.zeros(2, 1, 2, 2), range(2))
    made = objective("image.inception.InceptionScore", inputs=["logits"])
    with pytest.raises(InputError, match=r"set features beside it"):
        made.add(made.new(), without)
    made = objective("classification.BinaryAccuracy")
    with pytest.raises(InputError, match="this model family has none"):
        made.add(made.new(), without)
