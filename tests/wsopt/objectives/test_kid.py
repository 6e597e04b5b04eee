from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.image.kid import KernelInceptionDistance

from feature_sets import Vectors, batch_of, filled, reference_of, vectors
from wsopt.config.params import KidParams
from wsopt.errors import InputError
from wsopt.objectives._kid import KernelDistance
from wsopt.objectives.jackknife import stderr_of
from wsopt.objectives.kernel import PolynomialKernel, kernel_sums, mean_within
from wsopt.objectives.references import DerivedCache
from wsopt.types import Batch

D = 24


def objective(real: Vectors, **params: object) -> KernelDistance:
    found = KernelDistance(KidParams.model_validate(params))
    found.prepare(reference_of(real))
    return found


def by_hand(fake: Vectors, real: Vectors, degree: int = 3, gamma: float | None = None, coef: float = 1.0) -> float:
    """The unbiased estimate of the squared discrepancy, in float64, with whole kernel matrices."""
    x, y = fake.astype(np.float64), real.astype(np.float64)
    scale = 1 / x.shape[1] if gamma is None else gamma
    xx, yy, xy = ((scale * a @ b.T + coef) ** degree for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    return float((xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1)) - 2 * xy.mean())


@pytest.mark.parametrize("kernel", [(3, None, 1.0), (1, None, 1.0), (2, 0.1, 0.0), (4, 0.03, 2.0)])
def test_full_is_the_unbiased_estimate_over_all_pairs(kernel: tuple[int, float | None, float]) -> None:
    degree, gamma, coef = kernel
    fake, real = vectors(157, D, 1, 0.2), vectors(133, D, 2)
    found = objective(real, estimator="full", degree=degree, gamma=gamma, coef=coef)
    score = found.score(filled(found, fake))
    assert score.value == pytest.approx(by_hand(fake, real, degree, gamma, coef), rel=2e-6)
    assert score.samples == 157
    assert score.debiased is None


def test_float32_kernels_keep_the_digits_of_a_small_distance() -> None:
    # The kernels are 1.3 and the distance 1e-4: seven digits of a kernel would be three of the distance.
    fake, real = vectors(2000, 64, 1, 0.01), vectors(2000, 64, 2)
    found = objective(real)
    truth = by_hand(fake, real)
    assert abs(truth) < 1e-3
    assert found.score(filled(found, fake), stderr=False).value == pytest.approx(truth, abs=1e-9)


def test_blocks_are_a_mean_over_parts_in_turn_and_every_sample_counts() -> None:
    fake, real = vectors(70, D, 3), vectors(45, D, 4)
    found = objective(real, block_size=20)  # 3 parts of 24, 23 and 23; 2 of the reference, 23 and 22
    parts = [(fake[:24], real[:23]), (fake[24:47], real[23:]), (fake[47:], real[:23])]
    expected = np.mean([by_hand(a, b) for a, b in parts])
    assert found.score(filled(found, fake)).value == pytest.approx(expected, rel=2e-6)
    moved = fake.copy()
    moved[-1] += 1.0
    assert found.score(filled(found, moved)).value != pytest.approx(expected, rel=1e-4)


def test_blocks_agree_with_all_pairs_within_the_standard_error() -> None:
    fake, real = vectors(1000, D, 5, 0.05), vectors(1000, D, 6)
    blocks, full = objective(real, block_size=200), objective(real, estimator="full")
    one, other = (each.score(filled(each, fake)) for each in (blocks, full))
    assert one.stderr is not None
    assert other.stderr is not None
    assert abs(one.value - other.value) < 3 * np.hypot(one.stderr, other.stderr)
    assert other.value > 5 * other.stderr  # the test can tell the two sets apart at all


class Identity(torch.nn.Module):
    """Features that are handed in as images."""

    num_features = D

    def forward(self, images: Tensor) -> Tensor:
        return images


@pytest.mark.filterwarnings("ignore:.*will save all extracted features")
def test_subsets_equal_torchmetrics_on_the_same_parts() -> None:
    fake, real = torch.from_numpy(vectors(220, D, 7, 0.1)), torch.from_numpy(vectors(260, D, 8))
    theirs = KernelInceptionDistance(feature=Identity(), subsets=12, subset_size=90)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected, _ = theirs.compute()
        torch.manual_seed(5)
        parts = [(torch.randperm(260)[:90], torch.randperm(220)[:90]) for _ in range(12)]
    kernel, ours = PolynomialKernel(), []
    for real_rows, fake_rows in parts:
        other = real[real_rows]
        sums = kernel_sums(kernel, fake[fake_rows], np.arange(90) % 10, 10, other, mean_within(kernel, other))
        ours.append(sums.discrepancy())
    assert np.mean(ours) == pytest.approx(float(expected), abs=1e-6)
    assert abs(float(expected)) > 1e-3


def test_subsets_are_those_of_the_seed() -> None:
    fake, real = vectors(150, D, 7, 0.1), vectors(150, D, 8)
    settings = {"estimator": "subsets", "subsets": 30, "subset_size": 60}
    values = []
    for seed in (0, 0, 1):
        found = objective(real, seed=seed, **settings)
        values.append(found.score(filled(found, fake)).value)
    assert values[0] == values[1] != values[2]
    full = objective(real, estimator="full")
    assert np.mean(values) == pytest.approx(full.score(filled(full, fake)).value, abs=5e-3)
    # A part is never larger than the sets.
    whole = objective(real, estimator="subsets", subsets=2, subset_size=1000)
    assert whole.score(filled(whole, fake)).value == pytest.approx(by_hand(fake, real), rel=1e-5)


@pytest.mark.parametrize("estimator", ["blocks", "subsets", "full"])
def test_replicates_leave_a_block_out(estimator: str) -> None:
    fake, real = vectors(95, D, 9, 0.2), vectors(80, D, 10)
    found = objective(real, estimator=estimator, block_size=40, subsets=3, subset_size=50)
    acc = filled(found, fake)
    score = found.score(acc)
    replicates = found.replicates(acc)
    assert replicates is not None
    assert score.replicates == tuple(replicates)
    assert score.stderr == stderr_of(replicates)
    if estimator == "full":
        for block in range(10):
            expected = by_hand(fake[np.arange(95) % 10 != block], real)
            assert replicates[block] == pytest.approx(expected, rel=1e-5)
    if estimator == "blocks":  # parts of 48 and 47 samples, and of 40 real ones
        at = np.arange(95)
        mean = np.mean(
            [
                by_hand(fake[(at < 48) & (at % 10 != 7)], real[:40]),
                by_hand(fake[(at >= 48) & (at % 10 != 7)], real[40:]),
            ]
        )
        assert replicates[7] == pytest.approx(mean, rel=1e-5)


def test_a_search_gets_the_value_alone() -> None:
    found = objective(vectors(50, D, 1))
    acc = filled(found, vectors(60, D, 2))
    plain, full = found.score(acc, stderr=False), found.score(acc)
    assert plain.value == full.value
    assert (plain.stderr, plain.replicates) == (None, ())


def test_the_standard_error_is_that_of_new_samples() -> None:
    real = vectors(400, D, 11)
    found = objective(real)
    scores = [found.score(filled(found, vectors(200, D, 100 + seed, 0.1))) for seed in range(40)]
    spread = np.std([score.value for score in scores], ddof=1)
    assert np.mean([score.stderr for score in scores]) == pytest.approx(spread, rel=0.35)


def test_neither_batches_nor_their_order_matter() -> None:
    fake, real = vectors(130, D, 1), vectors(90, D, 2)
    found = objective(real, block_size=50)
    expected = found.score(filled(found, fake))
    assert found.score(filled(found, fake, (7, 50, 1))) == expected
    halves = [found.add(found.new(), batch_of(fake[at], at)) for at in (np.arange(60, 130).tolist(), range(60))]
    assert found.score(found.merge(*halves)) == expected
    more = found.add(filled(found, fake[:100]), batch_of(fake[100:], range(100, 130)))
    assert found.score(more) == expected
    acc = filled(found, fake[:100])
    assert found.score(acc) != expected
    assert found.score(found.add(acc, batch_of(fake[100:], range(100, 130)))) == expected


def test_sums_over_the_reference_are_kept(tmp_path: Path) -> None:
    real, fake = vectors(60, D, 1), vectors(70, D, 2)
    cache = DerivedCache(tmp_path)
    values = set()
    for _ in range(2):
        found = KernelDistance(KidParams())
        found.prepare(reference_of(real, cache=cache))
        values.add(found.score(filled(found, fake)).value)
    assert len(list(tmp_path.iterdir())) == len(values) == 1
    for other in ({"degree": 2}, {"coef": 2.0}, {"gamma": 0.5}, {"block_size": 30}, {"estimator": "full"}):
        KernelDistance(KidParams.model_validate(other)).prepare(reference_of(real, cache=cache))
    KernelDistance(KidParams(estimator="subsets", subset_size=20)).prepare(reference_of(real, cache=cache))
    KernelDistance(KidParams(estimator="subsets", subset_size=20, seed=1)).prepare(reference_of(real, cache=cache))
    assert len(list(tmp_path.iterdir())) == 8


def test_what_is_broken_has_no_value() -> None:
    found = objective(vectors(40, D, 1))
    fake = vectors(30, D, 2)
    assert np.isnan(found.score(found.new()).value)
    assert np.isnan(found.score(filled(found, fake[:1])).value)
    assert found.score(filled(found, fake[:1])).stderr is None
    fake[3, 4] = np.nan
    broken = found.score(filled(found, fake))
    assert np.isnan(broken.value)
    assert (broken.stderr, broken.replicates) == (None, ())


def test_a_collapsed_model_has_a_value() -> None:
    real = vectors(40, D, 1)
    found = objective(real)
    same = np.repeat(vectors(1, D, 2), 30, axis=0)
    score = found.score(filled(found, same))
    assert score.value == pytest.approx(by_hand(same, real), rel=1e-5)
    assert score.stderr == pytest.approx(0, abs=1e-6)
    two = found.score(filled(found, vectors(2, D, 3)))
    assert np.isfinite(two.value)
    assert two.stderr is None  # without either there is one sample


def test_wrong_input_is_refused() -> None:
    found = KernelDistance(KidParams())
    with pytest.raises(InputError, match=r"set objective\.reference"):
        found.prepare(None)
    with pytest.raises(InputError, match=r"'real/train' keeps only their mean"):
        found.prepare(reference_of(None, D))
    with pytest.raises(InputError, match=r"shape \[1, 24\]; expected \[m, d\] with m at least 2"):
        found.prepare(reference_of(vectors(1, D, 1)))
    with pytest.raises(InputError, match="NaN or infinite"):
        found.prepare(reference_of(np.full((4, D), np.inf, dtype=np.float32)))
    found.prepare(reference_of(vectors(5, D, 1)))
    with pytest.raises(InputError, match=r"kid: features of 3 samples have shape \[3, 7\]; expected \[3, 24\]"):
        found.add(found.new(), batch_of(vectors(3, 7, 1)))
    with pytest.raises(InputError, match=r"set objective\.features"):
        found.add(found.new(), Batch(torch.empty(2, 0), range(2)))
