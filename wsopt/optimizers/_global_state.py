"""A guard for libraries that draw from, warn through and print to what belongs to the whole process."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import numpy as np


@contextmanager
def quiet() -> Iterator[None]:
    """Neither warnings nor standard output within."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


class PrivateGlobals:
    """Global random states of its own.

    Within `swapped()`, numpy's and random's global generators continue where the last `swapped()` left them; outside
    they are as if nothing had happened. Some of nevergrad's optimizers draw from them; so these too depend on the run's
    seed alone.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        first, second = (int(seed) for seed in generator.integers(2**32, size=2))
        self._numpy = np.random.RandomState(first).get_state(legacy=False)
        self._python = random.Random(second).getstate()

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Use the private states within, quietly."""
        outside = np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002 - put back below
        np.random.set_state(self._numpy)  # noqa: NPY002
        random.setstate(self._python)
        try:
            with quiet():
                yield
        finally:
            self._numpy, self._python = np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
            np.random.set_state(outside[0])  # noqa: NPY002
            random.setstate(outside[1])
