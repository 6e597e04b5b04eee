"""The Wilson score interval of a share."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist


def wilson_interval(share: float, samples: int, confidence: float = 0.95) -> tuple[float, float]:
    """Both ends of the Wilson score interval (Wilson 1927), which stays within [0, 1] also for shares of 0 and 1.

    With p the share, n the samples and z the normal quantile of (1 + confidence) / 2:
    (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).

    Args:
        share: of samples that won, in [0, 1]; ties may count as halves.
        samples: n, at least 1.
        confidence: in (0, 1).

    Raises:
        ValueError: for values out of these ranges.
    """
    if not (0 <= share <= 1 and samples >= 1 and 0 < confidence < 1):
        raise ValueError(f"no interval for a share of {share} in {samples} samples at confidence {confidence}")
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    centre = share + z2 / (2 * samples)
    spread = sqrt(z2 * (share * (1 - share) / samples + z2 / (4 * samples**2)))
    low, high = ((centre + sign * spread) / (1 + z2 / samples) for sign in (-1, 1))
    return max(low, 0.0), min(high, 1.0)
