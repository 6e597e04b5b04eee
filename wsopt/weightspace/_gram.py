"""Inner products of the differences, and what they tell about copies among the checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from wsopt.types import FloatArray
from wsopt.weightspace._kernel import Shard
from wsopt.weightspace._layout import FlatLayout

_COLUMNS = 1 << 14
_NEAR = 1e-3


@dataclass(frozen=True)
class NearDuplicate:
    """Two checkpoints that are nearly the same point.

    Args:
        first: step of the earlier one.
        second: step of the later one.
        distance: between them, as a fraction of the median distance of neighbouring checkpoints.
    """

    first: int
    second: int
    distance: float


def stack_gram(layout: FlatLayout, shards: Iterable[Shard], count: int) -> FloatArray:
    """``[G, K, K]`` inner products of the differences, streamed with float64 accumulation.

    Args:
        layout: of the stack.
        shards: all of it.
        count: K.
    """
    full = np.zeros((len(layout.groups), count, count))
    length = max(1, _COLUMNS // layout.block)
    for shard in shards:
        for group, (first, end) in enumerate(layout.ranges):
            total = torch.zeros(count - 1, count - 1, dtype=torch.float64, device=shard.device)
            start = max(first - shard.first, 0)
            stop = min(end - shard.first, len(shard.anchor))
            for at in range(start, stop, length):
                here = slice(at, min(at + length, stop))
                wide = shard.differences[here].to(shard.device, torch.float64)
                if shard.scales is not None:
                    wide *= shard.scales[here, :, None]
                total += torch.bmm(wide, wide.transpose(1, 2)).sum(0)
            full[group, 1:, 1:] += total.cpu().numpy()
    return full


def near_duplicates(gram: FloatArray, steps: tuple[int, ...]) -> list[NearDuplicate]:
    """Pairs of checkpoints whose distance is under a thousandth of the median distance of neighbours.

    A copy under another step (a resumed or stopped run) adds a direction that is nothing but rounding. Where most
    neighbours are equal, the median is taken over those that are not; where all are, every pair is one.

    Args:
        gram: ``[G, K, K]`` of `WeightSpace.gram`.
        steps: of the K checkpoints.
    """
    total = gram.sum(axis=0)
    squares = total.diagonal()
    # Rounding can leave the square of a distance a little below zero.
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * total, 0.0))
    neighbours = distances.diagonal(offset=1)
    apart = neighbours if neighbours.size and np.median(neighbours) > 0 else neighbours[neighbours > 0]
    scale = float(np.median(apart)) if apart.size else 1.0
    near = np.argwhere(np.triu(distances < _NEAR * scale, k=1))
    return [NearDuplicate(steps[i], steps[j], float(distances[i, j]) / scale) for i, j in near.tolist()]
