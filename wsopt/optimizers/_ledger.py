"""What every ask/tell optimizer needs to keep: which candidates are out, which results are in, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence

from wsopt.types import Candidate, FloatArray, Result, Start


class Ledger:
    """Ids and outstanding candidates."""

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


class Incumbent:
    """The best point known, starts included; the earlier of equals, whatever the order of the tells.

    Raises:
        ValueError: without a start.
    """

    def __init__(self, starts: Sequence[Start]) -> None:
        if not starts:
            raise ValueError("a search needs at least one evaluated start")
        best = min(starts, key=lambda start: start.loss)
        self.x: FloatArray = best.x
        self.loss: float = best.loss
        self._id = -1

    def offer(self, candidate: Candidate, loss: float | None) -> None:
        """Take a candidate where it is better; one without a loss never is."""
        if loss is not None and (loss, candidate.id) < (self.loss, self._id):
            self.x, self.loss, self._id = candidate.x, loss, candidate.id
