"""Moments of feature vectors that come in batches, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from wsopt.errors import InputError, WsoptError
from wsopt.objectives.moments import Moments
from wsopt.types import FloatArray

_ORDER_SEED = 20250525
_ROWS = 1024
"""Vectors that are added up at a time, so that sums round alike whatever batches they come in."""


def moments_of(where: str, what: str, batches: Iterable[NDArray[np.float32]]) -> tuple[FloatArray, FloatArray, int]:
    """Mean, covariance (divisor n - 1) and number of feature vectors; the same to the last bit for all batch sizes.

    Args:
        where: their source, for messages.
        what: what they are called there.
        batches: ``[N, d]`` each.

    Raises:
        InputError: where one is not finite, or there are fewer than two.
    """
    moments: Moments | None = None
    for part in _in_parts(batches):
        if moments is None:
            # Some mean to expect: the first part's is near enough, and known before the others are.
            moments = Moments(part.mean(axis=0, dtype=np.float64), blocks=1)
        check_finite_rows(where, what, part, moments.samples)
        moments.add(part, np.zeros(len(part), dtype=np.int64))
    count = 0 if moments is None else moments.samples
    if moments is None or count < 2:
        raise InputError(f"{where}: {count} of {what} are too few: a covariance takes at least two.")
    return *moments.mean_covariance(), count


def _in_parts(batches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """The same rows, `_ROWS` at a time; the last part may have fewer."""
    waiting: list[NDArray[np.float32]] = []
    for batch in batches:
        waiting.append(batch)
        count = sum(map(len, waiting))
        if count < _ROWS:
            continue
        rows = batch if len(waiting) == 1 else np.concatenate(waiting)
        whole = count - count % _ROWS
        yield from (rows[at : at + _ROWS] for at in range(0, whole, _ROWS))
        waiting = [rows[whole:]]
    rest = np.concatenate(waiting) if waiting else None
    if rest is not None and len(rest):
        yield rest


@contextmanager
def extracting(features: str) -> Iterator[None]:
    """Say in one message what an extractor raises about real images, where no candidate is there to fail.

    Args:
        features: name of the extractor.

    Raises:
        InputError: in place of whatever is raised inside; wsopt's own errors stay as they are.
    """
    try:
        yield
    except WsoptError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"features {features!r} could not be computed of the real images ({type(error).__name__}: {error}). Mend "
            f"the extractor, or choose one that takes such images."
        ) from error


def check_finite_rows(where: str, what: str, rows: NDArray[np.float32], first: int) -> None:
    """Refuse vectors with NaN or infinite values.

    Args:
        where: their source.
        what: what they are called there.
        rows: ``[N, d]``.
        first: number of the first row in the source.

    Raises:
        InputError: naming the first such row.
    """
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(wrong):
        raise InputError(f"{where}: {what} of number {first + int(wrong[0])} are not finite. Leave that one out.")


def shuffled(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows in a fixed shuffled order, which depends on their number only.

    Sources are often sorted by class; objectives that take blocks of vectors want each block to be a fair sample.
    """
    # Raw words of a bit generator are the one stream that numpy promises never to change (NEP 19).
    return vectors[np.argsort(np.random.PCG64(_ORDER_SEED).random_raw(len(vectors)), kind="stable")]
