"""The whole merge: checks, verification, metadata, memory, adapters."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from wsopt.checkpoints import CheckpointSet, DiffusersReader, SafetensorsReader, open_checkpoints, read_adapter
from wsopt.errors import InputError, WsoptError
from wsopt.memory import peak_bytes, reset_peak
from wsopt.merge import (
    Merged,
    MergeRequest,
    MergeSettings,
    Recipe,
    TensorFile,
    merge,
    parse_profile,
    plan_merge,
    profile_recipe,
)
from wsopt.progress import SilentProgress

FORMATS = Path(__file__).parents[2] / "data" / "formats"
Opener = Callable[..., CheckpointSet]


def request(checkpoints: CheckpointSet, text: str = "ema:0.95", **more: object) -> MergeRequest:
    recipe = profile_recipe(parse_profile(text), checkpoints.steps)
    return MergeRequest(checkpoints, recipe, **more)  # type: ignore[arg-type]


def run(asked: MergeRequest, out: Path) -> Merged:
    return merge(asked, out, SilentProgress())


@pytest.mark.parametrize("text", ["last", "single:30", "uniform", "ema:0.95", "ema-from-first:0.9", "power:0.1"])
@pytest.mark.parametrize("dtype", ["keep", "float32", "bfloat16", "float16"])
def test_every_profile_is_verified(opened: Opener, tmp_path: Path, text: str, dtype: str) -> None:
    checkpoints = opened()
    asked = request(checkpoints, text, verify=True, settings=MergeSettings(dtype=dtype))  # type: ignore[arg-type]
    out = tmp_path / "out" / "x.safetensors"
    done = run(asked, out)
    assert done.verification is not None
    assert done.verification.error <= 0.51 * done.verification.tolerance
    assert done.nbytes == out.stat().st_size
    assert load_file(out).keys() == checkpoints.tensors.keys()


def test_prefixes_are_kept_on_request(opened: Opener, tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "x.safetensors"
    run(request(opened(), keep_prefix=True, verify=True), out)
    assert load_file(out).keys() == load_file(next(folder.iterdir())).keys()


def test_the_bytes_are_repeatable_and_say_what_was_done(opened: Opener, tmp_path: Path, folder: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    checkpoints = opened()
    run(request(checkpoints), one)
    run(request(checkpoints, verify=True), two)
    assert one.read_bytes() == two.read_bytes()
    with safe_open(one, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    facts = json.loads(metadata["wsopt"])
    assert facts["profile"] == "ema:0.95"
    assert facts["steps"] == [10, 20, 30, 40, 50, 60]
    assert np.allclose(facts["coefficients"], request(checkpoints).recipe.values, rtol=0, atol=0)
    assert [source["file"] for source in facts["sources"]] == sorted(path.name for path in folder.iterdir())
    assert str(tmp_path) not in metadata["wsopt"]
    before = [source["digest"] for source in facts["sources"]]
    path = sorted(folder.iterdir())[2]
    save_file(load_file(path) | {"module.head.scalar": torch.tensor(0.5)}, path)
    run(request(opened(), full_digests=True, force=True), two)
    with safe_open(two, framework="pt") as file:
        sources = json.loads(file.metadata()["wsopt"])["sources"]
    assert [index for index, source in enumerate(sources) if source["digest"] != before[index]] == [2]
    assert all(len(source["sha256"]) == 64 for source in sources)


@pytest.mark.parametrize("name", ["head.scalar", "block.weight", "frozen", "count"])
@pytest.mark.parametrize("text", ["uniform", "last"])
def test_a_corrupted_file_is_not_kept(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    put = TensorFile.put

    def corrupt(self: TensorFile, written: str, tensor: Tensor) -> None:
        if written == name:
            flat = tensor.clone().reshape(-1)
            flat[-1] += 1 if tensor.dtype == torch.int64 else 1e-3 * flat[-1]
            tensor = flat.reshape(tensor.shape)
        put(self, written, tensor)

    monkeypatch.setattr(TensorFile, "put", corrupt)
    out = tmp_path / "out" / "x.safetensors"
    run(request(opened(), text), out)  # without verification nobody sees it
    former = out.read_bytes()
    with pytest.raises(WsoptError, match=f"verification failed: tensor {name} is") as caught:
        run(request(opened(), text, verify=True, force=True), out)
    assert caught.value.exit_code == 1
    assert out.read_bytes() == former
    assert [one.name for one in out.parent.iterdir()] == ["x.safetensors"]


def test_verification_in_several_passes(opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsopt.merge._verify._BATCH_BYTES", 64)
    done = run(request(opened(), "uniform", verify=True), tmp_path / "x.safetensors")
    assert done.verification is not None
    assert 0 < done.verification.error < done.verification.tolerance


def test_large_coefficients_are_verified(opened: Opener, tmp_path: Path) -> None:
    checkpoints = opened()
    values = np.array([[900.0, -1000.0, 301.0, -300.0, 50.0, 50.0]])
    asked = MergeRequest(
        checkpoints,
        Recipe("large", checkpoints.steps, values),
        MergeSettings(dtype="float32"),
        verify=True,
    )
    done = run(asked, tmp_path / "x.safetensors")
    assert any("absolute coefficients sum to 2.6e+03" in text for text in done.warnings)


@pytest.mark.parametrize("force", [False, True])
def test_inputs_stay_untouched(opened: Opener, folder: Path, tmp_path: Path, force: bool) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    first = min(folder.iterdir())
    (tmp_path / "link.safetensors").symlink_to(first)
    (tmp_path / "hard.safetensors").hardlink_to(first)
    (tmp_path / "side").symlink_to(folder)
    for out in (first, tmp_path / "link.safetensors", tmp_path / "hard.safetensors", tmp_path / "side" / first.name):
        with pytest.raises(InputError, match="is one of the checkpoints"):
            run(request(opened(), force=force), out)
    for out in (folder / "merged.safetensors", tmp_path / "side" / "merged.safetensors"):
        with pytest.raises(InputError, match="lies in the folder of the checkpoints"):
            run(request(opened(), force=force, folder=folder), out)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_is_there_is_replaced_on_request_only(opened: Opener, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    out.write_bytes(b"former")
    with pytest.raises(InputError, match=r"exists\. Give another name, or --force"):
        run(request(opened()), out)
    assert out.read_bytes() == b"former"
    run(request(opened(), force=True), out)
    assert load_file(out)


@pytest.mark.parametrize(("name", "message"), [("x.pt", "x.safetensors"), ("folder", "is a folder")])
def test_names_that_do_not_fit(opened: Opener, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=message):
        run(request(opened()), tmp_path / name)


def test_the_plan_is_what_is_done(opened: Opener, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    planned = plan_merge(request(opened()), out)
    assert not out.exists()
    done = run(request(opened()), out)
    assert done.as_json() == planned.as_json()


def test_only_one_checkpoint_is_in_memory(tmp_path: Path, opened: Opener) -> None:
    run(request(opened()), tmp_path / "first.safetensors")  # what is needed once is there from here on
    folder, values, count = tmp_path / "large", 8_000_000, 8
    folder.mkdir()
    for step in range(1, count + 1):
        tensors = {f"w{part}": torch.full((values // 16,), float(step)) for part in range(16)}
        save_file(tensors, folder / f"{step}.safetensors")
    del tensors
    asked = request(opened(folder), "uniform")
    if not reset_peak():
        pytest.skip("this system cannot measure the peak anew")
    before = peak_bytes()
    done = run(asked, tmp_path / "x.safetensors")
    used = peak_bytes() - before
    assert done.peak_bytes == 12 * values
    assert used < done.peak_bytes + 3 * values  # three quarters of a checkpoint for what allocators keep
    assert used < count * 4 * values / 2


def lora() -> CheckpointSet:
    return open_checkpoints(FORMATS / "lora" / "run", [DiffusersReader(), SafetensorsReader()])


SIGNED = np.array([[1.5, -0.9, 1.1, -0.7]])


def change_of(path: Path) -> dict[str, Tensor]:
    (snapshot,) = SafetensorsReader().scan(path)
    return {name: factors.delta().double() for name, factors in read_adapter(snapshot).modules.items()}


def test_adapters_are_combined_exactly(tmp_path: Path) -> None:
    expected = load_file(FORMATS / "lora" / "run.signed.expected.safetensors")
    checkpoints = lora()
    out = tmp_path / "x.safetensors"
    done = run(MergeRequest(checkpoints, Recipe("signed", checkpoints.steps, SIGNED), verify=True), out)
    found = change_of(out)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert float((tensor - expected[name].double()).norm()) < 1e-5 * float(expected[name].double().norm())
    assert done.adapter == {"rank": 16, "style": "diffusers", "truncation_error": 0.0}


def test_an_adapter_cut_to_a_rank(tmp_path: Path) -> None:
    expected = load_file(FORMATS / "lora" / "run.signed.expected.safetensors")
    checkpoints = lora()
    out = tmp_path / "x.safetensors"
    asked = MergeRequest(checkpoints, Recipe("signed", checkpoints.steps, SIGNED), rank=1, verify=True)
    done = run(asked, out)
    assert done.adapter is not None
    off = sum(float((tensor - expected[name].double()).square().sum()) for name, tensor in change_of(out).items())
    whole = sum(float(tensor.double().square().sum()) for tensor in expected.values())
    assert (off / whole) ** 0.5 == pytest.approx(done.adapter["truncation_error"], rel=1e-3)
    assert done.adapter["truncation_error"] > 0.01


def test_one_adapter_is_copied(tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    run(request(lora(), "last", verify=True), out)
    own = load_file(FORMATS / "lora" / "run" / "checkpoint-2000" / "adapter_model.safetensors")
    found = load_file(out)
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)


def test_an_adapter_in_peft_style_is_a_folder(tmp_path: Path) -> None:
    checkpoints = lora()
    asked = MergeRequest(checkpoints, Recipe("signed", checkpoints.steps, SIGNED), style="peft", verify=True)
    with pytest.raises(InputError, match="is a folder with two files"):
        run(asked, tmp_path / "x.safetensors")
    run(asked, tmp_path / "x")
    assert {path.name for path in tmp_path.iterdir()} == {"x"}
    names = {path.name for path in (tmp_path / "x").iterdir()}
    assert names == {"adapter_model.safetensors", "adapter_config.json", "merge.json"}
    (snapshot,) = DiffusersReader().scan(tmp_path / "x")
    expected = load_file(FORMATS / "lora" / "run.signed.expected.safetensors")
    for name, factors in read_adapter(snapshot).modules.items():
        assert torch.allclose(factors.delta(), expected[name], atol=1e-6)


def test_a_corrupted_adapter_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = TensorFile.put
    monkeypatch.setattr(TensorFile, "put", lambda self, name, tensor: put(self, name, tensor * 1.01))
    checkpoints = lora()
    asked = MergeRequest(checkpoints, Recipe("signed", checkpoints.steps, SIGNED), verify=True)
    with pytest.raises(WsoptError, match="verification failed"):
        run(asked, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_ranks_are_for_adapters(opened: Opener, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are for LoRA checkpoints"):
        run(request(opened(), rank=4), tmp_path / "x.safetensors")
