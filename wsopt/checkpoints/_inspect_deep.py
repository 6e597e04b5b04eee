"""`wsopt inspect --deep`: what only the values tell, one checkpoint in memory at a time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from torch import Tensor

from wsopt.checkpoints._base import Snapshot, TensorSpec
from wsopt.checkpoints._inspect import StreamSummary
from wsopt.checkpoints._prefix import unwrapped
from wsopt.errors import CheckpointError
from wsopt.tensors import as_bytes, widened

SAMPLED_VALUES: Final = 4096
"""Values per tensor that distances are estimated from, at even distances within the tensor."""

NEAR: Final = 0.01
"""Neighbours this much closer than the median are near-duplicates."""

_COUNTER: Final = "num_batches_tracked"


@dataclass(frozen=True)
class Broken:
    """A tensor with values that are NaN or infinite: how many of how many, in which checkpoint."""

    snapshot: Snapshot
    tensor: str
    nan: int
    infinite: int
    values: int


@dataclass(frozen=True)
class Neighbours:
    """Two checkpoints that follow each other: norm of their difference over that of the earlier; may be infinite."""

    earlier: Snapshot
    later: Snapshot
    distance: float


@dataclass(frozen=True)
class DeepFacts:
    """What the values of one stream tell.

    Args:
        broken: tensors with NaN or infinite values.
        unreadable: messages of checkpoints that could not be loaded.
        combined: names of floating tensors that differ between checkpoints.
        constant: names of tensors that are the same, bit for bit, in all of them.
        clashing: names of tensors that are not floating and differ; counters of batches (``num_batches_tracked``) are
            left out, since they differ by their nature and are copied from the last checkpoint.
        distances: of all neighbours, in the order of steps.
        near: neighbours whose distance is far below the median, or 0.
    """

    broken: tuple[Broken, ...]
    unreadable: tuple[str, ...]
    combined: tuple[str, ...]
    constant: tuple[str, ...]
    clashing: tuple[str, ...]
    distances: tuple[Neighbours, ...]
    near: tuple[Neighbours, ...]

    @property
    def median(self) -> float | None:
        """Median distance of neighbours, of those that are finite."""
        return _median(self.distances)


@dataclass(frozen=True)
class _Trace:
    """What is kept of a checkpoint: a digest of each tensor's bytes, and sampled values of the finite floating ones."""

    digests: dict[str, bytes]
    samples: dict[str, Tensor]


def look_deep(stream: StreamSummary, done: Callable[[Snapshot], None] = lambda snapshot: None) -> DeepFacts:
    """Read every checkpoint of a stream once.

    Args:
        stream: as `inspect` gives it.
        done: called after each checkpoint.
    """
    broken: list[Broken] = []
    unreadable: list[str] = []
    distances: list[Neighbours] = []
    first: _Trace | None = None
    previous: tuple[Snapshot, _Trace] | None = None
    varying: set[str] = set()
    for snapshot in stream.snapshots:
        try:
            trace = _trace(snapshot, broken)
        except CheckpointError as error:
            unreadable.append(str(error))
            continue
        finally:
            done(snapshot)
        if first is None or previous is None:
            first = trace
        else:
            varying |= {name for name, digest in first.digests.items() if trace.digests.get(name) != digest}
            distances.append(Neighbours(previous[0], snapshot, _distance(previous[1], trace, stream.tensors)))
        previous = (snapshot, trace)
    tensors = stream.tensors if first else {}
    floating = {name for name, spec in tensors.items() if spec.dtype.is_floating_point}
    middle = _median(distances) or 0.0
    return DeepFacts(
        broken=tuple(broken),
        unreadable=tuple(unreadable),
        combined=tuple(name for name in tensors if name in varying & floating),
        constant=tuple(name for name in tensors if name not in varying),
        clashing=tuple(name for name in tensors if name in varying - floating and not name.endswith(_COUNTER)),
        distances=tuple(distances),
        near=tuple(one for one in distances if one.distance == 0 or one.distance < NEAR * middle),
    )


def _median(distances: Sequence[Neighbours]) -> float | None:
    finite = [one.distance for one in distances if math.isfinite(one.distance)]
    return median(finite) if finite else None


def _trace(snapshot: Snapshot, broken: list[Broken]) -> _Trace:
    digests: dict[str, bytes] = {}
    samples: dict[str, Tensor] = {}
    for name, tensor in unwrapped(snapshot.load()).items():
        digests[name] = hashlib.blake2b(as_bytes(tensor), digest_size=16).digest()
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        values = widened(tensor).reshape(-1)
        finite = values.isfinite()
        if not bool(finite.all()):
            nan = int(values.isnan().sum())
            bad = int((~finite).sum())
            broken.append(Broken(snapshot, name, nan, bad - nan, values.numel()))
            continue
        stride = max(1, values.numel() // SAMPLED_VALUES)
        samples[name] = values[::stride][:SAMPLED_VALUES].double().clone()
    return _Trace(digests, samples)


def _distance(earlier: _Trace, later: _Trace, tensors: dict[str, TensorSpec]) -> float:
    """Norm of the difference over the norm, over the tensors that both have, each weighted by its size.

    Infinite where the earlier ones are all 0, or values are too large to be squared.
    """
    moved = total = 0.0
    for name, before in earlier.samples.items():
        after = later.samples.get(name)
        if after is None or after.shape != before.shape or name not in tensors:
            continue
        weight = tensors[name].numel / before.numel()
        moved += weight * float((after - before).square().sum())
        total += weight * float(before.square().sum())
    if moved == 0 and earlier.digests != later.digests:
        # The sampled values are the same, others are not.
        return math.ulp(1.0)
    if total == 0:
        return math.inf if moved else 0.0
    return math.sqrt(moved / total) if math.isfinite(moved + total) else math.inf
