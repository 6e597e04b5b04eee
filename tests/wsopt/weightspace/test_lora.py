from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wsopt.checkpoints import CheckpointSet, LoraAdapter, LoraFactors, SafetensorsReader, write_tensors
from wsopt.types import FloatArray
from wsopt.weightspace import LoraStack, SpaceSettings, open_space

LORA = Path(__file__).parents[2] / "data" / "formats" / "lora"
UNET = load_file(LORA / "base_unet" / "diffusion_pytorch_model.safetensors")
RUN = [LORA / "run" / f"checkpoint-{step}" / "adapter_model.safetensors" for step in (500, 1000, 1500, 2000)]
SIGNED = np.array([1.5, -0.9, 1.1, -0.7])
COUNT = 5
SHAPES = {"net.0.weight": (12, 10), "net.2.weight": (6, 12), "net.conv.weight": (6, 4, 3, 3)}
FORMS = ["dense", "factored", "auto"]


class Model(nn.Module):
    """A network whose adapted weights have the names and shapes of a state dict."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = {name.replace(".", "/"): name for name in weights}
        for flat, name in self._names.items():
            self.register_parameter(flat, nn.Parameter(weights[name].clone()))

    def state_dict(self, *_: object, **__: object) -> dict[str, Tensor]:  # type: ignore[override]
        return {name: self.get_parameter(flat).detach() for flat, name in self._names.items()}


def open_files(paths: list[Path]) -> CheckpointSet:
    reader = SafetensorsReader()
    snapshots = tuple(reader.scan(path)[0] for path in paths)
    return CheckpointSet(snapshots, tuple(range(1, len(paths) + 1)), snapshots[0].tensors)


def draw(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=generator)


@pytest.fixture(scope="module")
def base() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {**SHAPES, "net.0.bias": (12,)}
    return {name: draw(shape, generator) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def adapters() -> list[LoraAdapter]:
    """A drifting run: ranks differ between checkpoints and modules, and so do the scales."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for index in range(COUNT):
        modules = {}
        for place, (name, (out, *inside)) in enumerate(SHAPES.items()):
            rank = 2 + (index + place) % 3
            a = draw((rank, *inside), generator)
            b = draw((out, rank, *([1] * (len(inside) - 1))), generator)
            modules[name] = LoraFactors(name, a, b, scale=0.5 + index)
        found.append(LoraAdapter(modules))
    return found


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, adapters: list[LoraAdapter]) -> CheckpointSet:
    folder = tmp_path_factory.mktemp("lora")
    paths = []
    for index, adapter in enumerate(adapters):
        tensors = {}
        for module in adapter.modules.values():
            flat = f"lora_unet_{module.module.replace('.', '_')}"
            tensors[f"{flat}.lora_down.weight"] = module.a
            tensors[f"{flat}.lora_up.weight"] = module.b
            tensors[f"{flat}.alpha"] = torch.tensor(module.scale * module.rank)
        paths.append(folder / f"{index + 1}.safetensors")
        save_file(tensors, paths[-1])
    return open_files(paths)


@pytest.fixture(scope="module", params=FORMS)
def stack(request: pytest.FixtureRequest, checkpoints: CheckpointSet, base: dict[str, Tensor]) -> LoraStack:
    return LoraStack(checkpoints, SpaceSettings(width=4, lora=request.param), base=base)


def deltas(adapters: list[LoraAdapter], name: str) -> Tensor:
    """``[K, P]`` float64, each from its own product."""
    found = []
    for adapter in adapters:
        one = adapter.modules[name]
        found.append((one.scale * one.b.double().flatten(1) @ one.a.double().flatten(1)).flatten())
    return torch.stack(found)


def exact(adapters: list[LoraAdapter], base: dict[str, Tensor], alpha: FloatArray) -> dict[str, Tensor]:
    return {
        name: base[name].double() + (torch.from_numpy(alpha) @ deltas(adapters, name)).view(shape)
        for name, shape in SHAPES.items()
    }


def merge(stack: LoraStack, alpha: FloatArray, base: dict[str, Tensor], row: int = 0) -> dict[str, Tensor]:
    stack.prepare(np.asarray(alpha)[None, None], (row,))
    model = Model(base)
    stack.write(row, model)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_open_space_chooses_by_kind(checkpoints: CheckpointSet, base: dict[str, Tensor]) -> None:
    space = open_space(checkpoints, base=base)
    assert isinstance(space, LoraStack)
    assert space.policies == dict.fromkeys(SHAPES, "combine")
    assert (space.steps, space.groups) == ((1, 2, 3, 4, 5), ("all",))


@settings(max_examples=30)
@given(alpha=st.lists(st.floats(-5, 5), min_size=COUNT, max_size=COUNT))
def test_merge_is_base_and_the_weighted_sum(
    stack: LoraStack, adapters: list[LoraAdapter], base: dict[str, Tensor], alpha: list[float]
) -> None:
    merged = merge(stack, np.array(alpha), base)
    for name, value in exact(adapters, base, np.array(alpha)).items():
        bound = 1e-5 * (1 + np.abs(alpha).sum()) * 10
        assert (merged[name].double() - value).abs().max() <= bound
    assert torch.equal(merged["net.0.bias"], base["net.0.bias"])


@pytest.mark.parametrize("form", FORMS)
def test_agrees_with_pefts_cat(form: str) -> None:
    space = LoraStack(open_files(RUN), SpaceSettings(width=2, lora=form), base=UNET)  # type: ignore[arg-type]
    merged = merge(space, SIGNED, UNET)
    for name, delta in load_file(LORA / "run.signed.expected.safetensors").items():
        torch.testing.assert_close(merged[name], UNET[name] + delta, rtol=1e-5, atol=1e-6)
    space.prepare(SIGNED[None, None])
    for name, module in space.adapter(0).modules.items():
        expected = load_file(LORA / "run.signed.expected.safetensors")[name]
        torch.testing.assert_close(module.delta(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [np.full(4, 0.25), SIGNED])
@pytest.mark.parametrize("form", FORMS)
def test_identical_adapters_give_the_adapter_back(form: str, alpha: FloatArray) -> None:
    space = LoraStack(open_files(RUN[:1] * 4), SpaceSettings(width=2, lora=form), base=UNET)  # type: ignore[arg-type]
    merged = merge(space, alpha, UNET)
    for name, delta in load_file(LORA / "run.identical.expected.safetensors").items():
        torch.testing.assert_close(merged[name], UNET[name] + delta, rtol=1e-5, atol=1e-6)
    assert np.abs(space.gram()).max() < 1e-10
    assert (np.diagonal(space.gram(), axis1=1, axis2=2) >= 0).all()


def test_averaging_the_factors_apart_is_another_thing() -> None:
    merged = merge(LoraStack(open_files(RUN), SpaceSettings(width=1), base=UNET), SIGNED, UNET)
    parts = [load_file(path) for path in RUN]
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    wanted = load_file(LORA / "run.signed.expected.safetensors")[f"{name}.weight"]
    mean = {}
    for factor in "AB":
        stored = [part[f"base_model.model.{name}.lora_{factor}.weight"] for part in parts]
        mean[factor] = torch.einsum("k,kij->ij", torch.from_numpy(SIGNED).float(), torch.stack(stored))
    apart = 2.0 * mean["B"] @ mean["A"]
    together = merged[f"{name}.weight"] - UNET[f"{name}.weight"]
    # measured: 3e-7 and 2.5% for these four, which differ by a few percent
    assert float((together - wanted).norm() / wanted.norm()) < 1e-5
    assert float((apart - wanted).norm() / wanted.norm()) > 0.02


def test_dense_and_factored_agree(checkpoints: CheckpointSet, base: dict[str, Tensor]) -> None:
    alpha = np.array([2.0, -1.5, 0.0, 0.7, -0.2])
    dense, factored = (
        LoraStack(checkpoints, SpaceSettings(width=3, lora=form), base=base) for form in ("dense", "factored")
    )
    one, other = merge(dense, alpha, base), merge(factored, alpha, base)
    assert set(dense.forms.values()) == {"dense"}
    assert set(factored.forms.values()) == {"factored"}
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dense.gram(), factored.gram(), rtol=1e-5)
    for space in (dense, factored):
        space.prepare(alpha[None, None])
    for name, tensor in dense.tensors(0).items():
        assert torch.equal(tensor, factored.tensors(0)[name])


def test_permutation_changes_nothing_beyond_rounding(checkpoints: CheckpointSet, base: dict[str, Tensor]) -> None:
    alpha, order = np.array([2.0, -1.5, 0.3, 0.7, -0.5]), [3, 1, 4, 0, 2]
    paths = [checkpoints.paths[i] for i in order]
    settings = SpaceSettings(width=2)
    one = merge(LoraStack(checkpoints, settings, base=base), alpha, base)
    other = merge(LoraStack(open_files(paths), settings, base=base), alpha[order], base)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("index", range(COUNT))
def test_one_hot_gives_the_files_own_tensors(stack: LoraStack, checkpoints: CheckpointSet, index: int) -> None:
    stack.prepare(np.eye(COUNT)[index][None, None], (1,))
    own = load_file(checkpoints.paths[index])
    found = stack.tensors(1)
    assert found.keys() == own.keys()
    for name, tensor in own.items():
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("alpha", [np.eye(4)[2], SIGNED], ids=["one-hot", "signed"])
def test_tensors_and_metadata_make_a_file_that_reads_as_the_candidate(tmp_path: Path, alpha: FloatArray) -> None:
    space = LoraStack(open_files(RUN), SpaceSettings(width=2), base=UNET)
    wanted = merge(space, alpha, UNET)
    path = tmp_path / "merged-7.safetensors"
    write_tensors(path, {name: t.contiguous() for name, t in space.tensors(0).items()}, space.metadata(0))
    again = LoraStack(open_files([path, path]), SpaceSettings(width=2), base=UNET)
    assert again.warnings == ()
    for name, value in merge(again, np.array([1.0, 0.0]), UNET).items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=1e-6)


def test_combined_rank_leaves_out_coefficients_of_zero(stack: LoraStack, adapters: list[LoraAdapter]) -> None:
    stack.prepare(np.array([[[0.5, 0.0, -2.0, 0.0, 0.0]], [[0.0] * 5]]))
    for name, module in stack.adapter(0).modules.items():
        assert module.rank == adapters[0].modules[name].rank + adapters[2].modules[name].rank
    assert all(not module.delta().any() for module in stack.adapter(1).modules.values())


def test_writing_does_not_accumulate(stack: LoraStack, base: dict[str, Tensor]) -> None:
    generator = np.random.default_rng(5)
    model = Model(base)
    candidates = generator.normal(size=(4, 1, COUNT))
    stack.prepare(candidates)
    stack.write(2, model)
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for turn in range(1000):
        stack.write(turn % 4, model)
    stack.write(2, model)
    assert all(torch.equal(first[name], tensor) for name, tensor in model.state_dict().items())


def test_the_stack_keeps_its_own_copy_of_the_base(checkpoints: CheckpointSet, base: dict[str, Tensor]) -> None:
    model = Model(base)
    space = LoraStack(checkpoints, SpaceSettings(width=1), base=model.state_dict())
    space.prepare(np.ones((1, 1, COUNT)))
    space.write(0, model)
    space.prepare(np.zeros((1, 1, COUNT)))
    space.write(0, model)
    assert all(torch.equal(base[name], tensor) for name, tensor in model.state_dict().items())


def test_a_candidates_bits_do_not_depend_on_its_neighbours(stack: LoraStack, base: dict[str, Tensor]) -> None:
    alpha = np.random.default_rng(2).normal(size=(4, 1, COUNT))
    stack.prepare(alpha)
    model = Model(base)
    stack.write(3, model)
    alone = merge(stack, alpha[3, 0], base, row=3)
    assert all(torch.equal(tensor, alone[name]) for name, tensor in model.state_dict().items())


def test_gram_against_dense_differences(stack: LoraStack, adapters: list[LoraAdapter]) -> None:
    expected = np.zeros((COUNT, COUNT))
    for name in SHAPES:
        dense = deltas(adapters, name)
        expected += ((dense - dense[0]) @ (dense - dense[0]).T).numpy()
    np.testing.assert_allclose(stack.gram()[0], expected, rtol=1e-5, atol=1e-6)
    assert not stack.gram()[0, 0].any()


def test_layer_groups(checkpoints: CheckpointSet, adapters: list[LoraAdapter], base: dict[str, Tensor]) -> None:
    seen: dict[str, tuple[int, ...]] = {}

    def grouping(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
        seen.update(shapes)
        return {name: "conv" if "conv" in name else "linear" for name in shapes}

    space = LoraStack(checkpoints, SpaceSettings(width=2), grouping, base)
    assert seen == SHAPES
    assert space.groups == ("linear", "conv")
    alpha = np.random.default_rng(4).normal(size=(2, COUNT))
    space.prepare(alpha[None])
    model = Model(base)
    space.write(0, model)
    for name, value in model.state_dict().items():
        if name in SHAPES:
            expected = exact(adapters, base, alpha[int("conv" in name)])[name]
            torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-4)
    assert space.gram().shape == (2, COUNT, COUNT)
    np.testing.assert_allclose(space.gram().sum(axis=0), LoraStack(checkpoints, base=base).gram()[0], rtol=1e-9)
    with pytest.raises(ValueError, match=r"\[1, 1, 5\], expected at most 2 x 2 groups x 5"):
        space.prepare(alpha[None, :1])
