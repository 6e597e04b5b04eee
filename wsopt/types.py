"""The records that pass between the parts of wsopt. Plain data; only numpy is imported.

Shapes are written with K checkpoints, G layer groups, D search dimensions, n candidates, N samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

FloatArray: TypeAlias = NDArray[np.float64]
Direction = Literal["minimize", "maximize"]
Split = Literal["search", "validation", "report"]


@dataclass(frozen=True)
class SpaceInfo:
    """What a parameterization may know of the checkpoints.

    Args:
        steps: training steps of the K checkpoints, ascending; the first is the anchor's.
        groups: names of the G layer groups; ``("all",)`` when every layer shares its coefficients.
        gram: ``[G, K, K]`` inner products of the differences theta_i - theta_1 in each group, float64, or None where
            the parameterization did not ask for them (`Parameterization.needs_gram`).
        representation: what the K checkpoints are: ``dense`` weights, or ``lora`` adapters of one base model.
    """

    steps: tuple[int, ...]
    groups: tuple[str, ...] = ("all",)
    gram: FloatArray | None = None
    representation: Literal["dense", "lora"] = "dense"

    @property
    def num_groups(self) -> int:
        """G."""
        return len(self.groups)

    @property
    def num_checkpoints(self) -> int:
        """K."""
        return len(self.steps)


@dataclass(frozen=True)
class Candidate:
    """A point an optimizer asks to have evaluated. `x` is the search vector, ``[D]`` float64."""

    id: int
    x: FloatArray


@dataclass(frozen=True)
class Result:
    """The outcome of a candidate, told to the optimizer.

    Args:
        id: the candidate's.
        loss: the minimised number, finite; None for a failed candidate.
    """

    id: int
    loss: float | None

    @property
    def failed(self) -> bool:
        """True where the candidate gave no score."""
        return self.loss is None


@dataclass(frozen=True)
class Start:
    """A point that is already evaluated when the search begins (a baseline), and already paid for."""

    name: str
    x: FloatArray
    loss: float


@dataclass(frozen=True)
class Score:
    """An objective's natural value.

    Args:
        value: in the objective's own units and direction.
        stderr: standard error of `value` over the random samples (block jackknife); None where not defined.
        samples: number of generated samples it was computed from (0 for objectives on weights).
        debiased: `value` extrapolated to infinitely many samples; None where it has no bias, or was not asked for.
        replicates: `value` without each block of samples in turn (`Objective.replicates`), so that the difference of
            two scores on the same noise has a standard error of its own; empty where not defined or not asked for.
        interval: both ends of a 95 % interval that says more than the standard error (of a share); None without.
    """

    value: float
    stderr: float | None
    samples: int
    debiased: float | None = None
    replicates: tuple[float, ...] = ()
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Batch:
    """Generated or real samples on their way to an objective.

    Args:
        images: ``[N, C, H, W]`` float32. From a family: model range [-1, 1]. To an objective or extractor:
            grey levels in [0, 255] (whole numbers unless the quantisation is ``none``).
        indices: the N sample indices within the split; they decide noise, label and prompt.
        conditions: N labels or prompts, or None for an unconditional model.
        features: ``[N, d]`` float32 where the objective needs features, else None.
        extracted: everything that was extracted from these images, by (name of the features, output); what an objective
            of several feature spaces takes its parts' features from.
    """

    images: Tensor
    indices: Sequence[int]
    conditions: Sequence[Any] | None = None
    features: Tensor | None = None
    extracted: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Coefficients:
    """A target given by coefficients: `values` is ``[G, K]`` float64."""

    values: FloatArray


@dataclass(frozen=True)
class WeightsFile:
    """A target given by weights on disk (a true training-time EMA is weights, not coefficients).

    Args:
        path: the file or folder.
        part: which of its sets of weights (`wsopt.checkpoints.Snapshot.part`); empty where it holds one.
    """

    path: Path
    part: str = ""


Target: TypeAlias = Coefficients | WeightsFile


@dataclass(frozen=True)
class Partial:
    """A score from the first samples of a split only.

    Args:
        samples: how many.
        value: the objective's value.
        replicates: the value without each jackknife block in turn (`Objective.replicates`); empty where not defined.
    """

    samples: int
    value: float
    replicates: tuple[float, ...] = ()


@dataclass(frozen=True)
class Race:
    """When an evaluation may be given up early.

    Args:
        stages: sample counts at which the score so far is looked at, ascending, each below the job's samples.
        rival: scores at those counts of the one that a candidate has to beat; empty where there is none, so that the
            candidate's own partial scores are recorded and nothing is given up.
        sign: 1 where the objective is minimised, -1 where it is maximised.
        margin: standard errors of the paired difference by which a candidate must be behind to be given up.
    """

    stages: tuple[int, ...]
    rival: tuple[Partial, ...] = ()
    sign: float = 1.0
    margin: float = 3.0


@dataclass(frozen=True)
class Job:
    """One evaluation to do.

    Args:
        id: unique within one call of `Engine.evaluate`.
        target: what to put into the model.
        split: whose noise the samples are drawn from; the metrics evaluated follow from it.
        samples: number of samples.
        slot: position of the candidate in the sequence of all candidates. Candidates are merged in blocks of fixed
            width and `slot` decides block and row, so a candidate's merge rounds alike however its run was interrupted.
        remember: whether other runs on the same checkpoints are likely to ask for the same scores (a baseline, anything
            on the report split), so that an engine may answer from what was scored before.
        race: when it may be given up early; None never.
    """

    id: int
    target: Target
    split: Split
    samples: int
    slot: int = 0
    remember: bool = False
    race: Race | None = None


@dataclass(frozen=True)
class MetricScore:
    """A score with what makes it comparable.

    Args:
        metric: the metric's label, or the registered name of its objective.
        features: what its features are called in the config; None where it looks at none.
        reference: name of the real data that it compares with (``digits/train``, or a file's name); None without.
        score: the score.
        direction: which way is better.
    """

    metric: str
    features: str | None
    reference: str | None
    score: Score
    direction: Direction = "minimize"


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Args:
        id: the job's.
        scores: one entry per metric of the split, the search's own metric first; empty when failed.
        seconds: wall-clock seconds by stage: merge, sample, features, distance.
        failure: why there is no score; None when there is one.
        partials: scores of the search's own metric at the stages of the race that were reached.
        given_up: whether a race ended it early, so that the last of `partials` is all there is; `scores` is empty then.
    """

    id: int
    scores: tuple[MetricScore, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None
    partials: tuple[Partial, ...] = ()
    given_up: bool = False
