from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg.blas import ssyrk

from wsopt.objectives import _single
from wsopt.objectives._single import LIMIT, float32_resolves, mean_and_float32_covariance, rounding_bound
from wsopt.objectives.frechet import FrechetReference
from wsopt.objectives.moments import mirrored
from wsopt.types import FloatArray

D = 48
HARD = 4.5
"""Standard deviations fall by 10^4.5: variances down to 1e-9 of the largest."""


def features(seed: int, n: int, scale: float = 1.0, falloff: float = 1.0, shift: float = 0.5) -> NDArray[np.float32]:
    basis = np.linalg.qr(np.random.default_rng(99).normal(size=(D, D)))[0]
    rows = scale * (np.random.default_rng(seed).normal(size=(n, D)) * np.logspace(0, -falloff, D)) @ basis
    moved: NDArray[np.float32] = (rows + shift).astype(np.float32)
    return moved


def moments(x: NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
    return x.mean(axis=0, dtype=np.float64), np.cov(x.astype(np.float64), rowvar=False)


@cache
def both(falloff: float = 1.0, shift: float = 0.5) -> tuple[FrechetReference, FrechetReference]:
    """In float32 where it is safe, and always in float64."""
    mean, covariance = moments(features(0, 10_000, falloff=falloff, shift=shift))
    return FrechetReference(mean, covariance, precision="float32"), FrechetReference(mean, covariance)


@pytest.mark.parametrize("n", [60, 500, 2501, 6000])
def test_the_covariance_and_its_measured_error(n: int) -> None:
    x = features(1, n, 1.3)
    mean, upper, size = mean_and_float32_covariance(x)
    exact_mean, exact = moments(x)
    np.testing.assert_allclose(mean, exact_mean, rtol=1e-13)
    np.testing.assert_allclose(np.diagonal(upper), np.diagonal(exact), rtol=1e-12)
    assert not np.tril(upper, -1).any()
    spread = np.sqrt(np.diagonal(exact))
    error = (mirrored(upper) - exact) / np.outer(spread, spread)
    assert 1e-9 < size < 1e-7
    typical = np.sqrt((error**2).sum() / (D * (D - 1)))
    assert typical < 1.2 * size < 6 * typical


@pytest.mark.parametrize("shift", [0.5, 1e3])
@pytest.mark.parametrize(("falloff", "scale"), [(0.0, 1.3), (0.5, 0.7), (1.0, 1.3), (1.5, 2.0)])
def test_mild_spectra_stay_in_float32_with_an_error_below_the_bound(falloff: float, scale: float, shift: float) -> None:
    # Offsets of 1000 would leave float32 sums nothing; vectors less their mean have none.
    single, double = both(falloff, shift)
    x = features(1, 6000, scale, falloff, shift)
    truth = double.distance_of(x)
    value, bound = single.distance_in_float32(x)
    assert 0 < abs(value - truth) < bound < LIMIT * truth
    assert single.distance_of(x) == value
    assert value != truth


@pytest.mark.parametrize("falloff", [0.0, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("scale", [1.02, 1.3])
def test_the_bound_holds_where_it_is_too_large_to_be_used_too(falloff: float, scale: float) -> None:
    single, double = both(falloff)
    for seed in range(1, 9):
        x = features(seed, 1500, scale, falloff)
        value, bound = single.distance_in_float32(x)
        truth = double.distance_of(x)
        assert abs(value - truth) < bound
        assert single.distance_of(x) == (value if bound <= LIMIT * value else truth)


@pytest.mark.parametrize("n", [60, 20_000])
def test_a_hard_spectrum_falls_back_and_is_right(n: int) -> None:
    single, double = both(HARD)
    x = features(1, n, 1.3, HARD)
    assert single.distance_in_float32(x)[1] == np.inf
    assert single.distance_of(x) == double.distance_of(x)
    sets = features(0, 10_000, 1.0, HARD), x
    triangles = [np.linalg.qr(y - y.mean(axis=0, dtype=np.float64), mode="r") for y in sets]
    first, second = triangles[0] / np.sqrt(9999), triangles[1] / np.sqrt(n - 1)
    roots = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    shift = double.mean - x.mean(axis=0, dtype=np.float64)
    truth = shift @ shift + (first**2).sum() + (second**2).sum() - 2 * roots
    assert single.distance_of(x) == pytest.approx(truth, rel=LIMIT)


def test_without_the_guard_a_hard_spectrum_is_wrong_by_more_than_is_promised() -> None:
    single, double = both(HARD)
    x = features(1, 20_000, 1.02, HARD)
    truth = double.distance_of(x)
    mean, upper, _ = mean_and_float32_covariance(x)
    assert abs(double.distance(mean, mirrored(upper)) - truth) > 2 * LIMIT * truth
    assert single.distance_of(x) == truth


def test_hard_samples_against_a_mild_reference_fall_back() -> None:
    single, double = both()
    for x in (features(1, 3000, 1.3, HARD), np.repeat(features(1, 1), 3000, axis=0)):
        assert np.isnan(single.distance_in_float32(x)[0])
        assert single.distance_of(x) == double.distance_of(x)


def test_a_direction_hidden_by_float32_falls_back() -> None:
    """Two features that differ by 1e-4 of themselves in one of two uncorrelated sets."""
    single, double = both(0.0)
    x = features(1, 3000, 1.3, 0.0)
    x[:, 1] = x[:, 0] * (1 + 1e-4 * np.random.default_rng(5).normal(size=3000).astype(np.float32))
    assert single.distance_in_float32(x)[1] == np.inf
    assert single.distance_of(x) == double.distance_of(x)


def test_a_distance_near_zero_falls_back() -> None:
    single, double = both()
    x = features(0, 10_000)
    value, bound = single.distance_in_float32(x)
    assert bound > LIMIT * abs(value)
    assert single.distance_of(x) == double.distance_of(x)


@pytest.mark.parametrize("n", [2, 20, 44, D])
def test_few_samples_are_in_float64(n: int) -> None:
    single, double = both()
    x = features(1, n)
    assert single.distance_in_float32(x)[1] == np.inf
    assert single.distance_of(x) == double.distance_of(x)


@pytest.mark.parametrize("scale", [1e-30, 1e-24, 1e20, 1e30])
def test_what_float32_cannot_hold_falls_back(scale: float) -> None:
    single, double = both()
    x = (features(1, 500, shift=0.0).astype(np.float64) * scale).astype(np.float32)
    assert single.distance_of(x) == double.distance_of(x)
    assert np.isfinite(double.distance_of(x))


def test_a_dead_feature_and_broken_vectors_fall_back() -> None:
    single, double = both()
    x = features(1, 500)
    x[:, 3] = 0.25
    assert single.distance_of(x) == double.distance_of(x)
    x[4, 2] = np.nan
    assert np.isnan(single.distance_of(x))
    real = features(0, 500)
    real[:, 3] = 0.25
    assert FrechetReference(*moments(real), precision="float32").distance_in_float32(features(1, 500))[1] == np.inf


def test_the_bound_has_the_terms_that_are_derived() -> None:
    """Diagonal covariances: C = 1, so that tr A B = sum of the products of variances."""
    variances, reference = np.linspace(0.5, 2, D), np.linspace(1, 3, D)
    size = 1e-8
    ratio = 2 * np.sqrt(D) * (size + 2.0**-24) * np.sqrt(D)
    norm = np.sqrt((variances * reference).sum() / (1 - ratio))
    expected = 4 * np.sqrt(2) * size * norm + 4 * size**2 * D * np.sqrt(D) * norm
    found = rounding_bound(np.asfortranarray(np.diag(variances)), size, np.diag(reference))
    assert found == pytest.approx(expected, rel=1e-6)
    assert rounding_bound(np.asfortranarray(np.diag(variances)), 1.0, np.diag(reference)) == np.inf


def test_the_norm_of_a_geometric_mean_is_bounded_by_the_trace_of_the_product() -> None:
    """The inequality that the bound rests on, and that it is reached by matrices that commute."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        first, second = (y @ y.T for y in generator.normal(size=(2, 6, 7)))
        values, vectors = np.linalg.eigh(first)
        root = vectors * np.sqrt(values) @ vectors.T
        inner, turned = np.linalg.eigh(np.linalg.solve(root, np.linalg.solve(root, second).T))
        mean = root @ (turned * np.sqrt(inner.clip(0)) @ turned.T) @ root
        assert (mean**2).sum() <= np.trace(first @ second) * (1 + 1e-9)
    x, y = generator.uniform(1, 2, size=(2, 6))
    assert (np.sqrt(x * y) ** 2).sum() == pytest.approx((x * y).sum())


def test_which_references_float32_resolves() -> None:
    assert float32_resolves(moments(features(0, 5000))[1])
    assert not float32_resolves(moments(features(0, 5000, falloff=HARD))[1])
    assert not float32_resolves(moments(features(0, 20))[1])
    assert not float32_resolves(np.zeros((3, 3)))


def test_few_dimensions() -> None:
    for d in (1, 2, 3):
        x, real = features(1, 900, 1.4, 0.5)[:, :d], features(0, 900, 1.0, 0.5)[:, :d]
        covariance = np.atleast_2d(np.cov(real.astype(np.float64), rowvar=False))
        mean = real.mean(axis=0, dtype=np.float64)
        single = FrechetReference(mean, covariance, precision="float32")
        truth = FrechetReference(mean, covariance).distance_of(x)
        assert single.distance_of(x) == pytest.approx(truth, rel=LIMIT)


def test_the_measured_columns_see_every_feature_where_there_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that is wrong in one entry is noticed."""

    def wrong(alpha: float, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        product = ssyrk(alpha, rows)
        product[2, 5] *= 1.01
        return np.asarray(product)

    monkeypatch.setattr(_single, "PROBES", D)
    monkeypatch.setattr(_single, "ssyrk", wrong)
    assert mean_and_float32_covariance(features(1, 500))[2] > 1e-5
