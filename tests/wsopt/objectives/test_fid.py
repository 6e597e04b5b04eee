from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsopt.config.params import FidParams
from wsopt.errors import InputError
from wsopt.objectives import FrechetClip, FrechetDistance, Reference
from wsopt.objectives.frechet import FrechetReference
from wsopt.objectives.jackknife import BLOCKS, stderr_of
from wsopt.objectives.moments import Moments
from wsopt.types import Batch, FloatArray, Score

D = 16


def features(seed: int, n: int, scale: float = 1.0, shift: float = 0.0, d: int = D) -> FloatArray:
    mixing = np.random.default_rng(99).normal(size=(d, d))
    rows = shift + scale * np.random.default_rng(seed).normal(size=(n, d)) @ mixing
    return rows.astype(np.float32).astype(np.float64)


def objective(real: FloatArray, params: FidParams | None = None) -> FrechetDistance:
    made = FrechetDistance(params or FidParams())
    made.prepare(Reference("digits/train", "f", "0", "round", real.mean(axis=0), np.cov(real, rowvar=False), len(real)))
    return made


def added(made: FrechetDistance, x: FloatArray, batch: int = 64, limit: int | None = None) -> Moments:
    acc = made.new() if limit is None else Moments(made.new().shift, row_limit=limit)
    for at in range(0, len(x), batch):
        part = torch.from_numpy(x[at : at + batch]).float()
        acc = made.add(acc, Batch(part, range(at, at + len(part)), features=part))
    return acc


def score(made: FrechetDistance, x: FloatArray, batch: int = 64, limit: int | None = None) -> Score:
    return made.score(added(made, x, batch, limit))


@pytest.mark.parametrize("n", [12, 300])
@pytest.mark.parametrize("limit", [None, 5])
def test_the_value_is_the_distance_of_all_samples(n: int, limit: int | None) -> None:
    real, x = features(0, 500), features(1, n, 1.2)
    expected = FrechetReference(real.mean(axis=0), np.cov(real, rowvar=False)).distance_of(x)
    made = objective(real)
    found = score(made, x, limit=limit)
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert found.samples == n
    assert made.score(added(made, x, limit=limit), stderr=False) == Score(found.value, None, n)


@pytest.mark.parametrize("n", [12, 300])
@pytest.mark.parametrize("limit", [None, 5])
def test_replicates_are_the_values_without_each_block(n: int, limit: int | None) -> None:
    made, x = objective(features(0, 500)), features(1, n, 1.2)
    again = [score(made, x[np.arange(n) % BLOCKS != block]).value for block in range(BLOCKS)]
    found = score(made, x, limit=limit)
    np.testing.assert_allclose(found.replicates, again, rtol=1e-9)
    np.testing.assert_array_equal(made.replicates(added(made, x, limit=limit)), found.replicates)
    assert found.stderr == stderr_of(found.replicates)


@pytest.mark.parametrize("n", [12, 301])
def test_debiased_takes_the_two_halves(n: int) -> None:
    made, x = objective(features(0, 500)), features(1, n, 1.2)
    even, odd = (score(made, x[half::2]).value for half in (0, 1))
    found = score(made, x)
    assert found.debiased == pytest.approx(2 * found.value - (even + odd) / 2, rel=1e-8)


@pytest.mark.parametrize(("n", "d"), [(300, D), (150, 300)])
def test_two_halves_take_most_of_the_bias_away(n: int, d: int) -> None:
    """Against the distance of the Gaussians themselves, by the closed form of commuting covariances."""
    spread = np.arange(1, d + 1) ** -0.7
    truth = (0.2**2 * spread**2).sum()
    made = FrechetDistance(FidParams())
    made.prepare(Reference("r", "f", "0", "round", np.zeros(d), np.diag(spread**2), 0))
    draws = (np.random.default_rng(seed).normal(size=(n, d)) for seed in range(12 if d > D else 40))
    found = [score(made, 1.2 * draw * spread, n) for draw in draws]
    raw = np.mean([one.value for one in found]) - truth
    debiased = np.mean([one.debiased for one in found if one.debiased is not None]) - truth
    assert raw > 0
    assert abs(debiased) < raw / 3


def test_the_jackknife_error_is_the_spread_over_repeats() -> None:
    """Against the truth by brute force: 100 independent sample sets."""
    made = objective(features(0, 5000))
    found = [score(made, features(1000 + i, 500, 1.1), 500) for i in range(100)]
    spread = np.std([one.value for one in found], ddof=1)
    assert np.mean([one.stderr or 0 for one in found]) == pytest.approx(spread, rel=0.2)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), st.integers(0, 10), st.sampled_from([None, 40]))
def test_batches_and_order_do_not_matter(batch: int, seed: int, limit: int | None) -> None:
    made, x = objective(features(0, 500)), features(2, 300)
    whole, found = score(made, x, 300), score(made, x, batch, limit)
    assert found.value == pytest.approx(whole.value, rel=1e-10)
    assert found.stderr == pytest.approx(whole.stderr, rel=1e-7)
    assert found.debiased == pytest.approx(whole.debiased, rel=1e-8)
    if limit is None:
        assert found == whole
    order = np.random.default_rng(seed).permutation(300)
    part = torch.from_numpy(x[order]).float()
    acc = made.add(made.new(), Batch(part, [int(i) for i in order], features=part))
    assert made.score(acc).stderr == pytest.approx(whole.stderr, rel=1e-7)


def test_the_same_batches_give_the_same_bits_and_scoring_leaves_them() -> None:
    made, x = objective(features(0, 500)), features(2, 300)
    for limit in (None, 50):
        acc = added(made, x[:200], 32, limit)
        first = made.score(acc)
        assert made.score(acc) == first == score(made, x[:200], 32, limit)
        part = torch.from_numpy(x[200:]).float()
        made.add(acc, Batch(part, range(200, 300), features=part))
        assert made.score(acc).value == pytest.approx(score(made, x).value, rel=1e-10)


def test_accumulators_add_up() -> None:
    made, x = objective(features(0, 500)), torch.from_numpy(features(2, 300)).float()
    halves = [made.add(made.new(), Batch(x[i::2], range(i, 300, 2), features=x[i::2])) for i in (0, 1)]
    merged, whole = made.score(made.merge(*halves)), score(made, x.double().numpy())
    assert merged.value == pytest.approx(whole.value, rel=1e-10)
    np.testing.assert_allclose(merged.replicates, whole.replicates, rtol=1e-9)
    assert merged.samples == 300


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("n", [10, 100])
@pytest.mark.parametrize("limit", [None, 5])
def test_features_that_are_not_finite_give_a_nan_value(bad: float, n: int, limit: int | None) -> None:
    broken = features(1, n)
    broken[3, 2] = bad
    found = score(objective(features(0, 500)), broken, limit=limit)
    assert np.isnan(found.value)
    assert (found.stderr, found.debiased, found.replicates) == (None, None, ())


def test_few_samples() -> None:
    made = objective(features(0, 500))
    nothing, one, two, four = (score(made, features(1, n)) for n in (0, 1, 2, 4))
    assert np.isnan(nothing.value)
    assert np.isnan(one.value)
    assert np.isfinite(two.value)
    assert (two.stderr, two.debiased) == (None, None)  # without one of two there is no covariance
    assert four.stderr is not None
    assert four.debiased is not None
    assert score(made, features(1, 3)).debiased is None  # a half of one
    assert made.replicates(added(made, features(1, 1))) is None


@pytest.mark.parametrize("n", [12, 3000])
@pytest.mark.parametrize("limit", [5000, 5])
def test_float32_is_asked_for_and_changes_the_value_only_of_kept_rows(n: int, limit: int | None) -> None:
    real, x = (s * np.random.default_rng(i).normal(size=(k, D)) for i, k, s in ((0, 500, 1.0), (1, n, 1.4)))
    double = score(objective(real), x, limit=limit)
    single = score(objective(real, FidParams(precision="float32")), x, limit=limit)
    assert single.value == pytest.approx(double.value, rel=1e-6)
    assert (single.value != double.value) is (limit == 5000 and n == 3000)
    assert (single.replicates, single.stderr) == (double.replicates, double.stderr)
    assert FidParams().precision == "float64"


def test_a_search_allocates_no_sums_per_block() -> None:
    d, n = 256, 700
    made, x = objective(features(0, 400, d=d)), features(1, n, d=d)
    parts = [torch.from_numpy(x[at : at + 50]).float() for at in range(0, n, 50)]
    tracemalloc.start()
    acc = made.new()
    for number, part in enumerate(parts):
        acc = made.add(acc, Batch(part, range(50 * number, 50 * number + 50), features=part))
    made.score(acc, stderr=False)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < BLOCKS * d * d * 8


def test_means_far_from_zero_keep_their_precision() -> None:
    real, x = features(0, 3000, shift=1e4), features(1, 3000, 1.05, shift=1e4)
    plain = FrechetReference(real.mean(axis=0) - 1e4, np.cov(real, rowvar=False)).distance_of(x - 1e4)
    for limit in (None, 100):
        assert score(objective(real), x, limit=limit).value == pytest.approx(plain, rel=1e-7)


def test_gradients_and_other_types_are_taken() -> None:
    made, x = objective(features(0, 500)), features(1, 50)
    part = torch.from_numpy(x).requires_grad_()
    acc = made.add(made.new(), Batch(part, range(50), features=part))
    assert made.score(acc) == score(made, x)


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InputError, match=r"objective fid .*set objective\.reference"):
        FrechetDistance(FidParams()).prepare(None)
    with pytest.raises(InputError, match=r"objective fcd .*set objective\.reference"):
        FrechetClip(FidParams()).prepare(None)
    made = objective(features(0, 50))
    with pytest.raises(InputError, match=r"set objective\.features"):
        made.add(made.new(), Batch(torch.zeros(1), [0]))
    with pytest.raises(InputError, match=r"shape \[2, 5\].*dimension 16"):
        made.add(made.new(), Batch(torch.zeros(2), [0, 1], features=torch.zeros(2, 5)))
    with pytest.raises(InputError, match="reference digits/train: a mean of shape"):
        FrechetDistance(FidParams()).prepare(Reference("digits/train", "f", "0", "none", np.zeros(3), np.eye(2), 9))
    with pytest.raises(RuntimeError, match="prepare"):
        FrechetDistance(FidParams()).new()
