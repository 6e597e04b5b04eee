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


@pytest.fixture
def untouched_randomness() -> Iterator[None]:
    """Fails the test where it drew from, or seeded, a global generator."""
    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()  # noqa: NPY002
    yield
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tobytes() == before[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])
