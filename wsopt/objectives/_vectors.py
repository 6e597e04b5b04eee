"""Rows of every sample, kept until the score: what objectives accumulate that no running sum can stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsopt.errors import InputError
from wsopt.objectives._base import Objective
from wsopt.objectives.jackknife import BLOCKS, blocks_of, stderr_of
from wsopt.objectives.references import Reference
from wsopt.types import Batch, FloatArray, Score

_Found = TypeVar("_Found")


class KeptVectors:
    """``[N, d]`` float32 rows with the indices of their samples; 4 N d bytes, on the CPU or the GPU they come from.

    Rows are handed out in the order of their indices, so neither batches nor the order of a merge change a score.
    """

    def __init__(self) -> None:
        self._rows: list[Tensor] = []
        self._indices: list[NDArray[np.int64]] = []
        self._found: dict[str, Any] = {}

    def __len__(self) -> int:
        return sum(len(indices) for indices in self._indices)

    def add(self, batch: Batch, objective: str, what: str = "features", dimension: int | None = None) -> None:
        """Keep the rows of a batch.

        Args:
            batch: its `features` are ``[N, d]``, of any floating type.
            objective: whose name errors give.
            what: the rows: ``features`` or ``logits``.
            dimension: the d to hold them to; None takes that of the first batch.

        Raises:
            InputError: where the batch has no rows, or rows of another shape.
        """
        rows = batch.features
        if rows is None:
            raise InputError(f"objective {objective} needs {what}: set objective.features to a feature extractor.")
        wanted = dimension if dimension is not None or not self._rows else self._rows[0].shape[1]
        if rows.ndim != 2 or len(rows) != len(batch.indices) or wanted not in (None, rows.shape[1]):
            width = "d" if wanted is None else wanted
            raise InputError(
                f"objective {objective}: {what} of {len(batch.indices)} samples have shape {list(rows.shape)}; "
                f"expected [{len(batch.indices)}, {width}]. Use the feature extractor that the reference was made with."
            )
        device = rows.device if rows.device.type == "cuda" else torch.device("cpu")
        self._rows.append(rows.detach().to(device, torch.float32))
        self._indices.append(np.asarray(batch.indices, dtype=np.int64))
        self._found = {}

    def merged(self, other: KeptVectors) -> KeptVectors:
        """The rows of both."""
        both = KeptVectors()
        both._rows = self._rows + other._rows
        both._indices = self._indices + other._indices
        return both

    def sorted(self) -> tuple[Tensor, NDArray[np.int64]]:
        """``[N, d]`` float32 rows and their ``[N]`` indices, ascending. ``[0, 0]`` where there are none."""
        if not self._rows:
            return torch.empty(0, 0), np.empty(0, dtype=np.int64)
        indices = np.concatenate(self._indices)
        order = np.argsort(indices, kind="stable")
        rows = torch.cat(self._rows)
        if bool((order[1:] < order[:-1]).any()):
            rows = rows[torch.from_numpy(order).to(rows.device)]
        return rows, indices[order]

    def remembered(self, key: str, compute: Callable[[Tensor, NDArray[np.int64]], _Found]) -> _Found:
        """What `compute` gives of `sorted()`; kept until another batch is added, for a score and its replicates."""
        if key not in self._found:
            self._found[key] = compute(*self.sorted())
        found: _Found = self._found[key]
        return found


class VectorObjective(Objective[KeptVectors]):
    """An objective that compares all feature vectors of the samples with those of the real data.

    A subclass sets `_real` in `prepare`.
    """

    needs = "features"
    reference_vectors = True
    _real: Tensor | None = None

    def new(self) -> KeptVectors:
        """See `Objective.new`."""
        return KeptVectors()

    def add(self, acc: KeptVectors, batch: Batch) -> KeptVectors:
        """See `Objective.add`."""
        acc.add(batch, self.name, dimension=self._ready().shape[1])
        return acc

    def merge(self, first: KeptVectors, second: KeptVectors) -> KeptVectors:
        """See `Objective.merge`."""
        return first.merged(second)

    def _ready(self) -> Tensor:
        if self._real is None:
            raise RuntimeError("prepare() must be called before samples are added")
        return self._real


def vectors_of(reference: Reference | None, objective: str, least: int) -> NDArray[np.float32]:
    """The feature vectors of the real data, ``[m, d]`` float32.

    Args:
        reference: what `Objective.prepare` was given.
        objective: whose name errors give.
        least: the fewest rows it can do with.

    Raises:
        InputError: where there are none, too few, or some that are not finite.
    """
    if reference is None:
        raise InputError(
            f'objective {objective} compares with real data: set objective.reference, for example reference = "train".'
        )
    vectors = reference.vectors
    if vectors is None:
        raise InputError(
            f"objective {objective} compares feature vectors, and reference {reference.name!r} keeps only their mean "
            "and covariance. Use a reference that is made from images, or one whose file has the vectors."
        )
    if vectors.ndim != 2 or len(vectors) < least:
        raise InputError(
            f"objective {objective}: the feature vectors of reference {reference.name!r} have shape "
            f"{list(vectors.shape)}; expected [m, d] with m at least {least}. Use a reference of more images."
        )
    if not np.isfinite(vectors).all():
        raise InputError(
            f"objective {objective}: the feature vectors of reference {reference.name!r} hold NaN or infinite values; "
            "compute them again."
        )
    return np.ascontiguousarray(vectors, dtype=np.float32)


def filled_blocks(indices: NDArray[np.int64]) -> list[int]:
    """The jackknife blocks that have a sample, ascending; empty where there are fewer than two."""
    filled = np.flatnonzero(np.bincount(blocks_of(indices), minlength=BLOCKS))
    return [int(block) for block in filled] if len(filled) > 1 else []


def scored(value: float, samples: int, replicates: FloatArray | None) -> Score:
    """A score with its jackknife standard error; without either where a replicate is missing or not finite."""
    found = () if replicates is None or not np.isfinite(replicates).all() else tuple(map(float, replicates))
    return Score(value, stderr_of(found), samples, replicates=found)
