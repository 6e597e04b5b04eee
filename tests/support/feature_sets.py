"""Small sets of feature vectors, and the way they come to an objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsopt.objectives import Objective, Reference
from wsopt.types import Batch

Vectors = NDArray[np.float32]


def vectors(count: int, dimension: int, seed: int, shift: float = 0.0) -> Vectors:
    """Non-negative vectors with a falling spectrum, as features behind a rectifier have."""
    generator = np.random.default_rng(seed)
    basis = np.random.default_rng(dimension).normal(size=(dimension, dimension)) / np.sqrt(dimension)
    scales = (1.0 + np.arange(dimension)) ** -0.5
    rows = np.maximum(generator.normal(size=(count, dimension)) * scales @ basis + 0.3 + shift, 0.0)
    return np.asarray(rows, dtype=np.float32)


def reference_of(real: Vectors | None, dimension: int = 0, **more: Any) -> Reference:
    """A reference with these vectors, or with moments alone."""
    d = dimension if real is None else real.shape[1]
    return Reference("real/train", "toy", "", "none", np.zeros(d), np.eye(d), 0, vectors=real, **more)


def batch_of(rows: Vectors | Tensor, indices: Sequence[int] | None = None) -> Batch:
    """Samples with these features."""
    features = torch.as_tensor(rows)
    return Batch(torch.empty(len(features), 0), range(len(features)) if indices is None else indices, features=features)


def filled(objective: Objective[Any], rows: Vectors | Tensor, sizes: Sequence[int] = ()) -> Any:
    """An accumulator with these features, in batches of these sizes (the rest in one)."""
    acc, at = objective.new(), 0
    for size in (*sizes, len(rows) - sum(sizes)):
        acc = objective.add(acc, batch_of(rows[at : at + size], range(at, at + size)))
        at += size
    return acc
