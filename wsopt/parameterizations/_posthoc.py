"""Post-hoc EMA: the coefficients that turn saved snapshots, averaged or not, into another average of the training run.

Every linear average of a run is a profile: the weight that it gives to each training step. A snapshot of an average is
one as well, so the coefficients of the snapshots that come nearest to a wanted average are a least-squares problem
between known profiles. Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (CVPR 2024,
section 3.2) solve it for power-function profiles; here any mixture of raw weights, constant-rate EMAs and
power-function EMAs is taken, with exact sums over training steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from wsopt.errors import InputError
from wsopt.parameterizations._profiles import WIDEST, power_exponent
from wsopt.types import FloatArray

MOST_CELLS = 1 << 21
"""Longest training run, in steps, whose profiles are summed step by step; of a longer one in cells of equal length."""

_CHUNK = 1 << 14
_LARGE = 10.0


@dataclass(frozen=True)
class ProfilePoint:
    """One snapshot of a stream, or the average that is wanted.

    Args:
        step: training steps done when it was saved, at least 1.
        rate: of a constant-rate EMA, per training step, in (0, 1), begun at the initial weights.
        width: of a power-function EMA, relative standard deviation below `WIDEST`. Without rate and width the point is
            the raw weights of its step.
    """

    step: int
    rate: float | None = None
    width: float | None = None

    def __post_init__(self) -> None:
        if self.step < 1:
            raise InputError(f"a snapshot of step {self.step} has no profile: give steps from 1 on.")
        if self.rate is not None and self.width is not None:
            raise InputError(f"the snapshot of step {self.step} has a rate and a width: an EMA has one of them.")
        if self.rate is not None and not 0.0 < self.rate < 1.0:
            raise InputError(f"an EMA's rate per training step lies between 0 and 1, not {self.rate:g}.")
        if self.width is not None and not 0.0 < self.width < WIDEST:
            raise InputError(f"a power-function EMA's width lies between 0 and {WIDEST:.4f}, not {self.width:g}.")

    @property
    def raw(self) -> bool:
        """Whether it is no average."""
        return self.rate is None and self.width is None

    def mass_until(self, steps: FloatArray) -> FloatArray:
        """Part of the profile's weight that lies on `steps` and before, step 0 being the initial weights.

        A constant-rate EMA leaves rate^step on the initial weights. A power-function EMA follows the recursion with
        the factor (1 - 1/n)^(gamma + 1) at step n, so that (n / step)^(gamma + 1) lies on steps 1..n.
        """
        past = np.clip(steps, 0.0, float(self.step))
        if self.rate is not None:
            mass = np.exp((self.step - past) * np.log(self.rate))
        elif self.width is not None:
            mass = (past / self.step) ** (power_exponent(self.width) + 1.0)
        else:
            mass = (steps >= self.step).astype(np.float64)
        return np.where(steps >= 0.0, mass, 0.0)


@dataclass(frozen=True, eq=False)
class PosthocEma:
    """Coefficients of the points, and how well they do.

    Args:
        coefficients: one for each point, in their order, float64; they sum to 1.
        error: distance of the combined profile from the wanted one, divided by the length of the wanted one; 0 is
            exact and 1 as good as nothing.
    """

    coefficients: FloatArray
    error: float

    @property
    def absolute_sum(self) -> float:
        """See the function of that name."""
        return absolute_sum(self.coefficients)

    @property
    def amplifies(self) -> bool:
        """True where `absolute_sum` is large: the wanted profile is narrower than the points can tell."""
        return amplifies(self.coefficients)


def absolute_sum(coefficients: FloatArray) -> float:
    """Sum of the absolute coefficients ``[..., K]``, the largest of several: how much errors of the K are amplified."""
    return float(np.abs(coefficients).sum(axis=-1).max())


def amplifies(coefficients: FloatArray) -> bool:
    """True where `absolute_sum` is so large that rounding and noise of the stored weights show."""
    return absolute_sum(coefficients) > _LARGE


def posthoc(points: Sequence[ProfilePoint], target: ProfilePoint) -> PosthocEma:
    """The combination of `points` that comes nearest to the average `target`.

    Where one point at least is an average, the squared distance between the profiles is minimised, summed over training
    steps, and the coefficients are rescaled to the sum 1. Raw weights alone are single steps, which no such distance
    can tell apart; there each takes the target's weight on the gap before it (as in `power_ema`), which gives a smooth
    combination but cannot bring back averaging that was not stored.

    Args:
        points: what is saved, at least one, of any streams and in any order. Points later than the target may be among
            them and get coefficients near 0, raw weights alone exactly 0.
        target: the EMA that is wanted, by rate or by width, at its step.

    Raises:
        InputError: where the target is no average or the points have nothing to do with it.
    """
    if not points:
        raise InputError("a post-hoc EMA needs at least one snapshot.")
    if target.raw:
        raise InputError(f"the raw weights of step {target.step} are no average: give the target a rate or a width.")
    profiles = [*points, target]
    gram = _inner_products(profiles)
    inner, toward, length = gram[:-1, :-1], gram[:-1, -1], gram[-1, -1]
    if all(point.raw for point in points):
        solution = _gap_masses(points, target)
    else:
        # Profiles of unit length: those of raw weights are longer than those of wide averages by orders of magnitude.
        unit = np.sqrt(np.diag(inner))
        limit = len(points) * np.finfo(np.float64).eps
        solution = np.linalg.lstsq(inner / np.outer(unit, unit), toward / unit, rcond=limit)[0] / unit
    total = float(solution.sum())
    if not abs(total) > 0.01 or not np.isfinite(solution).all():
        raise InputError(
            f"the snapshots hold almost nothing of the average that is wanted at step {target.step}: the nearest is of "
            f"step {min(point.step for point in points)} or later. Give snapshots of the steps before."
        )
    solution = solution / total
    square = float(solution @ inner @ solution - 2.0 * (solution @ toward) + length)
    return PosthocEma(solution, float(np.sqrt(max(square, 0.0) / length)))


def _gap_masses(points: Sequence[ProfilePoint], target: ProfilePoint) -> FloatArray:
    """The target's weight on the gap before each raw point; 0 for later ones, and equal steps share theirs."""
    steps, which, shared = np.unique([point.step for point in points], return_inverse=True, return_counts=True)
    ends = steps.astype(np.float64)
    gap = ends[1] - ends[0] if len(ends) > 1 else ends[0]
    edges = np.concatenate([[max(ends[0] - gap, 0.0)], ends])
    masses = np.where(steps <= target.step, np.diff(target.mass_until(edges)), 0.0)
    return np.asarray((masses / shared)[which])


def _inner_products(profiles: Sequence[ProfilePoint]) -> FloatArray:
    """``[M, M]`` sums over training steps of the products of two profiles."""
    last = max(profile.step for profile in profiles)
    every = -(-last // MOST_CELLS)
    gram = np.zeros((len(profiles), len(profiles)))
    for edges in _cells(last, every, [profile.step for profile in profiles]):
        masses = np.stack([np.diff(profile.mass_until(edges)) for profile in profiles])
        masses /= np.sqrt(np.diff(edges))
        gram += masses @ masses.T
    return gram


def _cells(last: int, every: int, steps: Sequence[int]) -> Iterator[FloatArray]:
    """Edges of consecutive cells (a, b] over the steps 0..last, a chunk at a time; every profile ends at an edge."""
    edges = np.arange(-1, last, every)
    edges = np.unique(np.concatenate([edges, [0, last], steps]) if every > 1 else np.append(edges, last))
    for at in range(0, len(edges) - 1, _CHUNK):
        yield edges[at : at + _CHUNK + 1].astype(np.float64)
