"""What every ask/tell optimizer needs to keep: which candidates are out, and which results are in."""

from __future__ import annotations

from collections.abc import Sequence

from wsopt.types import Candidate, FloatArray, Result


class Ledger:
    """Ids, outstanding candidates and the best point seen."""

    def __init__(self) -> None:
        self._next = 0
        self._outstanding: dict[int, Candidate] = {}

    def issue(self, x: FloatArray) -> Candidate:
        """A new candidate at `x` with the next id."""
        candidate = Candidate(self._next, x)
        self._next += 1
        self._outstanding[candidate.id] = candidate
        return candidate

    def settle(self, results: Sequence[Result]) -> list[tuple[Candidate, Result]]:
        """Pair results with their candidates and strike them off.

        Raises:
            ValueError: for an id that is not outstanding; nothing is struck off then.
        """
        ids = [result.id for result in results]
        unknown = sorted(set(ids) - self._outstanding.keys())
        if unknown or len(set(ids)) != len(ids):
            raise ValueError(f"candidate ids {unknown or ids} were never asked, or were told before")
        return [(self._outstanding.pop(result.id), result) for result in results]

    @property
    def outstanding(self) -> int:
        """Number of candidates asked and not yet told."""
        return len(self._outstanding)
