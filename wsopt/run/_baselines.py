"""The baselines: what people use without a search, scored on the search split and charged to the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np

from wsopt import parameterizations
from wsopt.config import Config
from wsopt.errors import InputError
from wsopt.run._former import former_runs
from wsopt.types import Coefficients, FloatArray, Target, WeightsFile

Kind = Literal["last", "single", "uniform", "power", "train-ema", "ema", "run"]


@dataclass(frozen=True, eq=False)
class Baseline:
    """A named target.

    Args:
        name: as in results: ``last``, ``single-STEP``, ``uniform``, ``power-WIDTH``, ``train-ema-RATE`` (true weights
            kept while training), ``ema-RATE`` (coefficients over the window) or ``run-FOLDER`` (a former run's winner).
        kind: what it is.
        target: its coefficients or weights.
        rate: the EMA rate per training step of an ``ema``, else None.
    """

    name: str
    kind: Kind
    target: Target
    rate: float | None = None


def first_baselines(
    config: Config, steps: tuple[int, ...], emas: Mapping[str, WeightsFile], groups: Sequence[str] | None = None
) -> list[Baseline]:
    """All baselines but the ones that extend the grid of EMA rates.

    Args:
        config: names them.
        steps: training steps of the K checkpoints.
        emas: training-time EMAs by rate.
        groups: names of the G layer groups, where they are known; but for a former run's, coefficients are the same
            in each.

    Raises:
        InputError: for a former run that is not there, not finished, or does not fit the window.
    """
    settings = config.baselines
    count = len(steps)
    rows = 1 if groups is None else len(groups)
    found = [
        Baseline("last", "last", _shared(parameterizations.single(count, count - 1), rows)),
        Baseline("uniform", "uniform", _shared(parameterizations.uniform(count), rows)),
    ]
    for index in _evenly(count - 1, settings.singles):
        target = _shared(parameterizations.single(count, index), rows)
        found.append(Baseline(f"single-{steps[index]}", "single", target))
    for width in settings.power_widths:
        target = _shared(parameterizations.power_ema(steps, width), rows)
        found.append(Baseline(f"power-{width:g}", "power", target))
    for rate, weights in sorted(emas.items(), key=lambda item: _rate_order(item[0])):
        found.append(Baseline(f"train-ema-{rate}", "train-ema", weights))
    found += [ema_baseline(steps, rate, rows) for rate in sorted(set(settings.ema_rates))]
    return found + [
        Baseline(former.name, "run", Coefficients(former.onto(steps, groups))) for former in former_runs(config)
    ]


def check_feasible(config: Config, baselines: Sequence[Baseline]) -> None:
    """Say before anything is trained or scored what the baselines cannot carry.

    Raises:
        InputError: where the budget does not cover the baselines, all extensions of the grid and one candidate, or
            `search.starts` names no baseline that is given by coefficients.
    """
    needed = len(baselines) + config.baselines.extend + 1
    if config.budget < needed:
        raise InputError(
            f"budget = {config.budget} does not cover the {len(baselines)} baselines, up to {config.baselines.extend} "
            f"more EMA rates and one candidate. Set budget to {needed} or more, or shorten [baselines]."
        )
    names = [baseline.name for baseline in baselines if isinstance(baseline.target, Coefficients)]
    if not any(is_start(config, name) for name in names):
        raise InputError(
            f"search.starts = {list(config.search.starts)} are not among the baselines that coefficients can begin "
            f"from. These are: {', '.join(names)}."
        )


def is_start(config: Config, name: str) -> bool:
    """True where the search begins from the baseline `name`."""
    return any(fnmatchcase(name, pattern) for pattern in config.search.starts)


def ema_baseline(steps: tuple[int, ...], rate: float, groups: int = 1) -> Baseline:
    """The EMA of a rate as coefficients over the window."""
    return Baseline(f"ema-{rate:.10g}", "ema", _shared(parameterizations.ema(steps, rate), groups), rate)


def next_rate(losses: Mapping[float, float]) -> float | None:
    """The rate that extends the grid where one of its ends is the best, else None.

    Args:
        losses: search loss by rate. The distance of a rate from 1 is halved past the slow end, doubled past the other.
    """
    if len(losses) < 2:
        return None
    best = min(losses, key=lambda rate: (losses[rate], rate))
    if best == max(losses):
        return 1.0 - (1.0 - best) / 2.0
    if best == min(losses) and 2.0 * (1.0 - best) < 1.0:
        return 1.0 - 2.0 * (1.0 - best)
    return None


def _rate_order(label: str) -> tuple[float, str]:
    """By rate; EMAs of another kind (``unknown``, ``width-0.05``) after all rates."""
    return (float(label) if label[0].isdigit() else 1.0, label)


def _shared(alpha: FloatArray, groups: int) -> Coefficients:
    return Coefficients(np.tile(alpha, (groups, 1)))


def _evenly(stop: int, number: int) -> list[int]:
    """`number` evenly spaced indices below `stop`, the last checkpoint itself being a baseline of its own."""
    number = min(number, stop)
    return [round((i + 1) * stop / (number + 1)) for i in range(number)] if number < stop else list(range(stop))
