"""A guard around other people's code, which may draw from the random generators of the whole process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch

_SEED = 0


@contextmanager
def fixed_random_state(device: torch.device | None = None) -> Iterator[None]:
    """The global generators of torch, numpy and random begin at one fixed state within; after it they are as before.

    So what a metric draws is the same for every candidate, and moves nothing outside.

    Args:
        device: a CUDA device whose generator is treated likewise.
    """
    outside = np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002 - put back below
    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.set_rng_state(torch.Generator().manual_seed(_SEED).get_state())
        for gpu in gpus:
            torch.cuda.set_rng_state(torch.Generator(gpu).manual_seed(_SEED).get_state(), gpu)
        fixed = _fixed()
        np.random.set_state(fixed[0])  # noqa: NPY002
        random.setstate(fixed[1])
        try:
            yield
        finally:
            np.random.set_state(outside[0])  # noqa: NPY002
            random.setstate(outside[1])


@cache
def _fixed() -> tuple[dict[str, Any], tuple[Any, ...]]:
    """The states of numpy and random; seeding them takes longer than a small function does."""
    return np.random.RandomState(_SEED).get_state(legacy=False), random.Random(_SEED).getstate()
