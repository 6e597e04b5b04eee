"""Coefficient profiles over a window: single, uniform, EMA of a rate, power-function EMA of a width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from wsopt.types import FloatArray

WIDEST: Final = 12**-0.5
"""Relative width of the plain average, 0.2887, a power-function EMA of exponent 0; those of others are smaller."""


def single(count: int, index: int) -> FloatArray:
    """One-hot coefficients ``[K]`` of checkpoint `index`."""
    alpha = np.zeros(count)
    alpha[index] = 1.0
    return alpha


def uniform(count: int) -> FloatArray:
    """Equal coefficients ``[K]``."""
    return np.full(count, 1.0 / count)


def ema(steps: Sequence[int], rate: float) -> FloatArray:
    """EMA coefficients of a rate per training step: alpha_i = gamma^(n_K - n_i) / A (the paper's section 3.1).

    Args:
        steps: training steps of the K checkpoints, ascending.
        rate: gamma in (0, 1), per training step as trainers state it, not per checkpoint.

    Returns:
        ``[K]`` float64 that sums to 1.
    """
    ages = steps[-1] - np.asarray(steps, dtype=np.float64)
    alpha = np.exp(ages * np.log(rate))
    return np.asarray(alpha / alpha.sum())


def ema_from_first(steps: Sequence[int], rate: float) -> FloatArray:
    """Coefficients of the EMA recursion over the window, started at its first checkpoint.

    avg = theta_1, then for each checkpoint that follows avg = g avg + (1 - g) theta_i with g = gamma^(n_i - n_(i-1)).
    The mass that the later ones leave, gamma^(n_K - n_1), stays on theta_1; `ema` spreads it over all instead. This is
    what an EMA gives that was begun at theta_1 and updated at the saved steps only.

    Args:
        steps: training steps of the K checkpoints, ascending.
        rate: gamma in (0, 1), per training step.

    Returns:
        ``[K]`` float64 that sums to 1.
    """
    at = np.asarray(steps, dtype=np.float64)
    left = np.exp((at[-1] - at) * np.log(rate))
    kept = np.diff(left)  # gamma^(n_K - n_i) - gamma^(n_K - n_(i-1))
    return np.concatenate([left[:1], kept])


def power_ema(steps: Sequence[int], width: float) -> FloatArray:
    """Power-function EMA: weight on step n proportional to n^gamma, integrated over the gap before each checkpoint.

    Args:
        steps: training steps of the K checkpoints, ascending.
        width: relative standard deviation of the profile, below `WIDEST` (Karras et al., "Analyzing and Improving the
            Training Dynamics of Diffusion Models", CVPR 2024, section 3).

    Returns:
        ``[K]`` float64 that sums to 1.
    """
    exponent = power_exponent(width)
    ends = np.asarray(steps, dtype=np.float64) / steps[-1]
    before = 2 * ends[0] - ends[1] if len(ends) > 1 else 0.0
    starts = np.concatenate([[max(0.0, before)], ends[:-1]])
    alpha = ends ** (exponent + 1) - starts ** (exponent + 1)
    return np.asarray(alpha / alpha.sum())


def power_exponent(width: float) -> float:
    """Gamma of a relative width: width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), the larger root.

    The profile n^gamma on [0, 1] is a Beta(gamma + 1, 1) density, whose standard deviation this is.
    """
    cubic = [1.0, 7.0, 16.0 - width**-2, 12.0 - width**-2]
    return float(np.roots(cubic).real.max())
