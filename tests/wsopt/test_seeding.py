from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsopt.seeding import SampleNoise, child_generator, child_seed


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=20, unique=True), st.data())
def test_noise_depends_on_the_index_alone(indices: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(indices)))
    whole = SampleNoise(3, "search").normal(indices, (2, 3))
    other = SampleNoise(3, "search")
    parts = [other.normal(part, (2, 3)) for part in (indices[cut:], indices[:cut]) if part]
    np.testing.assert_array_equal(whole, np.concatenate(parts[::-1]))


def test_splits_streams_and_seeds_are_independent() -> None:
    base = SampleNoise(0, "search")
    shape = (1000,)
    draws = [
        base.normal([0], shape)[0],
        base.normal([1], shape)[0],
        base.normal([0], shape, stream="step-1")[0],
        SampleNoise(0, "report").normal([0], shape)[0],
        SampleNoise(1, "search").normal([0], shape)[0],
    ]
    correlation = np.corrcoef(draws)
    assert np.abs(correlation - np.eye(len(draws))).max() < 0.15


def test_noise_is_standard_normal() -> None:
    noise = SampleNoise(5, "search").normal(range(200), (50,))
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.03


def test_children_do_not_depend_on_the_hash_seed() -> None:
    code = "from wsopt.seeding import child_seed; print(child_seed(7, 'a', 1))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": hash_seed}, capture_output=True, check=True
        ).stdout
        for hash_seed in ("0", "1")
    }
    assert seen == {f"{child_seed(7, 'a', 1)}\n".encode()}


@pytest.mark.usefixtures("untouched_randomness")
def test_global_state_is_untouched() -> None:
    child_generator(0, "x").normal(size=3)
    SampleNoise(0, "search").normal([1, 2], (3,))
