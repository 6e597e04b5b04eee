from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from wsopt.checkpoints import CheckpointSet
from wsopt.errors import CheckpointError, InputError
from wsopt.merge import MergeSettings, Recipe, StreamingMerger
from wsopt.progress import SilentProgress
from wsopt.types import FloatArray
from wsopt.weightspace import DenseStack, SpaceSettings

Opener = Callable[..., CheckpointSet]
FLOATING = ("block.weight", "block.bias", "head.wide", "head.scalar")


def recipe(checkpoints: CheckpointSet, values: FloatArray, **more: object) -> Recipe:
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    return Recipe("test", checkpoints.steps, rows, **more)  # type: ignore[arg-type]


def merged(checkpoints: CheckpointSet, plan: Recipe, chosen: MergeSettings | None = None) -> dict[str, Tensor]:
    merger = StreamingMerger(checkpoints, plan, chosen or MergeSettings())
    merger.run(SilentProgress())
    return {name: merger.tensor(name) for name in checkpoints.tensors}


def rewrite(folder: Path, index: int, **tensors: Tensor) -> None:
    path = sorted(folder.iterdir())[index]
    save_file(load_file(path) | {f"module.{name}": tensor for name, tensor in tensors.items()}, path)


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


VALUES = st.lists(st.floats(-4, 4), min_size=6, max_size=6)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=VALUES)
def test_it_is_the_weighted_sum(opened: Opener, values: list[float]) -> None:
    checkpoints = opened()
    result = merged(checkpoints, recipe(checkpoints, np.array(values)))
    for name in FLOATING:
        exact = sum(a * checkpoints.load(i)[name].double() for i, a in enumerate(values))
        assert isinstance(exact, Tensor)
        eps = torch.finfo(result[name].dtype).eps
        tiny = torch.finfo(result[name].dtype).smallest_normal
        assert bool(((result[name].double() - exact).abs() <= 0.51 * eps * exact.abs() + eps * tiny + 1e-12).all()), (
            name
        )


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=VALUES, to_one=st.booleans())
def test_it_agrees_with_the_resident_stack(opened: Opener, values: list[float], to_one: bool) -> None:
    checkpoints = opened()
    alpha = np.array(values)
    if to_one:
        alpha[0] += 1 - alpha.sum()
    stack = DenseStack(checkpoints, SpaceSettings(width=1))
    stack.prepare(alpha[None, None])
    resident, streamed = stack.tensors(0), merged(checkpoints, recipe(checkpoints, alpha))
    assert resident.keys() == streamed.keys()
    for name, tensor in resident.items():
        assert tensor.dtype == streamed[name].dtype
        if name in FLOATING:
            scale = np.abs(alpha).sum() + 1
            eps = max(torch.finfo(tensor.dtype).eps, torch.finfo(torch.float32).eps)
            assert float((tensor.double() - streamed[name].double()).abs().max()) <= 8 * eps * scale, name
        else:
            assert torch.equal(tensor, streamed[name]), name


@pytest.mark.parametrize("index", [0, 3, 5])
def test_one_hot_copies_every_bit(opened: Opener, folder: Path, index: int) -> None:
    rewrite(folder, index, **{"head.scalar": torch.tensor(-0.0), "count": torch.tensor(9)})
    checkpoints = opened()
    plan = recipe(checkpoints, np.eye(6)[index])
    assert StreamingMerger(checkpoints, plan, MergeSettings()).reads == (index,)
    result = merged(checkpoints, plan)
    for name, tensor in load_file(sorted(folder.iterdir())[index]).items():
        assert bits(result[name.removeprefix("module.")]) == bits(tensor)


def test_zero_coefficients_are_not_read(opened: Opener, folder: Path) -> None:
    checkpoints = opened()
    before = merged(checkpoints, recipe(checkpoints, np.array([0, 0.5, 0, 0.5, 0, 0])))
    for index in (0, 2, 4, 5):
        rewrite(folder, index, **{"head.scalar": torch.tensor(float("nan")), "count": torch.tensor(index)})
    after = merged(checkpoints, recipe(checkpoints, np.array([0, 0.5, 0, 0.5, 0, 0])))
    assert all(bits(before[name]) == bits(after[name]) for name in before)


def test_a_nan_in_a_file_that_is_read_is_named(opened: Opener, folder: Path) -> None:
    rewrite(folder, 2, **{"head.scalar": torch.tensor(float("nan"))})
    checkpoints = opened()
    with pytest.raises(CheckpointError, match=r"model_000030.*head\.scalar"):
        merged(checkpoints, recipe(checkpoints, np.full(6, 1 / 6)))


@pytest.mark.parametrize("total", [1.0, 0.9, 3.0, 0.0])
def test_constants_are_copied_whatever_the_sum(opened: Opener, total: float) -> None:
    checkpoints = opened()
    plan = recipe(checkpoints, total * np.array([0.3, -0.1, 0.2, 0.2, 0.2, 0.2]))
    merger = StreamingMerger(checkpoints, plan, MergeSettings())
    merger.run(SilentProgress())
    assert torch.equal(merger.tensor("frozen"), torch.tensor([0.1, 0.2, 0.3]))
    assert (merger.policies["frozen"] == "constant") == (total != 1.0)
    assert len(merger.reads) == 6


def test_a_tensor_that_is_constant_in_the_used_files_only_is_combined(opened: Opener, folder: Path) -> None:
    rewrite(folder, 5, frozen=torch.tensor([1.0, 1.0, 1.0]))
    checkpoints = opened()
    result = merged(checkpoints, recipe(checkpoints, np.array([0.5, 0.4, 0, 0, 0, 0])))
    assert torch.equal(result["frozen"], (0.9 * torch.tensor([0.1, 0.2, 0.3]).double()).float())


def test_float64_constants_keep_their_bits(opened: Opener, folder: Path) -> None:
    for index in range(6):
        rewrite(folder, index, precise=torch.tensor([0.1, 1 / 3], dtype=torch.float64))
    checkpoints = opened()
    result = merged(checkpoints, recipe(checkpoints, np.full(6, 1 / 6)))
    assert bits(result["precise"]) == bits(torch.tensor([0.1, 1 / 3], dtype=torch.float64))


def test_differing_integers_are_refused_or_copied(opened: Opener, folder: Path) -> None:
    rewrite(folder, 4, count=torch.tensor(4))
    rewrite(folder, 5, count=torch.tensor(5))
    checkpoints = opened()
    plan = recipe(checkpoints, np.array([0.5, 0.5, 0, 0, 1.0, -1.0]))
    with pytest.raises(CheckpointError, match=r"model_000050.*count.*--copy-from"):
        merged(checkpoints, plan)
    assert merged(checkpoints, plan, MergeSettings(copy_from="first"))["count"] == 3
    assert merged(checkpoints, plan, MergeSettings(copy_from="last"))["count"] == 5
    partial = recipe(checkpoints, np.array([0.5, 0.5, 0, 0, 0, 0]))
    assert merged(checkpoints, partial, MergeSettings(copy_from="last"))["count"] == 5


def test_running_statistics_are_combined_or_copied(opened: Opener, folder: Path) -> None:
    for index in range(6):
        mean, steps = torch.tensor([float(index)]), torch.tensor(10 * index)
        layer = {"bn.running_mean": mean, "bn.running_var": mean + 1, "bn.num_batches_tracked": steps}
        rewrite(folder, index, **layer)
    checkpoints = opened()
    plan = recipe(checkpoints, np.array([0.5, 0.5, 0, 0, 0, 0]))
    combined = merged(checkpoints, plan)
    assert combined["bn.running_mean"] == 0.5
    assert combined["bn.num_batches_tracked"] == 50
    copied = merged(checkpoints, plan, MergeSettings(batchnorm="copy"))
    assert copied["bn.running_mean"] == 5.0
    assert copied["bn.num_batches_tracked"] == 50


def test_negative_running_variances_are_raised_to_zero_as_in_the_resident_stack(opened: Opener, folder: Path) -> None:
    for index in range(6):
        statistic = torch.tensor([1.0 + index, 7.0 - index, 1.0], dtype=torch.float32)
        layer = {"bn.running_mean": -statistic, "bn.running_var": statistic, "bn.num_batches_tracked": torch.tensor(0)}
        rewrite(folder, index, **layer)
    checkpoints = opened()
    alpha = np.array([-1.0, 0, 0, 0, 0, 2.0])
    merger = StreamingMerger(checkpoints, recipe(checkpoints, alpha), MergeSettings())
    merger.run(SilentProgress())
    stack = DenseStack(checkpoints, SpaceSettings(width=1))
    stack.prepare(alpha[None, None])
    assert merger.tensor("bn.running_var").tolist() == stack.tensors(0)["bn.running_var"].tolist() == [11.0, 0.0, 1.0]
    assert merger.tensor("bn.running_mean").tolist() == [-11.0, 3.0, -1.0]
    assert merger.clamped == dict(stack.clamped(0)) == {"bn.running_var": 1}
    assert merged(checkpoints, recipe(checkpoints, alpha), MergeSettings(batchnorm="copy"))["bn.running_var"][1] == 2


def test_layer_groups(opened: Opener) -> None:
    checkpoints = opened()
    first, last = np.eye(6)[0], np.eye(6)[5]

    def grouping(shapes: object) -> dict[str, str]:
        assert isinstance(shapes, dict)
        return {name: name.split(".")[0] for name in shapes}

    plan = recipe(
        checkpoints,
        np.stack([last, first, first, first]),
        groups=("head", "block", "frozen", "empty"),
        grouping=grouping,
    )
    result = merged(checkpoints, plan)
    for name in FLOATING:
        assert bits(result[name]) == bits(checkpoints.load(0 if name.startswith("block") else 5)[name])
    short = recipe(checkpoints, np.stack([last, first]), groups=("head", "block"), grouping=grouping)
    with pytest.raises(InputError, match=r"tensor (frozen|empty|count) belongs"):
        StreamingMerger(checkpoints, short, MergeSettings())
    with pytest.raises(InputError, match="nothing says"):
        StreamingMerger(checkpoints, recipe(checkpoints, np.stack([last, first]), groups=("a", "b")), MergeSettings())


def test_another_dtype(opened: Opener) -> None:
    checkpoints = opened()
    plan = recipe(checkpoints, np.full(6, 1 / 6))
    wide, narrow = (merged(checkpoints, plan, MergeSettings(dtype=dtype)) for dtype in ("float32", "bfloat16"))
    assert {wide[name].dtype for name in FLOATING} == {torch.float32}
    assert {narrow[name].dtype for name in FLOATING} == {torch.bfloat16}
    assert wide["count"].dtype == narrow["count"].dtype == torch.int64
    exact = torch.stack([checkpoints.load(i)["block.bias"].double() for i in range(6)]).mean(dim=0)
    assert torch.equal(wide["block.bias"], exact.float())  # not rounded to float16 on the way


def test_what_the_dtype_cannot_hold_is_refused(opened: Opener) -> None:
    checkpoints = opened()
    with pytest.raises(InputError, match=r"block\.bias.*float16 cannot hold.*--dtype float32"):
        merged(checkpoints, recipe(checkpoints, np.array([1e6, 0, 0, 0, 0, -1e6 + 1])))


def test_chunks_of_large_tensors_meet(tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "large").mkdir()
    size = 3 * (1 << 18) + 5
    for step in (1, 2, 3):
        save_file({"w": torch.arange(size, dtype=torch.float32) * step}, tmp_path / f"large/{step}.safetensors")
    checkpoints = opened(tmp_path / "large")
    result = merged(checkpoints, recipe(checkpoints, np.array([2.0, -4.0, 3.0])))
    assert torch.equal(result["w"], 3 * torch.arange(size, dtype=torch.float32))
