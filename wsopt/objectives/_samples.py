"""An accumulator that keeps the samples themselves, for objectives that only see all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsopt.objectives.jackknife import blocks_of
from wsopt.types import Batch


@dataclass(eq=False)
class Samples:
    """Batches on the CPU, given back in the order of their indices whatever order they came in.

    Whole grey levels are kept as bytes, a quarter of the memory.

    Args:
        images: whether the images are kept; else the batches that come back have empty ones.
        features: whether the features are kept.
        device: where the images came from; None before the first.
    """

    images: bool = True
    features: bool = False
    device: torch.device | None = None
    pieces: list[Batch] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(piece.indices) for piece in self.pieces)

    def add(self, batch: Batch) -> None:
        """Keep a batch."""
        self.device = batch.images.device
        images = _compact(batch.images.detach().cpu()) if self.images else batch.images.new_empty(0, device="cpu")
        features = batch.features.detach().cpu().clone() if self.features and batch.features is not None else None
        conditions = None if batch.conditions is None else list(batch.conditions)
        self.pieces.append(Batch(images, [int(index) for index in batch.indices], conditions, features))

    def merged(self, other: Samples) -> Samples:
        """The samples of both."""
        return Samples(self.images, self.features, self.device or other.device, [*self.pieces, *other.pieces])

    def batches(self, size: int, without: int | None = None) -> Iterator[Batch]:
        """All samples by ascending index.

        Args:
            size: of a batch, the last one may be smaller.
            without: a block of the jackknife that is left out.
        """
        indices = np.array([index for piece in self.pieces for index in piece.indices], dtype=np.int64)
        order = np.argsort(indices, kind="stable")
        if without is not None:
            order = order[blocks_of(indices[order]) != without]
        whole = self._whole()
        for at in range(0, len(order), size):
            rows = order[at : at + size]
            conditions = None if whole.conditions is None else [whole.conditions[row] for row in rows]
            images = whole.images[rows].float() if self.images else whole.images
            features = None if whole.features is None else whole.features[rows]
            yield Batch(images, indices[rows].tolist(), conditions, features)

    def blocks(self) -> list[int]:
        """Blocks of the jackknife that have a sample, ascending."""
        return sorted({int(block) for piece in self.pieces for block in blocks_of(piece.indices)})

    def _whole(self) -> Batch:
        images = torch.cat([piece.images for piece in self.pieces])
        features = [piece.features for piece in self.pieces if piece.features is not None]
        conditions: list[Any] | None = []
        for piece in self.pieces:
            conditions = None if conditions is None or piece.conditions is None else [*conditions, *piece.conditions]
        return Batch(images, [], conditions, torch.cat(features) if features else None)


def _compact(images: Tensor) -> Tensor:
    levels = images.to(torch.uint8)
    return levels if torch.equal(levels.to(images.dtype), images) else images.clone()
