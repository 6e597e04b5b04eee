"""The contract of an engine: the place where candidates are evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping

from wsopt.engines._evaluator import EvaluatorSpec, Export, Rendered
from wsopt.types import Job, MetricScore, Outcome, SpaceInfo, Split, Target


class Engine(ABC):
    """Evaluates jobs in this process, or elsewhere."""

    @abstractmethod
    def start(self, spec: EvaluatorSpec, gram: bool = False) -> SpaceInfo:
        """Make the workers ready: each builds its own weight space, model and metrics from the spec.

        Args:
            spec: what to build.
            gram: whether the Gram matrix of the differences is wanted.
        """

    @abstractmethod
    def evaluate(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Outcomes as they finish. A failing candidate is an outcome with a `failure`, never an exception."""

    @abstractmethod
    def render(self, target: Target, split: Split, count: int) -> Rendered:
        """The first `count` samples of a split, to look at."""

    @abstractmethod
    def export(self, target: Target) -> Export:
        """The weights of a target, as they are saved."""

    @abstractmethod
    def floor(self) -> list[MetricScore]:
        """Scores of real images against the references: what a perfect model would get."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user is to be told of the checkpoints."""
        return ()

    @property
    @abstractmethod
    def digests(self) -> Mapping[str, str]:
        """What the scores depend on besides the config: extractors by what they are called, metrics by their title."""

    @property
    @abstractmethod
    def samples(self) -> bool:
        """Whether anything is sampled: objectives on weights do without, and there is nothing to look at then."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal digest over the content of all checkpoints and, for LoRA, of the base model."""

    @property
    @abstractmethod
    def nfe(self) -> int:
        """Network evaluations per image."""

    def close(self) -> None:  # noqa: B027 - only engines with workers have something to release
        """Release the workers."""
