from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wsopt.errors import InputError
from wsopt.objectives.moments import Moments, mean_and_upper_covariance, mirrored

D = 6


def rows(seed: int, n: int, d: int = D, shift: float = 0.0) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) + shift).astype(np.float32)


def filled(x: NDArray[np.float32], batch: int = 7, limit: int | None = None, blocks: int = 4) -> Moments:
    moments = Moments(np.full(x.shape[1], 0.5), blocks, limit)
    for at in range(0, len(x), batch):
        part = x[at : at + batch]
        moments.add(part, np.arange(at, at + len(part)) % blocks)
    return moments


def same(moments: Moments, x: NDArray[np.float32], keep: list[bool] | None = None) -> None:
    mean, covariance = moments.mean_covariance(keep)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(exact, rowvar=False), rtol=1e-10, atol=1e-11)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 5), st.integers(2, 60), st.integers(1, 30), st.sampled_from([None, 0, 1, 5, 20]))
def test_equals_numpy_however_the_rows_came(seed: int, n: int, batch: int, limit: int | None) -> None:
    x = rows(seed, n)
    moments = filled(x, batch, limit)
    same(moments, x)
    same(moments.folded(), x)
    assert moments.samples == n
    assert moments.count([True, False, False, False]) == -(-n // 4)


@pytest.mark.parametrize("limit", [None, 10, 0])
def test_subsets_of_blocks(limit: int | None) -> None:
    x = rows(0, 50)
    keep = [True, False, True, True]
    chosen = x[np.array(keep)[np.arange(50) % 4]]
    same(filled(x, 7, limit), chosen, keep)
    assert filled(x, 7, limit).count(keep) == len(chosen)


@pytest.mark.parametrize("limits", [(None, None), (None, 5), (5, None), (5, 12)])
def test_merged_is_all_of_them_and_leaves_both(limits: tuple[int | None, int | None]) -> None:
    x = rows(1, 40)
    first, second = Moments(np.zeros(D), 4, limits[0]), Moments(np.zeros(D), 4, limits[1])
    first.add(x[:15], np.arange(15) % 4)
    second.add(x[15:], np.arange(15, 40) % 4)
    merged = first.merged(second)
    same(merged, x)
    assert merged.counts.tolist() == [10, 10, 10, 10]
    merged.add(x, np.zeros(40))
    same(first, x[:15])
    same(second, x[15:])


def test_rows_are_kept_up_to_the_limit_and_copied() -> None:
    x = rows(2, 30)
    moments = filled(x, 4, 30)
    assert moments.vectors is not None
    np.testing.assert_array_equal(moments.vectors, x)
    assert moments.vectors.dtype == np.float32
    assert moments.blocks.tolist() == [i % 4 for i in range(30)]
    kept = x.copy()
    x[:] = 0
    same(moments, kept)
    moments.add(kept[:1], [0])
    assert moments.vectors is None


def test_float64_rows_keep_their_precision() -> None:
    x = rows(3, 30).astype(np.float64) + 1e-9
    moments = Moments(np.zeros(D), 2)
    moments.add(x.astype(np.float32), np.zeros(30))
    moments.add(x, np.ones(30))
    mean, _ = moments.mean_covariance([False, True])
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-14, atol=1e-14)


def test_memory_does_not_grow_with_the_samples() -> None:
    d, blocks = 32, 4
    sums = blocks * d * d * 8
    moments = Moments(np.zeros(d), blocks)
    tracemalloc.start()
    for seed in range(60):
        moments.add(rows(seed, 64, d), np.arange(64) % blocks)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 60 * 64 * d * 4 > 10 * sums
    assert most < 5 * sums


def test_means_far_from_zero_keep_their_precision_in_sums() -> None:
    x = rows(4, 3000, shift=1e4)
    moments = Moments(np.full(D, 1e4), 2, row_limit=100)
    moments.add(x, np.arange(3000) % 2)
    np.testing.assert_allclose(
        moments.mean_covariance()[1], np.cov(x.astype(np.float64), rowvar=False), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("limit", [None, 1])
def test_nan_and_infinity_and_too_few_give_nan(limit: int | None) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        x = rows(5, 20)
        x[3, 2] = bad
        x[4, 2] = -bad
        assert np.isnan(filled(x, 7, limit).mean_covariance()[1]).any()
    one = filled(rows(5, 1), 7, limit)
    assert np.isnan(one.mean_covariance()[0]).all()
    assert one.mean_covariance()[1].shape == (D, D)
    assert np.isnan(Moments(np.zeros(D)).mean_covariance()[1]).all()


def test_the_upper_triangle_of_many_chunks() -> None:
    x = rows(6, 2500)
    mean, upper = mean_and_upper_covariance(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(mirrored(upper), np.cov(exact, rowvar=False), rtol=1e-12, atol=1e-12)
    assert not np.tril(upper, -1).any()


@pytest.mark.parametrize("shape", [(3, D + 1), (D,), (2, 3, D)])
def test_another_length_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=f"dimension {D}") as caught:
        Moments(np.zeros(D)).add(np.zeros(shape, dtype=np.float32), np.zeros(shape[0]))
    assert str(list(shape)) in str(caught.value)
