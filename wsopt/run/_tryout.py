"""Before the search: the report's further metrics on a few samples, so that a mistake in one is told at once."""

from __future__ import annotations

import numpy as np

from wsopt.config import Config
from wsopt.engines import Engine
from wsopt.types import Coefficients, Job, SpaceInfo

_SAMPLES = 16


def tryout(config: Config, engine: Engine, info: SpaceInfo) -> str | None:
    """Score the last checkpoint by every metric of the report on a few samples; nothing of it is kept.

    Args:
        config: of the run; without further metrics nothing is done.
        engine: started.
        info: of its checkpoints.

    Returns:
        What to tell the user where a metric raised: it may be the few samples, or a mistake. None where all went well.

    Raises:
        InputError: what a metric raises for input that it cannot use.
    """
    if not config.report.metrics:
        return None
    last = np.zeros((info.num_groups, info.num_checkpoints))
    last[:, -1] = 1.0
    samples = min(_SAMPLES, config.report.samples)
    (outcome,) = engine.evaluate([Job(0, Coefficients(last), "report", samples)])
    if outcome.failure is None:
        return None
    return (
        f"the metrics of the report failed on the last checkpoint and {samples} samples: {outcome.failure}. Where that "
        f"is not for the few samples, stop the run and mend the metric; else the report will fail after the search."
    )
