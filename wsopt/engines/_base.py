"""The contract of an engine: the place where candidates are evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from wsopt.engines._evaluator import EvaluatorSpec
from wsopt.types import Job, Outcome


class Engine(ABC):
    """Evaluates jobs in this process, or elsewhere."""

    @abstractmethod
    def start(self, spec: EvaluatorSpec) -> None:
        """Make the workers ready: each builds its own weight space, model and metrics from the spec."""

    @abstractmethod
    def evaluate(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Outcomes as they finish. A failing candidate is an outcome with a `failure`, never an exception."""

    def close(self) -> None:  # noqa: B027 - only engines with workers have something to release
        """Release the workers."""
