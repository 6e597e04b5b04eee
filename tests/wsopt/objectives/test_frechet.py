from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from wsopt.config.params import FidParams
from wsopt.errors import InputError
from wsopt.objectives import FrechetDistance, Reference
from wsopt.objectives.frechet import FrechetReference, Moments
from wsopt.types import Batch, FloatArray

D = 16


def features(seed: int, n: int, scale: float = 1.0, shift: float = 0.0) -> FloatArray:
    generator = np.random.Generator(np.random.PCG64(seed))
    mixing = np.random.Generator(np.random.PCG64(99)).normal(size=(D, D))
    return shift + scale * generator.normal(size=(n, D)) @ mixing


def moments(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    return x.mean(axis=0), np.cov(x, rowvar=False)


def objective(real: FloatArray, blocks: int = 10) -> FrechetDistance:
    made = FrechetDistance(FidParams(blocks=blocks))
    mean, covariance = moments(real)
    made.prepare(Reference("digits/train", "f", "0", "round", mean, covariance, len(real)))
    return made


def score(made: FrechetDistance, generated: FloatArray, batch: int = 64) -> tuple[float, float | None, int]:
    acc = made.new()
    for at in range(0, len(generated), batch):
        part = torch.from_numpy(generated[at : at + batch]).float()
        acc = made.add(acc, Batch(part, range(at, at + len(part)), features=part))
    found = made.score(acc)
    return found.value, found.stderr, found.samples


class Identity(nn.Module):
    num_features = D

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize(("n", "scale", "shift"), [(2000, 1.0, 0.0), (500, 1.3, 0.4), (100, 0.5, -3.0)])
def test_equals_torchmetrics(n: int, scale: float, shift: float) -> None:
    real = features(0, 3000).astype(np.float32).astype(np.float64)
    generated = features(1, n, scale, shift).astype(np.float32).astype(np.float64)
    metric = FrechetInceptionDistance(feature=Identity(), normalize=True).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(generated), real=False)
    value, _, samples = score(objective(real), generated)
    assert value == pytest.approx(float(metric.compute()), rel=1e-6)
    assert samples == n


@given(st.lists(st.floats(0.01, 10), min_size=D, max_size=D), st.floats(0.01, 10), st.floats(-5, 5))
def test_commuting_covariances_have_a_closed_form(variances: list[float], other: float, shift: float) -> None:
    basis = np.linalg.qr(np.random.Generator(np.random.PCG64(4)).normal(size=(D, D)))[0]
    first, second = np.array(variances), np.array(variances[::-1]) * other
    expected = D * shift**2 + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    reference = FrechetReference(np.zeros(D), basis @ np.diag(first) @ basis.T)
    found = reference.distance(np.full(D, shift), basis @ np.diag(second) @ basis.T)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_set_against_itself_is_zero_and_order_is_symmetric() -> None:
    x, y = features(0, 500), features(1, 400, 1.2)
    assert FrechetReference(*moments(x)).distance(*moments(x)) == pytest.approx(0.0, abs=1e-9)
    there, back = (
        FrechetReference(*moments(x)).distance(*moments(y)),
        FrechetReference(*moments(y)).distance(*moments(x)),
    )
    assert there == pytest.approx(back, rel=1e-10)


def test_singular_references_and_collapsed_samples_give_the_exact_value() -> None:
    thin = features(0, D // 2)  # rank D/2 - 1
    full = features(1, 500)
    singular = FrechetReference(*moments(thin)).distance(*moments(full))
    assert singular == pytest.approx(FrechetReference(*moments(full)).distance(*moments(thin)), rel=1e-5)
    collapsed = np.repeat(full[:1], 100, axis=0)
    mean, covariance = moments(full)
    expected = ((full[0] - mean) ** 2).sum() + np.trace(covariance)
    assert score(objective(full), collapsed)[0] == pytest.approx(expected, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), st.integers(0, 10))
def test_batches_and_order_do_not_matter(batch: int, seed: int) -> None:
    made, generated = objective(features(0, 500)), features(2, 300)
    value, stderr, _ = score(made, generated, batch)
    whole = score(made, generated, 300)
    assert value == pytest.approx(whole[0], rel=1e-9)
    assert stderr == pytest.approx(whole[1], rel=1e-6)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(300)
    part = torch.from_numpy(generated[order]).float()
    acc = made.add(made.new(), Batch(part, [int(i) for i in order], features=part))
    assert made.score(acc).stderr == pytest.approx(whole[1], rel=1e-6)


def test_accumulators_add_up() -> None:
    made, x = objective(features(0, 500)), torch.from_numpy(features(2, 300)).float()
    halves = [made.add(made.new(), Batch(x[i::2], range(i, 300, 2), features=x[i::2])) for i in (0, 1)]
    merged = made.score(made.merge(*halves))
    assert merged.value == pytest.approx(score(made, x.double().numpy())[0], rel=1e-9)
    assert merged.samples == 300


def test_the_jackknife_error_is_the_spread_over_repeats() -> None:
    """Against the truth by brute force: 200 independent sample sets."""
    made = objective(features(0, 5000))
    found = [score(made, features(1000 + i, 500, 1.1), 500) for i in range(200)]
    spread = np.std([value for value, _, _ in found], ddof=1)
    assert np.mean([stderr or 0 for _, stderr, _ in found]) == pytest.approx(spread, rel=0.2)


def test_nan_features_give_a_nan_value_not_an_exception() -> None:
    broken = features(1, 100)
    broken[3, 2] = np.nan
    value, stderr, _ = score(objective(features(0, 500)), broken)
    assert np.isnan(value)
    assert stderr is None


def test_a_single_sample_has_no_covariance() -> None:
    assert np.isnan(score(objective(features(0, 500)), features(1, 1))[0])


def test_means_far_from_zero_keep_their_precision() -> None:
    real, generated = features(0, 3000, shift=1e4), features(1, 3000, 1.05, shift=1e4)
    plain = FrechetReference(*moments(real)).distance(*moments(generated.astype(np.float32).astype(np.float64)))
    assert score(objective(real), generated)[0] == pytest.approx(plain, rel=1e-6)


def test_what_is_missing_is_said() -> None:
    with pytest.raises(InputError, match=r"set objective\.reference"):
        FrechetDistance(FidParams()).prepare(None)
    with pytest.raises(InputError, match=r"set objective\.features"):
        objective(features(0, 50)).add(Moments.empty(np.zeros(D), 10), Batch(torch.zeros(1), [0]))
    with pytest.raises(InputError, match=r"a mean of shape \[3\] and a covariance of shape \[4, 4\]"):
        FrechetReference(np.zeros(3), np.eye(4))
    with pytest.raises(InputError, match="NaN or infinite"):
        FrechetReference(np.zeros(2), np.full((2, 2), np.nan))
