"""Whether a piece of code touches the random generators that a whole process shares."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def untouched_random_state(what: str) -> Iterator[None]:
    """Run the block and compare the states of the default generators of `random`, numpy and torch (on the CPU).

    Raises:
        AssertionError: where one has changed.
    """
    before = _states()
    yield
    changed = [name for name, state in _states().items() if state != before[name]]
    assert not changed, (
        f"{what} changed the global random state of {' and '.join(changed)}: draw from a generator that is handed in "
        f"or made with a fixed seed"
    )


def _states() -> dict[str, object]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - read, to see that nobody draws from it
    return {
        "random": random.getstate(),
        "numpy": (kind, np.asarray(keys).tobytes(), *rest),
        "torch": torch.random.get_rng_state().numpy().tobytes(),
    }
