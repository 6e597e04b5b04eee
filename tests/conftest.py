"""What every test gets: threads that do not fight, plugins that are ours, and a guard over global random state."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

torch.set_num_threads(1)
threadpool_limits(1)


@pytest.fixture(autouse=True)
def _own_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins that happen to be installed beside wsopt take no part."""
    monkeypatch.setenv("WSOPT_PLUGINS", "cd")


def _numpy_state() -> bytes:
    keys = np.random.get_state(legacy=True)[1]  # type: ignore[index]  # noqa: NPY002 - the state that must not change
    return bytes(np.asarray(keys).tobytes())


@pytest.fixture
def untouched_randomness() -> Iterator[None]:
    """Fails the test where it drew from, or seeded, a global generator."""
    before = random.getstate(), _numpy_state(), torch.get_rng_state()
    yield
    assert random.getstate() == before[0]
    assert _numpy_state() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
