"""Deterministic weights for the fixtures: a closed form, no random generator."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def wave(shape: tuple[int, ...], k: int, scale: float = 1.0, drift: float = 0.0) -> NDArray[np.float32]:
    """scale * sin(1 + 0.7 k + 0.37 i) + drift * cos(0.5 + 1.3 k + 0.11 i) at flat index i of tensor number k."""
    i = np.arange(math.prod(shape), dtype=np.float64)
    values = scale * np.sin(1 + 0.7 * k + 0.37 * i) + drift * np.cos(0.5 + 1.3 * k + 0.11 * i)
    return values.reshape(shape).astype(np.float32)
