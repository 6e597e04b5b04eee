"""Merges against sums in float64: layer groups, block sizes, widths, dtypes, devices."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stacks import exact, merged, set_of, walk
from wsopt.errors import CheckpointError
from wsopt.types import FloatArray
from wsopt.weightspace import DenseStack, SpaceSettings

SHAPES = {"a.weight": (70, 31), "a.bias": (31,), "b.weight": (1000, 9), "b.bias": (3,), "c": ()}
GROUPS = {"a.weight": "a", "b.weight": "b", "a.bias": "a", "b.bias": "b", "c": "c"}
COUNT = 6
PATH = walk(COUNT, SHAPES)
SIGNED = np.array([0.4, -2.5, 3.0, 1.25, -4.0, 2.85])


def signed(count: int) -> st.SearchStrategy[FloatArray]:
    return st.lists(st.floats(-4, 4), min_size=count, max_size=count).map(lambda values: np.array(values))


def change_error(stack: DenseStack, alpha: FloatArray) -> float:
    """Norm of the error over the norm of the change from the first checkpoint, for coefficients of sum 1."""
    result = merged(stack, alpha)
    wrong = sum(float((result[name].double() - exact(PATH, alpha, name)).square().sum()) for name in SHAPES)
    change = sum(float((exact(PATH, alpha, name) - PATH[0][name]).square().sum()) for name in SHAPES)
    return float(np.sqrt(wrong / change))


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(signed(COUNT), min_size=3, max_size=3),
    dtype=st.sampled_from(["float32", "float16"]),
    width=st.sampled_from([1, 2, 7]),
    data=st.data(),
)
def test_layer_groups_against_a_sum_per_tensor(
    values: list[FloatArray], dtype: str, width: int, data: st.DataObject
) -> None:
    groups = data.draw(st.fixed_dictionaries({name: st.sampled_from("xyz") for name in SHAPES}))
    stack = DenseStack(set_of(PATH), SpaceSettings(width=width, dtype=dtype), lambda shapes: groups)  # type: ignore[arg-type]
    assert stack.groups == tuple(dict.fromkeys(groups[name] for name in SHAPES))
    alpha = np.stack(values[: len(stack.groups)])
    result = merged(stack, alpha, row=width - 1)
    for name in SHAPES:
        own = alpha[stack.groups.index(groups[name])]
        size = float(np.abs(own).sum()) * 4
        precision = 1e-6 if dtype == "float32" else 3e-4
        torch.testing.assert_close(
            result[name].double(), exact(PATH, own, name), rtol=0, atol=precision * size + 1e-6, msg=name
        )


@pytest.mark.parametrize("width", [1, 2, 5, 16])
def test_a_row_does_not_depend_on_row_neighbours_or_threads(width: int) -> None:
    stack = DenseStack(set_of(PATH), SpaceSettings(width=width))
    generator = np.random.default_rng(3)
    alone = merged(stack, SIGNED, row=0)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            for row in range(width):
                others = generator.normal(size=(width, 1, COUNT))
                others[row, 0] = SIGNED
                stack.prepare(others)
                assert all(torch.equal(tensor, alone[name]) for name, tensor in stack.tensors(row).items())
    finally:
        torch.set_num_threads(threads)


def test_coefficients_of_sum_1_leave_what_does_not_change() -> None:
    path = [{**one, "still": torch.tensor([0.1, 1e20, -3.0])} for one in PATH]
    path[2]["still"] = torch.tensor([0.1, 1e20, 5.0])
    result = merged(DenseStack(set_of(path)), np.array([5.0, -7.0, 0.0, 2.0, 3.0, -2.0]))
    assert torch.equal(result["still"], torch.tensor([0.1, 1e20, -3.0]))


def test_padding_never_shows() -> None:
    stack = DenseStack(set_of(PATH), SpaceSettings(width=2), lambda shapes: GROUPS)
    assert stack.layout.size > stack.layout.values
    before = merged(stack, np.stack([SIGNED] * 3))
    for shard in stack.differences:
        taken = torch.zeros(stack.layout.size, dtype=torch.bool)
        for slot in stack.layout.slots:
            taken[slot.start : slot.stop] = True
        assert not shard.transpose(1, 2).flatten(0, 1)[~taken].any()
        shard.transpose(1, 2).reshape(-1, COUNT - 1)[~taken] = float("nan")
    after = merged(stack, np.stack([SIGNED] * 3))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2e-6), ("bfloat16", 5e-3), ("float16", 5e-4)])
def test_error_relative_to_the_change_from_the_first(dtype: str, bound: float) -> None:
    stack = DenseStack(set_of(PATH), SpaceSettings(width=1, dtype=dtype))  # type: ignore[arg-type]
    assert stack.differences[0].dtype == getattr(torch, dtype)
    error = change_error(stack, np.array([0.4, -1.0, 1.5, 0.7, -1.6, 1.0]))
    assert error < bound
    assert dtype == "float32" or error > bound / 100  # they are rounded


@pytest.mark.parametrize("size", [1e-12, 1e-7, 1e6, 1e30])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_differences_far_from_1_neither_vanish_nor_overflow(size: float, dtype: str) -> None:
    path = [{name: value * size for name, value in one.items()} for one in PATH]
    stack = DenseStack(set_of(path), SpaceSettings(width=1, dtype=dtype))  # type: ignore[arg-type]
    result = merged(stack, SIGNED / SIGNED.sum())["a.weight"].double()
    expected = exact(path, SIGNED / SIGNED.sum(), "a.weight")
    assert float((result - expected).norm() / (expected - path[0]["a.weight"].double()).norm()) < 5e-3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_difference_that_overflows_names_file_and_tensor(dtype: str) -> None:
    path = [{"fine": torch.ones(300), "huge": torch.full((300,), 3.0e38)} for _ in range(3)]
    path[1] = {"fine": torch.zeros(300), "huge": torch.full((300,), -3.0e38)}
    path[2] = {"fine": torch.zeros(300), "huge": torch.zeros(300)}
    with pytest.raises(CheckpointError, match=r"2\.memory: tensor huge differs from 1\.memory by more than"):
        DenseStack(set_of(path), SpaceSettings(dtype=dtype))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("devices", [("cpu", "cpu"), ("cpu",) * 3, ("cpu",) * 50])
def test_several_devices_give_the_same_bits(dtype: str, devices: tuple[str, ...]) -> None:
    alpha = np.stack([SIGNED, SIGNED[::-1], SIGNED / 2])
    plain = DenseStack(set_of(PATH), SpaceSettings(width=3, dtype=dtype), lambda shapes: GROUPS)  # type: ignore[arg-type]
    shared = DenseStack(
        set_of(PATH),
        SpaceSettings(width=3, dtype=dtype, devices=devices),  # type: ignore[arg-type]
        lambda shapes: GROUPS,
    )
    assert len(shared.differences) > 1
    one, other = merged(plain, alpha, row=1), merged(shared, alpha, row=1)
    assert all(torch.equal(one[name], other[name]) for name in SHAPES)
    np.testing.assert_allclose(plain.gram(), shared.gram(), rtol=1e-12, atol=1e-12)
    assert plain.nbytes == shared.nbytes


@pytest.mark.parametrize(
    "shapes", [{"only": (1,)}, {"only": ()}, {"a": (3, 5), "b": (2,)}, {"a": (4096,)}, {"a": (8193,)}]
)
@pytest.mark.parametrize("count", [2, 3])
def test_small_and_awkward_sizes(shapes: dict[str, tuple[int, ...]], count: int) -> None:
    path = walk(count, shapes)
    stack = DenseStack(set_of(path), SpaceSettings(width=3))
    alpha = np.array([-1.5, 2.0, 0.5])[:count]
    result = merged(stack, alpha, row=2)
    for name in shapes:
        torch.testing.assert_close(result[name].double(), exact(path, alpha, name), rtol=0, atol=2e-5)
    assert all(torch.equal(merged(stack, np.eye(count)[-1])[name], path[-1][name]) for name in shapes)


def test_nothing_to_combine() -> None:
    path = [{"a": torch.ones(3), "n": torch.tensor(2), "none": torch.zeros(0)} for _ in range(3)]
    stack = DenseStack(set_of(path))
    assert stack.policies == {"a": "constant", "n": "not floating", "none": "constant"}
    assert stack.groups == ("all",)
    assert stack.gram().tolist() == np.zeros((1, 3, 3)).tolist()
    result = merged(stack, np.array([2.0, 3.0, 4.0]))
    assert torch.equal(result["a"], torch.ones(3))


def test_dtypes_of_checkpoints_come_back() -> None:
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
    path = [{str(kind): value["c"].reshape(1).to(kind) for kind in kinds} for value in walk(3, {"c": ()}, step=1.0)]
    result = merged(DenseStack(set_of(path)), np.array([0.5, -0.5, 1.0]))
    for kind in kinds:
        expected = sum(a * one[str(kind)].double() for a, one in zip((0.5, -0.5, 1.0), path, strict=True))
        assert result[str(kind)].dtype == kind
        tolerance = {torch.float64: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}.get(kind, 0.1)
        torch.testing.assert_close(result[str(kind)].double(), expected, rtol=tolerance, atol=tolerance)


def test_tensors_that_are_no_blocks_of_memory() -> None:
    path = [
        {"t": one["a.weight"].T, "v": one["b.weight"][::2, 1:4].requires_grad_()} for one in walk(3, SHAPES, seed=4)
    ]
    alpha = np.array([0.25, 1.0, -0.25])
    result = merged(DenseStack(set_of(path)), alpha)
    for name in path[0]:
        torch.testing.assert_close(result[name].double(), exact(path, alpha, name).detach(), rtol=0, atol=1e-5)


def test_a_low_precision_of_products_elsewhere_does_not_reach_the_merge() -> None:
    stack = DenseStack(set_of(PATH))
    expected = merged(stack, SIGNED)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        found = merged(stack, SIGNED)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert all(torch.equal(found[name], expected[name]) for name in SHAPES)


def test_coefficients_of_another_shape_are_refused() -> None:
    stack = DenseStack(set_of(PATH), SpaceSettings(width=2))
    for shape in [(3, 1, COUNT), (1, 2, COUNT), (1, 1, COUNT - 1)]:
        with pytest.raises(ValueError, match="expected at most 2 x 1 groups x 6 checkpoints"):
            stack.prepare(np.zeros(shape))
    with pytest.raises(ValueError, match="row 1 holds no candidate"):
        stack.tensors(1)


def test_the_caller_may_change_its_coefficients_afterwards() -> None:
    stack = DenseStack(set_of(PATH))
    alpha = np.eye(COUNT)[:1, None].copy()
    stack.prepare(alpha)
    alpha[:] = 0.5
    assert torch.equal(stack.tensors(0)["a.weight"], PATH[0]["a.weight"])


def test_the_fingerprint_is_that_of_the_content() -> None:
    digest = hashlib.sha256()
    for step, one in enumerate(PATH, start=1):
        digest.update(f"{step}".encode())
        for name in sorted(one):
            digest.update(f"{name} {list(SHAPES[name])} float32".encode() + one[name].numpy().tobytes())
    assert DenseStack(set_of(PATH)).fingerprint == digest.hexdigest()
