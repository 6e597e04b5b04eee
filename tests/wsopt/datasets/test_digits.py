from __future__ import annotations

import hashlib
import pickle
import random
from typing import cast

import numpy as np
import pytest
from sklearn.datasets import load_digits

from wsopt.datasets import DatasetSplit, Digits
from wsopt.datasets._stratified import stratified_rows
from wsopt.errors import InputError

SIZES: dict[DatasetSplit, int] = {"train": 1197, "validation": 200, "test": 400}
INDEX_SHA256 = {
    "train": "d07b372d5c69a233af3eab196d4be425c1afe00a234aaee52a5236889346434c",
    "validation": "1fa022554d23a218e3f2b95251d4209d061dd138241cf6e7d33c654d7edae5e6",
    "test": "6bfdadffee08b4ac3d9b8f84a40ca690b80d29804351860efac44b08d3611ec2",
}


def split_indices(labels: np.ndarray) -> dict[DatasetSplit, np.ndarray]:
    return stratified_rows(labels, Digits.sizes, Digits.split_seed)


@pytest.fixture(scope="module")
def targets() -> np.ndarray:
    return np.asarray(load_digits().target, dtype=np.int64)


@pytest.mark.parametrize("split", SIZES)
def test_images_and_labels(split: DatasetSplit) -> None:
    images, labels = Digits().images(split), Digits().labels(split)
    assert images.shape == (SIZES[split], 1, 8, 8)
    assert images.dtype == np.float32
    assert labels.shape == (SIZES[split],)
    assert labels.dtype == np.int64
    assert set(np.unique((images + 1.0) * 8.0)) <= set(range(17))
    assert images.min() == -1.0
    assert images.max() == 1.0


def test_images_are_scikit_learns(targets: np.ndarray) -> None:
    source = load_digits().images
    for split, rows in split_indices(targets).items():
        np.testing.assert_array_equal((Digits().images(split)[:, 0] + 1.0) * 8.0, source[rows])
        np.testing.assert_array_equal(Digits().labels(split), targets[rows])


def test_split_is_disjoint_and_complete(targets: np.ndarray) -> None:
    rows = np.concatenate(list(split_indices(targets).values()))
    np.testing.assert_array_equal(np.sort(rows), np.arange(1797))


def test_split_is_stratified(targets: np.ndarray) -> None:
    whole = np.bincount(targets)
    for split, rows in split_indices(targets).items():
        share = whole * SIZES[split] / 1797
        assert np.abs(np.bincount(targets[rows]) - share).max() <= 2.0


@pytest.mark.parametrize("split", SIZES)
def test_split_never_changes(split: DatasetSplit, targets: np.ndarray) -> None:
    rows = split_indices(targets)[split].astype("<i8")
    assert hashlib.sha256(rows.tobytes()).hexdigest() == INDEX_SHA256[split]


def test_caller_gets_a_copy() -> None:
    Digits().images("test")[:] = 7.0
    Digits().labels("test")[:] = 99
    assert Digits().images("test").max() == 1.0
    assert Digits().labels("test").max() == 9


def test_unknown_split() -> None:
    with pytest.raises(InputError, match="no split 'valid'; it has train, validation, test"):
        Digits().images(cast(DatasetSplit, "valid"))


def test_global_random_state_is_untouched(targets: np.ndarray) -> None:
    before = pickle.dumps((np.random.get_state(), random.getstate()))  # noqa: NPY002 - reads the state only
    split_indices(targets)
    Digits().images("train")
    assert pickle.dumps((np.random.get_state(), random.getstate())) == before  # noqa: NPY002
