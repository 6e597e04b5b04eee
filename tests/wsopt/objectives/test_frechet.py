from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from wsopt.errors import InputError
from wsopt.objectives.frechet import GRAM_SHARE, FrechetReference
from wsopt.objectives.references import DerivedCache
from wsopt.types import FloatArray

D = 48


def features(seed: int, n: int, scale: float = 1.0, shift: float = 0.0, falloff: float = 1.0, d: int = D) -> FloatArray:
    """Rows whose standard deviations fall off by a factor of 10**falloff over the d directions; exact in float32."""
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(np.random.default_rng(99).normal(size=(d, d)))[0]
    rows = shift + scale * (generator.normal(size=(n, d)) * np.logspace(0, -falloff, d)) @ basis
    return np.asarray(rows.astype(np.float32), dtype=np.float64)


def moments(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    return x.mean(axis=0), np.cov(x, rowvar=False)


def of(x: FloatArray) -> FrechetReference:
    return FrechetReference(*moments(x))


def exact(real: FloatArray, x: FloatArray) -> float:
    """From singular values of the data's triangular factors: no covariance is formed, nothing is squared."""
    a, b = (np.linalg.qr(y - y.mean(axis=0), mode="r") / np.sqrt(len(y) - 1) for y in (real, x))
    roots = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(((real.mean(axis=0) - x.mean(axis=0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * roots)


def dense(reference: FrechetReference, x: FloatArray) -> float:
    """The plain d x d form, which knows nothing of the rank."""
    return reference.distance(*moments(x))


class Identity(nn.Module):
    num_features = D

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize(("n", "scale", "shift"), [(2000, 1.0, 0.0), (500, 1.3, 0.4), (100, 0.5, -3.0)])
def test_equals_torchmetrics(n: int, scale: float, shift: float) -> None:
    real, generated = features(0, 3000), features(1, n, scale, shift)
    metric = FrechetInceptionDistance(feature=Identity(), normalize=True).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(generated), real=False)
    value = float(metric.compute())
    assert of(real).distance_of(generated) == pytest.approx(value, rel=1e-6)
    assert of(real).distance(*moments(generated)) == pytest.approx(value, rel=1e-6)
    assert of(real).distance(*moments(generated), samples=n) == pytest.approx(value, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=9, max_size=9), st.floats(0.01, 10), st.floats(-5, 5))
def test_commuting_covariances_have_a_closed_form(variances: list[float], other: float, shift: float) -> None:
    basis = np.linalg.qr(np.random.default_rng(4).normal(size=(9, 9)))[0]
    first, second = np.array(variances), np.array(variances[::-1]) * other
    expected = 9 * shift**2 + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    reference = FrechetReference(np.zeros(9), basis @ np.diag(first) @ basis.T)
    for order in ("C", "F"):
        covariance = np.array(basis @ np.diag(second) @ basis.T, order=order)
        before = covariance.copy()
        assert reference.distance(np.full(9, shift), covariance) == pytest.approx(expected, rel=1e-9, abs=1e-9)
        np.testing.assert_array_equal(covariance, before)


@pytest.mark.parametrize("n", [2, 3, 20, int(GRAM_SHARE * D), int(GRAM_SHARE * D) + 1, D, D + 2, 400])
def test_both_routes_are_exact(n: int) -> None:
    real, x = features(0, 2000), features(1, n, 1.2, 0.1)
    reference, truth = of(real), exact(real, x)
    found = reference.distance_of(x)
    assert reference.takes_gram(n) is (n < GRAM_SHARE * D)
    assert found == pytest.approx(truth, rel=1e-11)
    assert dense(reference, x) == pytest.approx(found, abs=1e-4)
    assert reference.distance(*moments(x), samples=n) == pytest.approx(truth, rel=1e-9)
    assert reference.distance_of(x.astype(np.float32)) == found


@pytest.mark.parametrize("falloff", [1.0, 4.5])
def test_few_samples_are_nearer_the_truth_by_the_gram_route(falloff: float) -> None:
    real, x = features(0, 20_000, falloff=falloff), features(1, 30, 1.1, falloff=falloff)
    reference, truth = of(real), exact(real, x)
    plain, gram = abs(dense(reference, x) - truth), abs(reference.distance_of(x) - truth)
    assert plain < 1e-4
    assert gram < 1e-10
    assert gram < plain / 100


def float32_moments(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sums of products that are not centred, in float32."""
    rows = x.astype(np.float32)
    mean = rows.mean(axis=0)
    covariance = (rows.T @ rows - np.float32(len(x)) * np.outer(mean, mean)) / np.float32(len(x) - 1)
    return mean.astype(np.float64), covariance.astype(np.float64)


def test_a_hard_spectrum_needs_float64() -> None:
    """Variances down to 1e-9 of the largest: float32 moments lose the small ones, float64 ones do not."""
    real, x = features(0, 20_000, shift=0.5, falloff=4.5), features(1, 20_000, 1.3, shift=0.5, falloff=4.5)
    truth = exact(real, x)
    assert of(real).distance_of(x) == pytest.approx(truth, abs=2e-7)
    single = FrechetReference(*float32_moments(real))
    assert abs(single.distance(*float32_moments(x)) - truth) > 2e-6
    assert abs(of(real).distance_of(real)) < 2e-7
    assert abs(single.distance(*float32_moments(real))) > 2e-6


@pytest.mark.parametrize("falloff", [1.0, 4.5])
def test_a_set_against_itself_is_zero(falloff: float) -> None:
    for n in (20, 5000):
        x = features(0, n, falloff=falloff)
        assert of(x).distance_of(x) == pytest.approx(0.0, abs=2e-7)


def test_a_collapsed_model_has_the_closed_form() -> None:
    real = features(0, 500)
    mean, covariance = moments(real)
    for n in (5, 20, 300):
        found = of(real).distance_of(np.repeat(real[:1], n, axis=0))
        assert found == pytest.approx(((real[0] - mean) ** 2).sum() + np.trace(covariance), rel=1e-9)


@pytest.mark.parametrize("n", [10, 200])
def test_a_reference_of_few_samples(n: int) -> None:
    thin, x = features(0, 15), features(1, n, 1.2)
    reference = of(thin)
    assert reference.rank == 14
    assert reference.distance_of(x) == pytest.approx(exact(thin, x), rel=1e-10)
    assert dense(reference, x) == pytest.approx(exact(thin, x), rel=1e-6)


@pytest.mark.parametrize("n", [10, 200])
def test_a_reference_with_dead_features(n: int, capfd: pytest.CaptureFixture[str]) -> None:
    real, x = features(0, 500), features(1, n)
    real[:, [0, 7]] = 0.25
    assert of(real).rank == D - 2
    assert of(real).distance_of(x) == pytest.approx(exact(real, x), rel=1e-10)
    nothing = FrechetReference(np.zeros(D), np.zeros((D, D)))
    assert nothing.rank == 0
    assert nothing.distance_of(x) == pytest.approx((x.mean(0) ** 2).sum() + np.trace(np.cov(x, rowvar=False)))
    assert capfd.readouterr() == ("", "")  # BLAS complains about empty matrices on its own


def test_the_distance_is_symmetric() -> None:
    x, y = features(0, 500), features(1, 400, 1.2)
    assert of(x).distance_of(y) == pytest.approx(of(y).distance_of(x), rel=1e-10)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 120), st.integers(0, 1000), st.floats(0.1, 10), st.floats(-5, 5))
def test_rotation_shift_scale_and_order(n: int, seed: int, scale: float, shift: float) -> None:
    generator = np.random.default_rng(seed)
    real, x = features(3, 300), features(4, n, 1.3)
    before = of(real).distance_of(x)
    rotation = np.linalg.qr(generator.normal(size=(D, D)))[0]
    move = shift * generator.normal(size=D)
    after = of(scale * real @ rotation + move).distance_of((scale * x @ rotation + move)[generator.permutation(n)])
    assert after == pytest.approx(scale**2 * before, rel=1e-9)


@pytest.mark.parametrize("n", [40, 200])
def test_subsets_equal_themselves_alone(n: int) -> None:
    reference, x = of(features(0, 1000)), features(1, n, 1.2, shift=50.0)
    masks = [np.arange(n) % 4 != block for block in range(4)]
    masks += [np.ones(n, dtype=bool), np.arange(n) < 1, np.zeros(n, dtype=bool), np.arange(n) < 3]
    found = reference.distances_of(x, masks)
    alone = [reference.distance_of(x[mask]) for mask in masks]
    np.testing.assert_allclose(found, alone, rtol=1e-9)
    assert np.isnan(found[5])
    assert np.isnan(found[6])


@pytest.mark.parametrize("n", [0, 1, 5, 200])
def test_broken_or_too_few_vectors_give_nan(n: int) -> None:
    reference, x = of(features(0, 500)), features(1, n)
    if n > 1:
        x[0, 0] = np.nan
        assert np.isnan(reference.distance_of(x))
        x[0, 0], x[1, 0] = np.inf, -np.inf
    assert np.isnan(reference.distance_of(x))
    mean, covariance = moments(features(1, 50))
    assert np.isnan(reference.distance(mean * np.nan, covariance))
    assert np.isnan(reference.distance(mean, covariance + np.inf))
    assert np.isnan(reference.distance(mean, covariance * 1e308))


@pytest.mark.parametrize(("real", "rank"), [(features(0, 500), D), (features(0, 15), 14), (np.full((500, D), 0.25), 0)])
@pytest.mark.parametrize("n", [20, 200])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_factor_is_kept_and_gives_the_same_bits(
    real: FloatArray, rank: int, n: int, precision: Literal["float64", "float32"], tmp_path: Path
) -> None:
    """Also where the Cholesky factor fails, in the n x n route and the d x d route."""
    mean, covariance = moments(real)
    asked: list[str] = []

    def derived(key: str, compute: Callable[[], FloatArray]) -> FloatArray:
        def counted() -> FloatArray:
            asked.append(key)
            return compute()

        return DerivedCache(tmp_path).array("d" * 64, key, counted)

    x = features(1, n, 1.3)
    plain = FrechetReference(mean, covariance, precision=precision)
    cold, warm = (FrechetReference(mean, covariance, derived, precision=precision) for _ in range(2))
    assert len(asked) == 1
    assert cold.rank == warm.rank == rank
    assert plain.distance_of(x) == cold.distance_of(x) == warm.distance_of(x)
    assert plain.distance(*moments(x)) == cold.distance(*moments(x)) == warm.distance(*moments(x))


def test_what_is_no_gaussian_is_refused() -> None:
    with pytest.raises(InputError, match=r"a mean of shape \[3\] and a covariance of shape \[4, 4\]"):
        FrechetReference(np.zeros(3), np.eye(4))
    with pytest.raises(InputError, match=r"file\.npz: mean or covariance hold NaN or infinite"):
        FrechetReference(np.zeros(2), np.full((2, 2), np.nan), name="file.npz")
    with pytest.raises(InputError, match="not symmetric"):
        FrechetReference(np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(InputError, match="an eigenvalue of -1"):
        FrechetReference(np.zeros(2), np.diag([1.0, -1.0]))


def test_another_dimension_names_both() -> None:
    reference = FrechetReference(np.zeros(3), np.eye(3))
    with pytest.raises(InputError, match=r"shape \[5, 4\].*dimension 3"):
        reference.distance_of(np.zeros((5, 4)))
    with pytest.raises(InputError, match=r"\[4\] and \[4, 4\].*dimension 3"):
        reference.distance(np.zeros(4), np.eye(4))
