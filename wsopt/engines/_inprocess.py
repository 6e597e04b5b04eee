"""The engine that evaluates in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from wsopt.engines._base import Engine
from wsopt.engines._evaluator import Evaluator, EvaluatorSpec, Export, Rendered
from wsopt.types import FloatArray, Job, MetricScore, Outcome, SpaceInfo, Split, Target
from wsopt.weightspace import near_duplicates

_CHEAP_GRAM = 10**11
"""Operations, some seconds: below it copies among the checkpoints are looked for whether or not anyone asked for the
Gram matrix. `wsopt inspect --deep` finds them in larger sets."""


class InProcessEngine(Engine):
    """One evaluator, one job after another."""

    def start(self, spec: EvaluatorSpec, gram: bool = False) -> SpaceInfo:
        """See `Engine.start`."""
        self._evaluator = Evaluator(spec)
        space = self._evaluator.space
        representation: Literal["dense", "lora"] = "lora" if spec.checkpoints.kind == "lora" else "dense"
        cost = len(space.steps) ** 2 * sum(spec.numel for spec in spec.checkpoints.tensors.values())
        inner = space.gram() if gram or cost <= _CHEAP_GRAM else None
        self._near = "" if inner is None else _near(inner, space.steps)
        return SpaceInfo(space.steps, space.groups, inner if gram else None, representation)

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
        return (*self._evaluator.space.warnings, *self._evaluator.metrics.notes, *filter(None, [self._near]))

    @property
    def digests(self) -> Mapping[str, str]:
        """See `Engine.digests`."""
        return self._evaluator.metrics.digests

    @property
    def samples(self) -> bool:
        """See `Engine.samples`."""
        return self._evaluator.samples

    @property
    def fingerprint(self) -> str:
        """See `Engine.fingerprint`."""
        return self._evaluator.fingerprint

    @property
    def nfe(self) -> int:
        """See `Engine.nfe`."""
        return self._evaluator.family.nfe


def _near(gram: FloatArray, steps: tuple[int, ...]) -> str:
    """The sentence on checkpoints that are nearly the same; empty where there are none."""
    found = near_duplicates(gram, steps)
    if not found:
        return ""
    shown = ", ".join(f"{one.first} and {one.second}" for one in found[:5]) + (", ..." if len(found) > 5 else "")
    return (
        f"{len(found)} pairs of checkpoints are nearly the same weights (steps {shown}): each adds a direction that is "
        f"nothing but rounding. Leave one of each out with checkpoints.exclude."
    )
