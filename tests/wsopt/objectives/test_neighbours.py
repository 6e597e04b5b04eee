from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from feature_sets import Vectors, batch_of, filled, reference_of, vectors
from wsopt.config.params import PrecisionParams, RecallParams
from wsopt.errors import InputError
from wsopt.objectives import Objective, neighbours
from wsopt.objectives._precision_recall import Precision, Recall
from wsopt.objectives.jackknife import stderr_of
from wsopt.objectives.neighbours import inside, squared_radii
from wsopt.objectives.references import DerivedCache
from wsopt.types import FloatArray

D = 16
Set = NDArray[np.float32]


def distances(first: Set, second: Set) -> FloatArray:
    """``[n, m]`` squared, as sums of squared float64 differences."""
    return np.stack([((first - row) ** 2).sum(axis=1) for row in second.astype(np.float64)], axis=1)


def radii_by_hand(points: Set, k: int) -> FloatArray:
    """The k-th smallest distance to another point."""
    return np.sort(distances(points, points), axis=1)[:, k]


def inside_by_hand(samples: Set, centres: Set, k: int) -> NDArray[np.bool_]:
    within = distances(samples, centres) <= radii_by_hand(centres, k)[None]
    return np.asarray(within.any(axis=1))


def radii(points: Set, k: int) -> FloatArray:
    return squared_radii(torch.from_numpy(points), k)


def among(samples: Set, centres: Set, k: int) -> NDArray[np.bool_]:
    return inside(torch.from_numpy(samples), torch.from_numpy(centres), radii(centres, k))


def far_clusters(seed: int) -> Set:
    """Eight clusters of thirty points, a million times smaller than their distance."""
    generator = np.random.default_rng(seed)
    middle = np.random.default_rng(0).normal(size=(8, 1, D)) * 10
    return (middle + 1e-5 * generator.normal(size=(8, 30, D))).astype(np.float32).reshape(-1, D)


def grid(seed: int) -> Set:
    """Whole numbers: distances tie again and again, and points repeat."""
    return np.random.default_rng(seed).integers(0, 3, size=(300, 4)).astype(np.float32)


SETS = {
    "features": (vectors(230, D, 1), vectors(310, D, 2)),
    "shifted": (vectors(230, D, 1, 0.3), vectors(310, D, 2)),
    "far from the origin": (vectors(230, D, 1) + 1000, vectors(310, D, 2) + 1000),
    "far clusters": (far_clusters(1), far_clusters(2)),
    "ties": (grid(1), grid(2)),
    "itself": (vectors(200, D, 1), vectors(200, D, 1)),
    "overflow": (vectors(60, D, 1) * np.float32(1e25), vectors(80, D, 2) * np.float32(1e25)),
    "small": (vectors(5, D, 1), vectors(4, D, 2)),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("k", [1, 3])
def test_as_by_brute_force_in_float64(name: str, k: int) -> None:
    samples, centres = SETS[name]
    np.testing.assert_allclose(radii(centres, k), radii_by_hand(centres, k), rtol=1e-12)
    np.testing.assert_array_equal(among(samples, centres, k), inside_by_hand(samples, centres, k))


def test_more_than_a_tile() -> None:
    samples, centres = vectors(1100, D, 1, 0.1), vectors(2100, D, 2)
    np.testing.assert_allclose(radii(centres, 3), radii_by_hand(centres, 3), rtol=1e-12)
    found = among(samples, centres, 3)
    np.testing.assert_array_equal(found, inside_by_hand(samples, centres, 3))
    assert 0.05 < found.mean() < 0.95


def test_on_the_sphere_is_inside() -> None:
    # On a line, with k = 1: balls are [-1, 1], [0, 2], [7, 13] and [10, 16].
    centres = np.array([[0.0], [1.0], [10.0], [13.0]], dtype=np.float32)
    np.testing.assert_array_equal(radii(centres, 1), [1, 1, 9, 9])
    samples = np.array([[-1.0], [-1.001], [2.0], [2.001], [7.0], [6.999], [16.0], [16.001]], dtype=np.float32)
    np.testing.assert_array_equal(among(samples, centres, 1), [True, False] * 4)


def test_what_touches_few_spheres_is_decided_by_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whole numbers, mirrored at a centre: as far from it as its neighbour, exactly. Half of them a little further.
    centres = np.random.default_rng(1).integers(-1000, 1000, size=(1200, 64)).astype(np.float32)
    between = distances(centres, centres)
    np.fill_diagonal(between, np.inf)
    steps = centres[between.argmin(axis=1)] - centres
    samples = centres - steps
    samples[::2, 0] -= np.copysign(np.float32(2**-12), steps[::2, 0])
    monkeypatch.setattr(neighbours, "_inside_in_float64", None)
    found = among(samples, centres, 1)
    np.testing.assert_array_equal(found, inside_by_hand(samples, centres, 1))
    assert found[1::2].all()
    assert found[::2].mean() < 0.5


def test_what_touches_many_spheres_is_decided_tile_by_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, centres = SETS["far clusters"]
    limits = radii_by_hand(centres, 3)
    rows: list[int] = []
    whole = neighbours._inside_in_float64

    def counted(samples: Tensor, centres: Tensor, limits: Tensor) -> Tensor:
        rows.append(len(samples))
        return whole(samples, centres, limits)

    monkeypatch.setattr(neighbours, "_inside_in_float64", counted)
    np.testing.assert_array_equal(
        inside(torch.from_numpy(samples), torch.from_numpy(centres), limits), inside_by_hand(samples, centres, 3)
    )
    assert sum(rows) > 100


def test_duplicates_are_neighbours_at_distance_0() -> None:
    one = vectors(1, D, 1)
    other = vectors(50, D, 2)
    collapsed = np.repeat(one, 40, axis=0)
    np.testing.assert_array_equal(radii(collapsed, 3), np.zeros(40))
    assert not among(other, collapsed, 3).any()
    assert among(one, collapsed, 3).all()
    assert among(collapsed, np.concatenate([collapsed, other]), 3).all()


class Both:
    """Precision and recall with the same real data."""

    def __init__(self, real: Vectors, k: int = 3) -> None:
        self.precision, self.recall = Precision(PrecisionParams(neighbours=k)), Recall(RecallParams(neighbours=k))
        for one in self:
            one.prepare(reference_of(real))

    def __iter__(self) -> Iterator[Precision | Recall]:
        return iter((self.precision, self.recall))


def test_precision_and_recall_are_the_shares() -> None:
    fake, real = vectors(210, D, 3, 0.1), vectors(260, D, 4)
    both = Both(real)
    precision, recall = (one.score(filled(one, fake)) for one in both)
    assert precision.value == inside_by_hand(fake, real, 3).mean()
    assert recall.value == inside_by_hand(real, fake, 3).mean()
    assert precision.value != recall.value
    assert precision.samples == recall.samples == 210
    assert {one.direction for one in both} == {"maximize"}


def test_a_part_of_the_data_is_precise_and_a_wider_set_recalls() -> None:
    generator = np.random.default_rng(1)
    real = generator.normal(size=(300, 8)).astype(np.float32)
    narrow, wide = (generator.normal(size=(300, 8)).astype(np.float32) * np.float32(s) for s in (0.4, 2.5))
    both = Both(real)
    (p_narrow, r_narrow), (p_wide, r_wide) = (
        [one.score(filled(one, fake)).value for one in both] for fake in (narrow, wide)
    )
    assert p_narrow > 0.95 > 0.3 > p_wide
    assert r_wide > 0.9 > 0.3 > r_narrow


def test_the_standard_error_of_precision_leaves_blocks_out() -> None:
    fake, real = vectors(215, D, 3, 0.1), vectors(260, D, 4)
    both = Both(real)
    acc = filled(both.precision, fake)
    found = inside_by_hand(fake, real, 3)
    expected = [found[np.arange(215) % 10 != block].mean() for block in range(10)]
    replicates = both.precision.replicates(acc)
    assert replicates is not None
    np.testing.assert_allclose(replicates, expected, rtol=1e-12)
    score = both.precision.score(acc)
    assert score.replicates == tuple(replicates)
    assert score.stderr == stderr_of(replicates)
    assert score.stderr == pytest.approx(np.sqrt(score.value * (1 - score.value) / 215), rel=0.6)
    assert both.precision.score(acc, stderr=False).stderr is None
    recall = both.recall.score(filled(both.recall, fake))
    assert (recall.stderr, recall.replicates) == (None, ())


def test_neither_batches_nor_their_order_matter() -> None:
    fake, real = vectors(130, D, 1, 0.1), vectors(90, D, 2)
    for one in Both(real):
        expected = one.score(filled(one, fake))
        assert one.score(filled(one, fake, (7, 50, 1))) == expected
        halves = [one.add(one.new(), batch_of(fake[at], at)) for at in (list(range(60, 130)), list(range(60)))]
        assert one.score(one.merge(*halves)) == expected


def test_radii_of_the_reference_are_kept(tmp_path: Path) -> None:
    real, fake = vectors(60, D, 1), vectors(70, D, 2)
    cache = DerivedCache(tmp_path)
    scores = set()
    for _ in range(2):
        one = Precision(PrecisionParams())
        one.prepare(reference_of(real, cache=cache))
        scores.add(one.score(filled(one, fake)).value)
    assert len(list(tmp_path.iterdir())) == len(scores) == 1
    Precision(PrecisionParams(neighbours=4)).prepare(reference_of(real, cache=cache))
    assert len(list(tmp_path.iterdir())) == 2


def test_what_is_broken_has_no_value_and_a_collapsed_model_has_one() -> None:
    real, fake = vectors(60, D, 1), vectors(70, D, 2)
    both = Both(real)
    nothing = [np.isnan(one.score(one.new()).value) for one in both]
    assert nothing == [True, True]
    few = [one.score(filled(one, fake[:3])).value for one in both]
    assert 0 <= few[0] <= 1
    assert np.isnan(few[1])
    single = both.precision.score(filled(both.precision, fake[:1]))
    assert single.value in (0.0, 1.0)
    assert single.stderr is None
    same = [one.score(filled(one, np.repeat(real[:1], 30, axis=0))) for one in both]
    assert [score.value for score in same] == [1.0, 1 / 60]
    fake[5, 2] = np.nan
    for one in both:
        broken = one.score(filled(one, fake))
        assert np.isnan(broken.value)
        assert (broken.stderr, broken.replicates) == (None, ())


@pytest.mark.parametrize("kind", [Precision, Recall])
def test_wrong_input_is_refused(kind: type[Objective[object]]) -> None:
    one = kind(RecallParams())
    with pytest.raises(InputError, match=r"set objective\.reference"):
        one.prepare(None)
    with pytest.raises(InputError, match="keeps only their mean"):
        one.prepare(reference_of(None, D))
    with pytest.raises(InputError, match=r"shape \[3, 16\]; expected \[m, d\] with m at least 4"):
        one.prepare(reference_of(vectors(3, D, 1)))
    one.prepare(reference_of(vectors(9, D, 1)))
    with pytest.raises(InputError, match=r"features of 3 samples have shape \[3, 7\]; expected \[3, 16\]"):
        one.add(one.new(), batch_of(vectors(3, 7, 1)))
