from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from wsopt.checkpoints import SafetensorsReader, open_checkpoints
from wsopt.errors import CheckpointError
from wsopt.types import FloatArray
from wsopt.weightspace import DenseStack, SpaceSettings

COUNT = 7


def write(folder: Path, **extra: torch.Tensor) -> Path:
    generator = torch.Generator().manual_seed(1)
    folder.mkdir(exist_ok=True)
    for step in range(1, COUNT + 1):
        tensors = {
            "a.weight": torch.randn(5, 4, generator=generator),
            "a.bias": torch.randn(5, generator=generator),
            "tiny": torch.randn(3, generator=generator).half(),
            "frozen": torch.tensor([0.1, 0.2, 0.3]),
            "count": torch.tensor(3),
        }
        save_file(tensors | extra, folder / f"{step}.safetensors")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("set") / "checkpoints")


@pytest.fixture(scope="module")
def stack(folder: Path) -> DenseStack:
    return DenseStack(open_checkpoints(folder, [SafetensorsReader()]), SpaceSettings(width=4))


def merge(stack: DenseStack, alpha: FloatArray, row: int = 0) -> dict[str, torch.Tensor]:
    stack.prepare(alpha[None, None], (row,))
    return {name: tensor.clone() for name, tensor in stack.tensors(row).items()}


def reference(folder: Path, alpha: FloatArray) -> dict[str, torch.Tensor]:
    """Sum of coefficient times tensor in float64."""
    files = [load_file(folder / f"{step}.safetensors") for step in range(1, COUNT + 1)]
    return {
        name: sum((float(a) * file[name].double() for a, file in zip(alpha, files, strict=True)), torch.zeros(()))
        for name in ("a.weight", "a.bias", "tiny")
    }


def coefficients() -> st.SearchStrategy[FloatArray]:
    values = st.lists(st.floats(-5, 5), min_size=COUNT - 1, max_size=COUNT - 1)
    return values.map(lambda rest: np.array([1.0 - sum(rest), *rest]))


@settings(max_examples=50)
@given(alpha=coefficients())
def test_merge_is_the_weighted_sum(stack: DenseStack, folder: Path, alpha: FloatArray) -> None:
    merged, expected = merge(stack, alpha), reference(folder, alpha)
    for name, value in expected.items():
        tolerance = 2e-3 if name == "tiny" else 1e-6
        bound = tolerance * (1 + np.abs(alpha).sum()) * 4
        assert (merged[name].double() - value).abs().max() <= bound, name


@pytest.mark.parametrize("index", range(COUNT))
def test_one_hot_copies_that_checkpoint_bit_for_bit(stack: DenseStack, folder: Path, index: int) -> None:
    merged = merge(stack, np.eye(COUNT)[index])
    for name, tensor in load_file(folder / f"{index + 1}.safetensors").items():
        assert torch.equal(merged[name], tensor), name
        assert merged[name].dtype == tensor.dtype


@settings(max_examples=30)
@given(alpha=coefficients(), others=st.lists(coefficients(), min_size=3, max_size=3))
def test_neighbours_do_not_change_a_row(stack: DenseStack, alpha: FloatArray, others: list[FloatArray]) -> None:
    alone = merge(stack, alpha, row=2)
    stack.prepare(np.stack([others[0], others[1], alpha, others[2]])[:, None])
    together = stack.tensors(2)
    for name, tensor in alone.items():
        assert torch.equal(tensor, together[name]), name


def test_permuting_checkpoints_with_their_coefficients_changes_nothing(folder: Path, tmp_path: Path) -> None:
    order = [3, 0, 6, 2, 5, 1, 4]
    for place, source in enumerate(order):
        (tmp_path / f"{place + 1}.safetensors").write_bytes((folder / f"{source + 1}.safetensors").read_bytes())
    permuted = DenseStack(open_checkpoints(tmp_path, [SafetensorsReader()]), SpaceSettings(width=4))
    alpha = np.array([0.5, -1.0, 2.0, 0.25, -0.75, 0.5, -0.5])
    plain = DenseStack(open_checkpoints(folder, [SafetensorsReader()]), SpaceSettings(width=4))
    first, second = merge(plain, alpha), merge(permuted, alpha[order])
    for name in ("a.weight", "a.bias"):
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-5)


def test_constant_and_integer_tensors_are_copied_from_the_anchor(stack: DenseStack) -> None:
    combined = {"a.bias": "combine", "a.weight": "combine", "tiny": "combine"}
    assert stack.policies == {**combined, "frozen": "constant", "count": "not floating"}
    merged = merge(stack, np.array([3.0, -2.0, 0, 0, 0, 0, 0.5]))  # does not sum to 1
    assert torch.equal(merged["frozen"], torch.tensor([0.1, 0.2, 0.3]))
    assert merged["count"].item() == 3


def test_an_integer_tensor_that_differs_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    tensors = load_file(tmp_path / "4.safetensors") | {"count": torch.tensor(4)}
    save_file(tensors, tmp_path / "4.safetensors")
    with pytest.raises(CheckpointError, match=r"4\.safetensors: tensor count is \[\] int64 and differs"):
        DenseStack(open_checkpoints(tmp_path, [SafetensorsReader()]))


def test_gram_is_that_of_the_differences(stack: DenseStack, folder: Path) -> None:
    flat = np.stack(
        [
            np.concatenate(
                [
                    load_file(folder / f"{i + 1}.safetensors")[n].double().numpy().ravel()
                    for n in ("a.weight", "a.bias", "tiny")
                ]
            )
            for i in range(COUNT)
        ]
    )
    differences = flat - flat[0]
    np.testing.assert_allclose(stack.gram()[0], differences @ differences.T, atol=1e-5)


def test_write_fills_the_model_in_place_and_refuses_another(stack: DenseStack) -> None:
    class Net(nn.Module):
        frozen: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 5)
            self.tiny = nn.Parameter(torch.zeros(3, dtype=torch.float16))
            self.register_buffer("frozen", torch.zeros(3))
            self.register_buffer("count", torch.tensor(0))

    with torch.random.fork_rng():
        model = Net()
        other = nn.Linear(4, 5)
    pointer = model.a.weight.data_ptr()
    alpha = np.full(COUNT, 1 / COUNT)
    expected = merge(stack, alpha)
    stack.write(0, model)
    assert model.a.weight.data_ptr() == pointer
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name])
    with pytest.raises(CheckpointError, match="the weights do not fit the network"):
        stack.write(0, other)


def test_the_fingerprint_covers_every_byte_names_and_steps(stack: DenseStack, folder: Path, tmp_path: Path) -> None:
    def fingerprint(change: Callable[[Path], None]) -> str:
        copy = tmp_path / change.__name__
        shutil.copytree(folder, copy)
        change(copy)
        return DenseStack(open_checkpoints(copy, [SafetensorsReader()])).fingerprint

    def nothing(copy: Path) -> None:
        pass

    def one_bit(copy: Path) -> None:
        tensors = load_file(copy / "4.safetensors")
        tensors["a.bias"][2] = torch.nextafter(tensors["a.bias"][2], torch.tensor(9.0))
        save_file(tensors, copy / "4.safetensors")

    def another_step(copy: Path) -> None:
        (copy / "7.safetensors").rename(copy / "8.safetensors")

    assert fingerprint(nothing) == stack.fingerprint
    assert len({fingerprint(one_bit), fingerprint(another_step), stack.fingerprint}) == 3
