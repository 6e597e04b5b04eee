"""The engine that evaluates in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from wsopt.engines._base import Engine
from wsopt.engines._evaluator import Evaluator, EvaluatorSpec, Export, Rendered
from wsopt.types import Job, MetricScore, Outcome, SpaceInfo, Split, Target


class InProcessEngine(Engine):
    """One evaluator, one job after another."""

    def start(self, spec: EvaluatorSpec, gram: bool = False) -> SpaceInfo:
        """See `Engine.start`."""
        self._evaluator = Evaluator(spec)
        space = self._evaluator.space
        representation: Literal["dense", "lora"] = "lora" if spec.checkpoints.kind == "lora" else "dense"
        return SpaceInfo(space.steps, space.groups, space.gram() if gram else None, representation)

    def evaluate(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """See `Engine.evaluate`."""
        return self._evaluator.evaluate(list(jobs))

    def render(self, target: Target, split: Split, count: int) -> Rendered:
        """See `Engine.render`."""
        return self._evaluator.render(target, split, count)

    def export(self, target: Target) -> Export:
        """See `Engine.export`."""
        return self._evaluator.export(target)

    def floor(self) -> list[MetricScore]:
        """See `Engine.floor`."""
        return self._evaluator.floor()

    @property
    def warnings(self) -> tuple[str, ...]:
        """See `Engine.warnings`."""
        return self._evaluator.space.warnings

    @property
    def fingerprint(self) -> str:
        """See `Engine.fingerprint`."""
        return self._evaluator.fingerprint

    @property
    def nfe(self) -> int:
        """See `Engine.nfe`."""
        return self._evaluator.family.nfe
