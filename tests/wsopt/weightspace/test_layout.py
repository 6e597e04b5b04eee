"""Blocks and their padding; projected bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stacks import set_of, walk
from wsopt.checkpoints import TensorSpec
from wsopt.weightspace import DenseStack, SpaceSettings, make_layout, plan_bytes, plan_policies
from wsopt.weightspace._layout import choose_block
from wsopt.weightspace._storage import available_memory, is_mapped


@given(sizes=st.lists(st.integers(1, 40_000), min_size=1, max_size=20))
def test_groups_begin_with_a_block_and_padding_is_small_where_it_can_be(sizes: list[int]) -> None:
    tensors = {f"t{i}": TensorSpec((size,), torch.float32) for i, size in enumerate(sizes)}
    groups = {name: f"g{i // 2}" for i, name in enumerate(tensors)}
    layout = make_layout(tensors, dict.fromkeys(tensors, "combine"), groups)
    assert [slot.name for slot in layout.slots] == list(tensors)
    taken = []
    for slot in layout.slots:
        first, end = layout.ranges[slot.group]
        assert first * layout.block <= slot.start < slot.stop <= end * layout.block
        taken += [slot.start, slot.stop]
    assert taken == sorted(taken)
    assert layout.ranges[0][0] == 0
    assert [one[1] for one in layout.ranges[:-1]] == [other[0] for other in layout.ranges[1:]]
    assert layout.blocks >= 2
    assert len(layout.group_of_blocks()) == layout.blocks
    assert layout.values == sum(sizes)
    assert layout.block == 256 or layout.size <= 1.1 * layout.values


@pytest.mark.parametrize(
    ("sizes", "block"),
    [([20_000_000], 4096), ([5000], 1024), ([4096], 2048), ([40_960, 10], 4096), ([3], 256), ([64] * 1000, 256)],
)
def test_the_block_is_the_largest_of_little_padding(sizes: list[int], block: int) -> None:
    assert choose_block(sizes) == block


def test_a_group_of_constants_is_left_out() -> None:
    tensors = {name: TensorSpec((300,), torch.float32) for name in "abc"}
    layout = make_layout(tensors, {"a": "combine", "b": "constant", "c": "combine"}, {"a": "x", "b": "y", "c": "z"})
    assert layout.groups == ("x", "z")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_projected_bytes_are_those_held(dtype: Any, tmp_path: Path) -> None:
    path = walk(4, {"a": (100, 70), "b": (9,)})
    checkpoints = set_of(path)
    memories: tuple[Literal["resident", "mapped"], ...] = ("resident", "mapped")
    for memory in memories:
        settings = SpaceSettings(dtype=dtype, width=2, memory=memory, cache=tmp_path)
        planned = plan_bytes(checkpoints.tensors, 4, settings)
        assert planned.keys() == {"differences", "mapped", "anchor", "candidates"}
        assert planned["differences" if memory == "mapped" else "mapped"] == 0
        assert planned["mapped" if memory == "mapped" else "differences"] == 3 * planned["anchor"] // (
            1 if dtype == "float32" else 2
        )
        assert planned["candidates"] == 2 * planned["anchor"]
        layout = make_layout(checkpoints.tensors, plan_policies(checkpoints.tensors, settings))
        assert planned["anchor"] == 4 * layout.size
    stack = DenseStack(checkpoints, SpaceSettings(dtype=dtype, width=2, memory="resident"))
    scales = 4 * 3 * layout.blocks if dtype == "float16" else 0
    assert (
        stack.nbytes == sum(plan_bytes(checkpoints.tensors, 4, SpaceSettings(dtype=dtype, width=2)).values()) + scales
    )


def test_auto_maps_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    free = available_memory()
    assert free is None or 0 < free < 1 << 50
    for available, mapped in [(None, False), (1000, True), (10_000, False)]:
        monkeypatch.setattr("wsopt.weightspace._storage.available_memory", lambda value=available: value)
        assert is_mapped(SpaceSettings(), 1000) is mapped
        assert is_mapped(SpaceSettings(memory="resident"), 1000) is False
        assert is_mapped(SpaceSettings(memory="mapped"), 1000) is True
        assert is_mapped(SpaceSettings(device="cuda:0"), 1000) is False
