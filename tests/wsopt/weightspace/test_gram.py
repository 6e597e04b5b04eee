"""Inner products, and the copies among checkpoints that they show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from stacks import set_of, walk
from wsopt.weightspace import DenseStack, NearDuplicate, SpaceSettings, near_duplicates

SHAPES = {"a": (70, 31), "b": (9000,), "c": (3,)}


@pytest.mark.parametrize(("dtype", "precision"), [("float32", 1e-5), ("float16", 1e-2), ("bfloat16", 1e-1)])
def test_gram_of_each_group(dtype: Any, precision: float) -> None:
    path = walk(5, SHAPES, step=1e-3)
    stack = DenseStack(set_of(path), SpaceSettings(dtype=dtype), lambda shapes: {"a": "x", "b": "y", "c": "x"})
    gram = stack.gram()
    assert gram.shape == (2, 5, 5)
    assert gram.dtype == np.float64
    for group, names in enumerate([("a", "c"), ("b",)]):
        flat = torch.stack([torch.cat([one[name].double().flatten() for name in names]) for one in path])
        expected = (flat - flat[0]) @ (flat - flat[0]).T
        np.testing.assert_allclose(gram[group], expected.numpy(), atol=precision * float(expected.max()))
    assert not gram[:, 0].any()
    assert not gram[:, :, 0].any()


def test_near_duplicates_are_found_and_neighbours_are_not() -> None:
    path = walk(6, SHAPES)
    path[4] = path[1]
    path[5] = {name: value + 1e-7 for name, value in path[0].items()}
    found = near_duplicates(DenseStack(set_of(path)).gram(), (10, 20, 30, 40, 50, 60))
    assert [(one.first, one.second) for one in found] == [(10, 60), (20, 50)]
    assert all(0 <= one.distance < 1e-3 for one in found)
    assert near_duplicates(DenseStack(set_of(path[:4])).gram(), (1, 2, 3, 4)) == []


def test_near_duplicates_where_most_or_all_are_copies() -> None:
    one, other = walk(2, SHAPES)
    gram = DenseStack(set_of([one, one, one, other])).gram()
    assert [(pair.first, pair.second) for pair in near_duplicates(gram, (1, 2, 3, 4))] == [(1, 2), (1, 3), (2, 3)]
    assert near_duplicates(np.zeros((1, 2, 2)), (1, 2)) == [NearDuplicate(1, 2, 0.0)]
