from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from wsopt.checkpoints import (
    CheckpointReader,
    DiffusersReader,
    FlaxReader,
    SafetensorsReader,
    Selection,
    ShardedReader,
    Stream,
    TorchReader,
    open_checkpoints,
    scan,
)
from wsopt.errors import CheckpointError
from wsopt.testing.conformance import check_checkpoint_reader

FORMATS = Path(__file__).parents[2] / "data" / "formats"
READER = DiffusersReader()
READERS: list[CheckpointReader] = [READER, ShardedReader(), SafetensorsReader(), TorchReader(), FlaxReader()]
EMA = Stream("ema", 0.9999)


def found(folder: Path) -> list[tuple[int | None, str, Stream]]:
    """Steps, parts and streams of everything in `folder`; nothing else may be told."""
    inventory = scan([folder], READERS)
    assert not inventory.problems
    assert not inventory.others
    return [(one.step, one.part, one.stream) for one in inventory.snapshots]


def failure(folder: Path) -> str:
    assert READER.recognises(folder)
    with pytest.raises(CheckpointError) as caught:
        READER.scan(folder)
    return str(caught.value)


def model(folder: Path, name: str = "model.safetensors", **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"w": torch.ones(2)}, folder / name)
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


def test_states_of_accelerate_without_hooks() -> None:
    assert found(FORMATS / "accelerate") == [(10, "", Stream()), (20, "", Stream())]
    assert found(FORMATS / "accelerate_bin") == [(10, "", Stream())]
    (old,), (new,) = (READER.scan(FORMATS / name / "checkpoint-10") for name in ("accelerate_bin", "accelerate"))
    loaded, wanted = old.load(), load_file(FORMATS / "accelerate" / "checkpoint-10" / "model.safetensors")
    assert old.tensors == new.tensors
    assert loaded.keys() == wanted.keys()
    assert all(tensor.equal(wanted[name]) for name, tensor in loaded.items())


def test_components_of_an_ema_run() -> None:
    folder = FORMATS / "diffusers_ema"
    assert found(folder) == [(s, p, t) for s in (10, 20) for p, t in (("unet", Stream()), ("unet_ema", EMA))]
    raw, ema = READER.scan(folder / "checkpoint-20")
    assert ema.config["use_ema_warmup"] is True
    assert ema.config["optimization_step"] == 20
    assert ema.config["_class_name"] == raw.config["_class_name"] == "UNet2DModel"
    wanted = load_file(folder / "checkpoint-20" / "unet_ema" / "diffusion_pytorch_model.safetensors")
    assert ema.load().keys() == wanted.keys()
    assert all(tensor.equal(wanted[name]) for name, tensor in ema.load().items())
    assert not raw.load()["conv_in.weight"].equal(wanted["conv_in.weight"])


def test_a_window_of_such_a_run_is_opened_with_its_emas() -> None:
    checkpoints = open_checkpoints(FORMATS / "diffusers_ema", READERS, Selection())
    assert checkpoints.steps == (10, 20)
    assert checkpoints.kind == "raw"
    assert {str(ema.stream) for ema in checkpoints.emas} == {"ema 0.9999"}
    ema = checkpoints.load_weights(checkpoints.paths[1], "unet_ema")
    assert ema.keys() == checkpoints.tensors.keys()
    assert open_checkpoints(FORMATS / "diffusers_ema", READERS, Selection(kind="ema")).kind == "ema"


def test_components_of_a_distillation(tmp_path: Path) -> None:
    assert found(FORMATS / "diffusers_lcm") == [
        (s, p, t) for s in (10, 20) for p, t in (("unet", Stream()), ("unet_target", Stream("target")))
    ]
    for name in ("unet", "unet_teacher", "unet_ema"):
        model(tmp_path / "checkpoint-5" / name, "diffusion_pytorch_model.safetensors", decay="much")
    assert found(tmp_path) == [(5, "unet", Stream()), (5, "unet_ema", Stream("ema"))]


def test_plain_model_folders() -> None:
    single, sharded, hub, variant = (
        READER.scan(FORMATS / "safetensors" / name)
        for name in ("single", "sharded_diffusers", "sharded_hub", "variant")
    )
    wanted = single[0].load()
    for (snapshot,) in (single, sharded, hub, variant):
        assert (snapshot.part, snapshot.step, snapshot.stream) == ("", None, Stream())
        loaded = snapshot.load()
        assert loaded.keys() == wanted.keys()
        assert all(tensor.equal(wanted[name].to(tensor.dtype)) for name, tensor in loaded.items())
    assert sharded[0].config["_class_name"] == "UNet2DModel"
    assert {spec.dtype for spec in variant[0].tensors.values()} == {torch.float16}


def test_adapters_carry_their_configuration_and_are_told_once() -> None:
    lora = Stream("lora")
    assert found(FORMATS / "lora" / "run") == [(step, "", lora) for step in (500, 1000, 1500, 2000)]
    assert found(FORMATS / "lora" / "lcm_run") == [(500, "", lora), (1000, "", lora)]
    (snapshot,) = READER.scan(FORMATS / "lora" / "lcm_run" / "checkpoint-500")
    assert (snapshot.config["lora_alpha"], snapshot.config["r"]) == (8, 4)
    wanted = load_file(FORMATS / "lora" / "lcm_run" / "checkpoint-500" / "adapter_model.safetensors")
    assert snapshot.load().keys() == wanted.keys()
    (kohya,) = READER.scan(FORMATS / "lora" / "kohya_fp16")
    assert (kohya.stream, kohya.part) == (lora, "")


def test_an_adapter_copy_alone_is_found(tmp_path: Path) -> None:
    folder = shutil.copytree(FORMATS / "lora" / "lcm_run" / "checkpoint-500", tmp_path / "checkpoint-500")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (folder / name).unlink()
    assert found(tmp_path) == [(500, "unet_lora", Stream("lora"))]
    shutil.move(folder / "unet_lora" / "pytorch_lora_weights.safetensors", folder)
    assert found(tmp_path) == [(500, "", Stream("lora"))]


def test_components_of_a_pipeline_are_parts_of_it(tmp_path: Path) -> None:
    for name in ("unet", "text_encoder", "text_encoder_2", "vae"):
        model(tmp_path / "step-30" / name, _class_name="X")
    model(tmp_path / "step-30" / "unet", "model.fp16.safetensors")
    model(tmp_path / "step-30" / "unet", "model.non_ema.safetensors")
    parts = ["text_encoder", "text_encoder_2", "unet/model", "unet/model.non_ema", "vae"]
    assert found(tmp_path) == [(30, part, Stream()) for part in parts]
    chosen = next(one for one in READER.scan(tmp_path / "step-30") if one.part == "unet/model.non_ema")
    save_file({"w": torch.zeros(2)}, tmp_path / "step-30" / "unet" / "model.non_ema.safetensors")
    assert not chosen.load()["w"].any()


def test_several_models_of_accelerate_are_parts(tmp_path: Path) -> None:
    for name in ("model.safetensors", "model_1.safetensors"):
        model(tmp_path / "checkpoint-3", name)
    (tmp_path / "checkpoint-3" / "random_states_0.pkl").write_bytes(b"")
    assert found(tmp_path) == [(3, "model", Stream()), (3, "model_1", Stream())]


def test_numbered_files_without_a_state_are_a_checkpoint_each(tmp_path: Path) -> None:
    for step in (1, 2):
        model(tmp_path / "runs", f"model_{step}.safetensors")
    model(tmp_path / "runs", "model.safetensors")
    assert not READER.recognises(tmp_path / "runs")
    assert sorted(one.path.name for one in scan([tmp_path / "runs"], READERS).snapshots) == [
        "model.safetensors", "model_1.safetensors", "model_2.safetensors",
    ]  # fmt: skip


def test_the_final_model_beside_the_checkpoints_hides_none_of_them(tmp_path: Path) -> None:
    for step in (10, 20):
        model(tmp_path / f"checkpoint-{step}" / "unet", _class_name="X")
    model(tmp_path / "unet", _class_name="X")
    model(tmp_path)
    (tmp_path / "model_index.json").write_text("{}")
    assert not READER.recognises(tmp_path)
    assert {one.step for one in scan([tmp_path], READERS).snapshots} == {10, 20, None}


@pytest.mark.parametrize("names", [("step_1", "step_2"), ("epoch_3",), ("1000", "2000"), ("best", "last")])
def test_a_folder_of_model_folders_is_no_checkpoint(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        model(tmp_path / "runs" / name, _class_name="X")
    assert not READER.recognises(tmp_path / "runs")
    assert len(scan([tmp_path / "runs"], READERS).snapshots) == len(names)


def test_a_weights_file_of_another_origin_is_not_swallowed(tmp_path: Path) -> None:
    model(tmp_path / "runs", "model.safetensors")
    model(tmp_path / "runs", "step-5.safetensors")
    assert not READER.recognises(tmp_path / "runs")
    assert len(scan([tmp_path / "runs"], READERS).snapshots) == 2
    (tmp_path / "runs" / "optimizer.bin").write_bytes(b"")
    assert not READER.recognises(tmp_path / "runs")
    model(tmp_path / "checkpoint-5", "model.safetensors")
    (tmp_path / "checkpoint-5" / "my_ema.pt").write_bytes(b"")
    assert [one.step for one in READER.scan(tmp_path / "checkpoint-5")] == [5]


def test_nothing_of_the_training_state_is_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model(tmp_path / "checkpoint-1")
    names = ("optimizer.bin", "scheduler.bin", "random_states_0.pkl", "custom_checkpoint_0.pkl", "training_args.bin")
    for name in names:
        state = tmp_path / "checkpoint-1" / name
        state.write_bytes(pickle.dumps(Bomb()))
    assert found(tmp_path) == [(1, "", Stream())]
    READER.scan(tmp_path / "checkpoint-1")[0].load()
    assert "executed" not in capsys.readouterr().out


def test_a_step_in_the_metadata_counts(tmp_path: Path) -> None:
    folder = model(tmp_path / "checkpoint-1")
    save_file({"w": torch.ones(2)}, folder / "model.safetensors", metadata={"step": "7"})
    assert found(tmp_path) == [(7, "", Stream())]


def test_a_safetensors_file_is_preferred_to_the_torch_one(tmp_path: Path) -> None:
    (model(tmp_path / "checkpoint-1") / "pytorch_model.bin").write_bytes(b"not read")
    assert found(tmp_path) == [(1, "", Stream())]


def test_torn_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-1").mkdir()
    assert "checkpoint-1 is torn: it is empty" in failure(tmp_path / "checkpoint-1")
    (tmp_path / "checkpoint-1" / "optimizer.bin").write_bytes(b"")
    assert "checkpoint-1 holds the state of a training run and no weights" in failure(tmp_path / "checkpoint-1")

    unet = model(tmp_path / "checkpoint-2" / "unet", _class_name="UNet2DModel")
    weights = unet / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    assert "unet/model.safetensors is torn: its header announces" in failure(tmp_path / "checkpoint-2")
    weights.unlink()
    assert "checkpoint-2/unet is torn: it has the configuration of a model" in failure(tmp_path / "checkpoint-2")

    torn = model(tmp_path / "checkpoint-3") / "config.json"
    for content in ("{", "[]", "version https://git-lfs.github.com/spec/v1\n"):
        torn.write_text(content)
        assert "checkpoint-3/config.json" in failure(tmp_path / "checkpoint-3")
    assert [problem.kind for problem in scan([tmp_path], READERS).problems] == ["torn"] * 3


def test_an_adapter_without_weights_is_torn(tmp_path: Path) -> None:
    folder = shutil.copytree(FORMATS / "lora" / "lcm_run" / "checkpoint-500", tmp_path / "checkpoint-500")
    (folder / "adapter_model.safetensors").unlink()
    assert "checkpoint-500 is torn: it has the configuration of a model and no weights" in failure(folder)


def test_a_torn_torch_file_is_named(tmp_path: Path) -> None:
    folder = shutil.copytree(FORMATS / "accelerate_bin" / "checkpoint-10", tmp_path / "checkpoint-10")
    weights = folder / "pytorch_model.bin"
    whole = weights.read_bytes()
    for data in (whole[:-500], whole[:100], b"", b"PK", b"version https://git-lfs.github.com/spec/v1\n"):
        weights.write_bytes(data)
        assert "pytorch_model.bin" in failure(folder)


def test_other_folders_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "config.json").write_text('{"lr": 0.1}')
    assert not READER.recognises(tmp_path)
    assert not READER.recognises(tmp_path / "logs")
    assert not READER.recognises(tmp_path / "absent")
    assert not READER.recognises(FORMATS / "safetensors")
    assert not READER.recognises(FORMATS / "flax" / "cd")


def test_the_rules_of_readers_are_kept(tmp_path: Path) -> None:
    good = [folder for folder in FORMATS.rglob("*") if folder.is_dir() and READER.recognises(folder)]
    assert len(good) > 20
    (tmp_path / "checkpoint-1").mkdir()
    torn = model(tmp_path / "checkpoint-2" / "unet", _class_name="X") / "model.safetensors"
    torn.write_bytes(torn.read_bytes()[:-1])
    check_checkpoint_reader(READER, good, [tmp_path / "checkpoint-1"], [tmp_path, torn])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is torn"):
        READER.scan(tmp_path / "checkpoint-2")
