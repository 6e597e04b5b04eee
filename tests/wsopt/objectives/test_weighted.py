from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from wsopt.errors import InputError
from wsopt.objectives import Objective, Part, Weighted
from wsopt.objectives.jackknife import stderr_of
from wsopt.types import Batch, Direction, FloatArray, Score

Values = dict[int, float]


class Mean(Objective[Values]):
    """The mean over images, or over features where the batch has them; `extra` is a debiasing, for show."""

    name: ClassVar[str] = "mean"

    def __init__(self, direction: Direction = "minimize", extra: float | None = None, jackknife: bool = True) -> None:
        self.direction = direction
        self.extra = extra
        self.jackknife = jackknife

    def new(self) -> Values:
        return {}

    def add(self, acc: Values, batch: Batch) -> Values:
        values = batch.images if batch.features is None else batch.features
        rows = values.double().flatten(1).mean(dim=1).tolist()
        return acc | dict(zip(batch.indices, rows, strict=True))

    def merge(self, first: Values, second: Values) -> Values:
        return first | second

    def score(self, acc: Values, stderr: bool = True) -> Score:
        value = float(np.mean(list(acc.values())))
        found = self.replicates(acc) if stderr else None
        debiased = None if self.extra is None or not stderr else value + self.extra
        return Score(value, stderr_of(found), len(acc), debiased, () if found is None else tuple(found))

    def replicates(self, acc: Values) -> FloatArray | None:
        if not self.jackknife:
            return None
        blocks = sorted({i % 10 for i in acc})
        return np.array([np.mean([v for i, v in acc.items() if i % 10 != block]) for block in blocks])


class Size(Objective[list[float]]):
    """The sum of the weights."""

    name: ClassVar[str] = "size"
    needs = "weights"

    def new(self) -> list[float]:
        return []

    def add(self, acc: list[float], batch: Batch) -> list[float]:
        raise AssertionError("an objective on weights is given no samples")

    def add_weights(self, acc: list[float], weights: dict[str, Tensor]) -> list[float]:
        return [*acc, float(sum(tensor.sum() for tensor in weights.values()))]

    def merge(self, first: list[float], second: list[float]) -> list[float]:
        return first or second

    def score(self, acc: list[float], stderr: bool = True) -> Score:
        return Score(acc[0], None, 0)


def batch(indices: range, features: str | None = "digits") -> Batch:
    generator = torch.Generator().manual_seed(indices[0])
    images = torch.rand(len(indices), 1, 3, 3, generator=generator)
    extracted = {} if features is None else {(features, "features"): images.flatten(1)[:, :2] ** 2}
    return Batch(images, indices, extracted=extracted)


def test_it_is_the_weighted_sum() -> None:
    made = Weighted([Part(Mean()), Part(Mean("maximize"), "digits", 1.5), Part(Size(), weight=0.5)])
    assert (made.takes_samples, made.takes_weights, made.needs, made.direction) == (True, True, "images", "minimize")
    acc = made.add_weights(made.new(), {"w": torch.tensor([1.0, 5.0])})
    one = batch(range(30))
    score = made.score(made.add(acc, one))
    first, second = one.images.double().mean().item(), one.extracted["digits", "features"].double().mean().item()
    assert score.value == pytest.approx(first - 1.5 * second + 3.0, rel=1e-12)
    assert score.samples == 30


def test_replicates_combine_so_that_parts_may_cancel() -> None:
    made = Weighted([Part(Mean(), weight=2.0), Part(Mean("maximize"), weight=2.0), Part(Size())])
    acc = made.add_weights(made.add(made.new(), batch(range(30))), {"w": torch.ones(4)})
    score = made.score(acc)
    assert (score.value, score.replicates, score.stderr) == (4.0, (4.0,) * 10, 0.0)
    single = Weighted([Part(Mean(), weight=2.0)])
    alone, plain = single.score(single.add(single.new(), batch(range(30)))), Mean()
    expected = plain.score(plain.add({}, batch(range(30))))
    assert alone.stderr == pytest.approx(2 * (expected.stderr or math.nan), rel=1e-9)
    found = made.replicates(acc)
    assert found is not None
    assert found.tolist() == pytest.approx(list(score.replicates))


def test_merging_is_adding() -> None:
    made = Weighted([Part(Mean(), weight=2.0), Part(Mean(), "digits")])
    parts = [batch(range(10)), batch(range(10, 30))]
    together = made.add(made.add(made.new(), parts[0]), parts[1])
    apart = made.merge(made.add(made.new(), parts[0]), made.add(made.new(), parts[1]))
    assert made.score(together) == made.score(apart)


def test_only_weights() -> None:
    made = Weighted([Part(Size(), weight=-1.0), Part(Size(), weight=0.25)])
    assert (made.takes_samples, made.takes_weights, made.needs) == (False, True, "weights")
    score = made.score(made.add_weights(made.new(), {"w": torch.ones(8)}))
    assert score == Score(-6.0, None, 0)
    assert made.replicates(made.add_weights(made.new(), {"w": torch.ones(8)})) is None


def test_a_part_without_replicates_leaves_none() -> None:
    made = Weighted([Part(Mean()), Part(Mean(jackknife=False))])
    acc = made.add(made.new(), batch(range(30)))
    assert made.score(acc).replicates == ()
    assert made.score(acc).stderr is None
    assert made.replicates(acc) is None


def test_debiased_parts() -> None:
    made = Weighted([Part(Mean(extra=-0.25), weight=2.0), Part(Mean())])
    score = made.score(made.add(made.new(), batch(range(30))))
    assert score.debiased == pytest.approx(score.value - 0.5)
    assert Weighted([Part(Mean())]).score([{0: 1.0, 1: 2.0}]).debiased is None
    assert made.score(made.add(made.new(), batch(range(30))), stderr=False).debiased is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_part_that_is_not_finite_makes_it_nan(value: float) -> None:
    made = Weighted([Part(Mean()), Part(Mean("maximize"))])
    score = made.score([{0: value, 1: 0.0}, {0: value, 1: 0.0}])
    assert math.isnan(score.value)
    assert score.replicates == ()


def test_missing_features_are_named() -> None:
    made = Weighted([Part(Mean(), "clip")])
    with pytest.raises(InputError, match="the features of 'clip' that part mean needs were not extracted"):
        made.add(made.new(), batch(range(3)))


@pytest.mark.parametrize("weight", [0.0, math.nan, math.inf])
def test_weights_are_checked(weight: float) -> None:
    with pytest.raises(InputError, match="finite weight that is not 0"):
        Weighted([Part(Mean(), None, weight)])


def test_no_parts() -> None:
    with pytest.raises(InputError, match="has no parts"):
        Weighted([])
