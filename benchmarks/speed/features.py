"""Synthetic feature vectors for the benchmarks of objectives, and seconds of CPU time.

They are non-negative, as behind a rectifier, and their variances fall off as a power law, as those of Inception do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from time import process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsopt.objectives import Reference
from wsopt.types import Batch


class Identity(torch.nn.Module):
    """Features that are extracted already."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.num_features = dimension

    def forward(self, features: Tensor) -> Tensor:
        """The same."""
        return features


def rectified(count: int, dimension: int, seed: int, narrowed: float = 1.0) -> Tensor:
    """``[count, dimension]`` float32.

    Args:
        count: number of vectors.
        dimension: of each.
        seed: which vectors; they are of one distribution.
        narrowed: factor of the spread, for a model that generates less than there is.
    """
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(dimension, dimension)).astype(np.float32) / np.sqrt(dimension)
    spread = np.arange(1, dimension + 1, dtype=np.float32) ** -0.5 * np.float32(3 * narrowed)
    noise = generator.standard_normal((count, dimension), dtype=np.float32)
    return torch.from_numpy(np.maximum((noise * spread) @ mixing.astype(np.float32) + np.float32(0.4), 0))


def reference_of(real: Tensor) -> Reference:
    """A reference with these vectors; its moments are not looked at."""
    d = real.shape[1]
    return Reference("synthetic", "synthetic", "", "none", np.zeros(d), np.eye(d), len(real), vectors=real.numpy())


def batches_of(rows: Tensor, size: int = 250) -> list[Batch]:
    """The vectors as they come from an extractor."""
    starts = range(0, len(rows), size)
    return [Batch(torch.empty(0), range(at, min(at + size, len(rows))), features=rows[at : at + size]) for at in starts]


def cpu_seconds(tasks: Mapping[str, Callable[[], Any]], repeats: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Median seconds of CPU time of each task, and what it returned last.

    One after another in every repeat; other processes on the machine count less than in seconds of the clock.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    found: dict[str, Any] = {}
    for _ in range(repeats):
        for name, task in tasks.items():
            begin = process_time()
            found[name] = task()
            seconds[name].append(process_time() - begin)
    return {name: median(times) for name, times in seconds.items()}, found
