from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.image.inception import InceptionScore as TheirScore

from feature_sets import batch_of, filled
from wsopt.config.params import InceptionScoreParams
from wsopt.errors import InputError
from wsopt.objectives._inception_score import InceptionScore
from wsopt.objectives.jackknife import stderr_of
from wsopt.types import Batch

CLASSES = 7


def logits(count: int, seed: int, scale: float = 3.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=(count, CLASSES)) * scale).astype(np.float32)


def objective(splits: int = 10) -> InceptionScore:
    found = InceptionScore(InceptionScoreParams(splits=splits))
    found.prepare(None)
    return found


def by_hand(rows: NDArray[np.float32]) -> float:
    """exp of the mean divergence from the marginal, of one part."""
    exps = np.exp(rows.astype(np.float64))
    p = exps / exps.sum(axis=1, keepdims=True)
    return float(np.exp((p * np.log(p / p.mean(axis=0))).sum(axis=1).mean()))


class Identity(torch.nn.Module):
    """Logits that are handed in as images."""

    def forward(self, images: Tensor) -> Tensor:
        return images


@pytest.mark.filterwarnings("ignore:.*will save all extracted features")
@pytest.mark.parametrize(("count", "splits"), [(200, 10), (203, 10), (96, 5), (12, 10)])
def test_equals_torchmetrics_in_the_same_order(count: int, splits: int) -> None:
    rows = torch.from_numpy(logits(count, 1))
    theirs = TheirScore(feature=Identity(), splits=splits).set_dtype(torch.float64)
    theirs.update(rows.double())
    with torch.random.fork_rng():
        torch.manual_seed(3)
        order = torch.randperm(count)
        torch.manual_seed(3)
        expected = float(theirs.compute()[0])
    found = objective(splits)
    assert found.score(filled(found, rows[order])).value == pytest.approx(expected, rel=1e-9)


def test_is_the_mean_over_parts_in_index_order() -> None:
    rows = logits(50, 2)
    found = objective(5)
    expected = np.mean([by_hand(rows[at : at + 10]) for at in range(0, 50, 10)])
    assert found.score(filled(found, rows)).value == pytest.approx(expected, rel=1e-12)


def test_replicates_leave_a_block_out() -> None:
    rows = logits(83, 3)
    found = objective(2)  # parts of 42 and 41
    acc = filled(found, rows)
    score, replicates, at = found.score(acc), found.replicates(acc), np.arange(83)
    assert replicates is not None
    for block in range(10):
        kept = at % 10 != block
        expected = np.mean([by_hand(rows[kept & (at < 42)]), by_hand(rows[kept & (at >= 42)])])
        assert replicates[block] == pytest.approx(expected, rel=1e-12)
    assert score.replicates == tuple(replicates)
    assert score.stderr == stderr_of(replicates)
    assert found.score(acc, stderr=False).replicates == ()


def test_the_standard_error_is_that_of_new_samples() -> None:
    found = objective()
    scores = [found.score(filled(found, logits(400, 50 + seed))) for seed in range(40)]
    spread = np.std([score.value for score in scores], ddof=1)
    assert np.mean([score.stderr for score in scores]) == pytest.approx(spread, rel=0.35)


def test_bounds() -> None:
    found = objective(1)
    sure = np.full((70, CLASSES), -1e4, dtype=np.float32)
    sure[np.arange(70), np.arange(70) % CLASSES] = 1e4  # probabilities of 0 and 1 exactly
    assert found.score(filled(found, sure)).value == pytest.approx(CLASSES, rel=1e-12)
    assert found.score(filled(found, np.repeat(logits(1, 1), 70, axis=0))).value == pytest.approx(1, rel=1e-12)
    one_class = np.repeat(sure[:1], 70, axis=0)
    assert found.score(filled(found, one_class)).value == pytest.approx(1, rel=1e-12)


def test_neither_batches_nor_their_order_matter() -> None:
    rows = logits(130, 4)
    found = objective()
    expected = found.score(filled(found, rows))
    assert found.score(filled(found, rows, (7, 50, 1))) == expected
    halves = [found.add(found.new(), batch_of(rows[at], at)) for at in (list(range(60, 130)), list(range(60)))]
    assert found.score(found.merge(*halves)) == expected


def test_broken_samples() -> None:
    found = objective()
    assert np.isnan(found.score(found.new()).value)
    assert found.score(filled(found, logits(1, 1))).value == pytest.approx(1)
    assert found.score(filled(found, logits(1, 1))).stderr is None
    for bad in (np.nan, np.inf):
        rows = logits(40, 1)
        rows[3, 2] = bad
        broken = found.score(filled(found, rows))
        assert np.isnan(broken.value)
        assert (broken.stderr, broken.replicates) == (None, ())
    with pytest.raises(InputError, match=r"inception-score needs logits: set objective\.features"):
        found.add(found.new(), Batch(torch.empty(2, 0), range(2)))
    with pytest.raises(InputError, match=r"logits of 2 samples have shape \[2, 5\]; expected \[2, 7\]"):
        found.add(filled(found, logits(3, 1)), batch_of(np.zeros((2, 5), dtype=np.float32)))
