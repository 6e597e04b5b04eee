from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wsopt.checkpoints import CheckpointSet, SafetensorsReader, Stream, read_adapter, write_adapter
from wsopt.errors import CheckpointError, InputError
from wsopt.types import WeightsFile
from wsopt.weightspace import LoraStack, SpaceSettings, open_space, truncate

OUT, IN, COUNT = 24, 20, 4


class Model(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.q = nn.Linear(IN, OUT, dtype=dtype)
        self.conv = nn.Conv2d(4, 6, 3, dtype=dtype)
        generator = torch.Generator().manual_seed(7)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, generator=generator)


def tensors(index: int, rank: int = 2, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """One checkpoint in the names of diffusers."""
    generator = torch.Generator().manual_seed(100 + index)
    shapes = {
        "unet.q.lora_A.weight": (rank, IN),
        "unet.q.lora_B.weight": (OUT, rank),
        "unet.conv.lora_A.weight": (rank, 4, 3, 3),
        "unet.conv.lora_B.weight": (6, rank, 1, 1),
    }
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def files(folder: Path, *states: dict[str, Tensor]) -> CheckpointSet:
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for step, state in enumerate(states, 1):
        save_file(state, folder / f"{step}.safetensors")
        found += SafetensorsReader().scan(folder / f"{step}.safetensors")
    return CheckpointSet(tuple(found), tuple(range(1, len(states) + 1)), found[0].tensors)


def run(folder: Path, **options: Any) -> CheckpointSet:
    return files(folder, *(tensors(index, **options) for index in range(COUNT)))


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def delta(state: dict[str, Tensor], name: str) -> Tensor:
    a, b = (state[f"unet.{name}.lora_{factor}.weight"].double().flatten(1) for factor in "AB")
    return b @ a


def test_ranks_may_differ_between_checkpoints(tmp_path: Path) -> None:
    states = [tensors(0, 2), tensors(1, 5), tensors(2, 1)]
    model, alpha = Model(), np.array([0.5, -1.0, 2.0])
    before = weights(model)
    space = LoraStack(files(tmp_path, *states), SpaceSettings(width=1, lora="factored"), base=before)
    space.prepare(alpha[None, None])
    space.write(0, model)
    expected = sum((a * delta(s, "q") for a, s in zip(alpha, states, strict=True)), torch.zeros(OUT, IN).double())
    torch.testing.assert_close(model.q.weight.double() - before["q.weight"].double(), expected, rtol=1e-4, atol=1e-4)
    assert space.adapter(0).modules["q.weight"].rank == 8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["dense", "factored"])
def test_half_precision_is_summed_in_float32(tmp_path: Path, dtype: torch.dtype, form: Any) -> None:
    model, alpha = Model(dtype), np.array([3.0, -2.5, 1.5, -1.0])
    before = weights(model)
    space = LoraStack(run(tmp_path, dtype=dtype), SpaceSettings(width=1, lora=form), base=before)
    space.prepare(alpha[None, None])
    space.write(0, model)
    states = [tensors(index, dtype=dtype) for index in range(COUNT)]
    change = sum((a * delta(s, "q") for a, s in zip(alpha, states, strict=True)), torch.zeros(OUT, IN).double())
    expected = before["q.weight"].double() + change
    step = torch.finfo(dtype).eps
    # one rounding, of the sum to the network's dtype
    assert ((model.q.weight.double() - expected).abs() <= expected.abs() * step / 2 * 1.01 + 1e-5).all()


def test_half_precision_files_are_held_in_half_precision(tmp_path: Path) -> None:
    full, half = (
        LoraStack(run(tmp_path / str(dtype), dtype=dtype), SpaceSettings(width=1, lora="factored"))
        for dtype in (torch.float32, torch.float16)
    )
    diagonals = 2 * COUNT * 2 * 4  # two weights of rank 2, float32, width 1
    assert (full.nbytes - diagonals) == 2 * (half.nbytes - diagonals)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dense_differences_follow_the_dtype_asked_for(tmp_path: Path, dtype: Any) -> None:
    alpha = np.array([0.5, -1.0, 1.2, 0.3])
    exact, half = (
        LoraStack(run(tmp_path), SpaceSettings(width=1, lora="dense", dtype=one), base=Model().state_dict())
        for one in ("float32", dtype)
    )
    changes = []
    for space in (exact, half):
        space.prepare(alpha[None, None])
        model = Model()
        before = weights(model)
        space.write(0, model)
        changes.append(model.q.weight.detach() - before["q.weight"])
    error = float((changes[1] - changes[0]).norm() / changes[0].norm())
    assert 0.0 < error < 0.005
    assert exact.nbytes - half.nbytes == (COUNT - 1) * (OUT * IN + 6 * 36) * 2


def test_auto_takes_the_form_of_fewer_bytes(tmp_path: Path) -> None:
    low, high = (LoraStack(run(tmp_path / str(rank), rank=rank), SpaceSettings(width=1)) for rank in (1, 19))
    assert low.forms["q.weight"] == "factored"
    assert high.forms == {"q.weight": "dense", "conv.weight": "dense"}
    for space in (low, high):
        forms: list[Any] = ["dense", "factored"]
        both = [LoraStack(space.checkpoints, SpaceSettings(width=1, lora=form)).nbytes for form in forms]
        assert space.nbytes <= min(both)


def test_base_weights_count_and_only_the_adapted_are_kept(tmp_path: Path) -> None:
    without, having = LoraStack(run(tmp_path)), LoraStack(run(tmp_path), base=Model().state_dict())
    assert having.nbytes - without.nbytes == 4 * (OUT * IN + 6 * 4 * 9)


def test_without_a_base_nothing_can_be_written(tmp_path: Path) -> None:
    space = LoraStack(run(tmp_path), SpaceSettings(width=1))
    space.prepare(np.full((1, 1, COUNT), 0.25))
    assert space.gram().shape == (1, COUNT, COUNT)
    assert space.adapter(0).modules["q.weight"].rank == 2 * COUNT
    with pytest.raises(CheckpointError, match="base model, which is unknown here"):
        space.write(0, Model())
    with pytest.raises(CheckpointError, match="base model, which is unknown here"):
        space.write_file(WeightsFile(tmp_path / "1.safetensors"), Model())


def test_unknown_alpha_is_a_warning(tmp_path: Path) -> None:
    (warning,) = LoraStack(run(tmp_path)).warnings
    assert "alpha of q.weight" in warning or "alpha of conv.weight" in warning


def test_metadata_say_no_alpha_that_is_unknown_or_said_already(tmp_path: Path) -> None:
    silent, telling = (
        LoraStack(files(tmp_path / name, tensors(0) | alpha, tensors(1) | alpha), SpaceSettings(width=2))
        for name, alpha in (("a", {}), ("b", {f"unet.{m}.alpha": torch.tensor(4.0) for m in ("q", "conv")}))
    )
    for space in (silent, telling):
        space.prepare(np.array([[[1.0, 0.0]], [[0.5, 0.5]]]))
        assert space.metadata(0) == {"format": "pt"}
        assert "lora_adapter_metadata" in space.metadata(1)
    torch.testing.assert_close(
        telling.adapter(1).modules["q.weight"].delta(), 2.0 * silent.adapter(1).modules["q.weight"].delta()
    )


def test_factors_are_never_combined_apart_whatever_the_stream_is_called(tmp_path: Path) -> None:
    found = run(tmp_path)
    renamed = replace(found, snapshots=tuple(replace(one, stream=Stream("ema", 0.99)) for one in found.snapshots))
    assert renamed.kind == "ema"
    assert isinstance(open_space(renamed), LoraStack)


def test_a_row_without_a_candidate(tmp_path: Path) -> None:
    space = LoraStack(run(tmp_path), SpaceSettings(width=2), base=Model().state_dict())
    for use in (space.tensors, space.adapter, space.metadata, lambda row: space.write(row, Model())):
        with pytest.raises(ValueError, match="row 1 holds no candidate"):
            use(1)


def other(change: dict[str, Tensor | None]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in (tensors(1) | change).items() if tensor is not None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"unet.q.lora_A.weight": None, "unet.q.lora_B.weight": None},
            r"2\.safetensors does not adapt q\.weight, .*1\.safetensors does",
        ),
        (
            {"unet.k.lora_A.weight": torch.ones(1, 3), "unet.k.lora_B.weight": torch.ones(3, 1)},
            r"1\.safetensors does not adapt k\.weight, .*2\.safetensors does",
        ),
        ({"unet.q.lora_A.weight": torch.ones(2, 7)}, r"2\.safetensors: the factors of q\.weight give \[24, 7\]"),
        (
            {"unet.q.alpha": torch.tensor(4.0)},
            r"1\.safetensors does not say alpha of q\.weight, .*2\.safetensors does",
        ),
        ({"unet.q.lora_magnitude_vector": torch.ones(OUT)}, r"2\.safetensors: .* DoRA"),
    ],
)
def test_checkpoints_that_do_not_belong_together(
    tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        LoraStack(files(tmp_path, tensors(0), other(change)))


def test_networks_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"adapts (q|conv)\.weight, which the base model lacks"):
        LoraStack(run(tmp_path), base={"x.weight": torch.ones(2)})
    whole = {"q.weight": torch.ones(OUT, IN, dtype=torch.int8), "conv.weight": torch.ones(6, 4, 3, 3)}
    with pytest.raises(CheckpointError, match=r"q\.weight is torch\.int8"):
        LoraStack(run(tmp_path), base=whole)
    space = LoraStack(run(tmp_path), SpaceSettings(width=1), base=Model().state_dict())
    space.prepare(np.ones((1, 1, COUNT)))
    with pytest.raises(CheckpointError, match=r"adapt conv\.weight.* the network lacks it|q\.weight.*lacks it"):
        space.write(0, nn.Linear(2, 2))


@pytest.mark.parametrize("options", [{"memory": "mapped"}, {"devices": ("cpu", "cuda:0")}])
def test_settings_that_cannot_be_followed(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=rf"weightspace\.{next(iter(options))} = "):
        LoraStack(run(tmp_path), SpaceSettings(**options))


def test_fingerprint_sees_every_byte_and_every_scale(tmp_path: Path) -> None:
    def fingerprint(name: str, change: dict[str, Tensor | None]) -> str:
        alpha = {"unet.q.alpha": torch.tensor(2.0)}
        return LoraStack(files(tmp_path / name, tensors(0) | alpha, other({**alpha, **change}))).fingerprint

    bit = tensors(1)["unet.q.lora_A.weight"].clone()
    bit[0, 0] = torch.nextafter(bit[0, 0], torch.tensor(9.0))
    found = [
        fingerprint("a", {}),
        fingerprint("b", {"unet.q.lora_A.weight": bit}),
        fingerprint("c", {"unet.q.alpha": torch.tensor(3.0)}),
    ]
    assert fingerprint("again", {}) == found[0]
    assert len(set(found)) == 3


def test_an_ema_file_of_another_rank(tmp_path: Path) -> None:
    model = Model()
    before = weights(model)
    alpha = {"unet.q.alpha": torch.tensor(2.0)}
    space = LoraStack(files(tmp_path, tensors(0) | alpha, tensors(1) | alpha), base=before)
    ema = tensors(9, rank=5) | {"unet.q.alpha": torch.tensor(10.0)}
    save_file(ema, tmp_path / "ema.safetensors")
    target = WeightsFile(tmp_path / "ema.safetensors")
    assert all(torch.equal(ema[name], tensor) for name, tensor in space.file_tensors(target).items())
    space.write_file(target, model)
    expected = before["q.weight"].double() + 2.0 * delta(ema, "q")
    torch.testing.assert_close(model.q.weight.double(), expected, rtol=1e-5, atol=1e-5)
    save_file({"unet.q.weight": torch.ones(2)}, tmp_path / "dense.safetensors")
    with pytest.raises(CheckpointError, match=r"dense\.safetensors holds no LoRA factors"):
        space.file_tensors(WeightsFile(tmp_path / "dense.safetensors"))
    save_file({name: t for name, t in ema.items() if ".q." in name}, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match=r"part\.safetensors does not adapt conv\.weight"):
        space.write_file(WeightsFile(tmp_path / "part.safetensors"), model)


@pytest.mark.parametrize("rank", [1, 3, 5, 8, 99])
def test_truncation_is_the_dense_svd_and_its_error_is_exact(tmp_path: Path, rank: int) -> None:
    space = LoraStack(run(tmp_path), SpaceSettings(width=1, lora="factored"))
    alpha = np.array([1.5, -0.9, 1.1, -0.7])
    adapter, error = truncate(space, alpha[None], rank)
    lost = whole = 0.0
    for name, module in adapter.modules.items():
        states = [tensors(index) for index in range(COUNT)]
        dense = sum((a * delta(s, name[:-7]) for a, s in zip(alpha, states, strict=True)), torch.zeros(()).double())
        left, values, right = torch.linalg.svd(dense, full_matrices=False)
        best = (left[:, :rank] * values[:rank]) @ right[:rank]
        torch.testing.assert_close(module.delta().flatten(1).double(), best, rtol=1e-4, atol=1e-4)
        missing = float((module.delta().flatten(1).double() - dense).norm())
        assert error.modules[name] == pytest.approx(missing / float(dense.norm()), rel=1e-4, abs=1e-6)
        assert module.rank == min(rank, 8, 6 if "conv" in name else 8)
        lost, whole = lost + missing**2, whole + float(dense.norm()) ** 2
    assert error.total == pytest.approx((lost / whole) ** 0.5, rel=1e-4, abs=1e-6)


def test_a_truncated_adapter_is_written_and_read(tmp_path: Path) -> None:
    space = LoraStack(run(tmp_path / "in"), SpaceSettings(width=1))
    adapter, _ = truncate(space, np.full((1, COUNT), 0.25), 3)
    write_adapter(tmp_path / "out", adapter, "peft")
    (snapshot,) = SafetensorsReader().scan(tmp_path / "out" / "adapter_model.safetensors")
    again = read_adapter(snapshot)
    for name, module in again.modules.items():
        assert torch.equal(module.delta(), adapter.modules[name].delta())
    assert {tensor.dtype for tensor in load_file(snapshot.path).values()} == {torch.float32}


def test_truncation_of_nothing_and_to_nothing(tmp_path: Path) -> None:
    space = LoraStack(run(tmp_path), SpaceSettings(width=1))
    adapter, error = truncate(space, np.zeros((1, COUNT)), 2)
    assert (error.total, set(error.modules.values())) == (0.0, {0.0})
    assert not any(module.delta().any() for module in adapter.modules.values())
    with pytest.raises(InputError, match="rank 0"):
        truncate(space, np.ones((1, COUNT)), 0)
