from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from wsopt.checkpoints import DiffusersReader, SafetensorsReader, ShardedReader, Stream, scan
from wsopt.errors import CheckpointError
from wsopt.testing.conformance import check_checkpoint_reader

FORMATS = Path(__file__).parents[2] / "data" / "formats" / "safetensors"
READER = ShardedReader()
READERS = [DiffusersReader(), READER, SafetensorsReader()]


def expected() -> dict[str, torch.Tensor]:
    return load_file(FORMATS / "single" / "diffusion_pytorch_model.safetensors")


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(tensor.equal(wanted[name]) for name, tensor in found.items())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(FORMATS / "sharded_hub", tmp_path / "sharded-70")


def index_of(folder: Path) -> Path:
    return folder / "model.safetensors.index.json"


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(index_of(folder).read_text())
    change(content)
    index_of(folder).write_text(json.dumps(content))


def failure(path: Path) -> str:
    assert READER.recognises(path)
    with pytest.raises(CheckpointError) as caught:
        READER.scan(path)
    return str(caught.value)


@pytest.mark.parametrize("name", ["sharded_diffusers", "sharded_hub"])
def test_a_folder_and_its_index_hold_what_the_single_file_holds(name: str) -> None:
    (index,) = (FORMATS / name).glob("*.index.json")
    for path in (FORMATS / name, index):
        assert READER.recognises(path)
        (snapshot,) = READER.scan(path)
        assert snapshot.path == path
        assert snapshot.config["total_size"] == 7812
        assert {key: spec.shape for key, spec in snapshot.tensors.items()} == {
            key: tuple(tensor.shape) for key, tensor in expected().items()
        }
        assert same(snapshot.load(), expected())


def test_a_folder_of_sharded_checkpoints_gives_one_each(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "sharded-100")
    inventory = scan([folder.parent], READERS)
    assert [(one.path.name, one.step) for one in inventory.snapshots] == [("sharded-70", 70), ("sharded-100", 100)]
    assert not inventory.problems
    assert not inventory.others


def renamed(folder: Path, target: Path, step: int) -> None:
    """The sharded checkpoint as one of several in a folder, its step in the names."""
    for shard in folder.glob("*.safetensors"):
        shutil.copy(shard, target / shard.name.replace("model", f"net-{step}"))
    text = index_of(folder).read_text().replace("model-", f"net-{step}-")
    (target / f"net-{step}.safetensors.index.json").write_text(text)


def test_several_indices_in_one_folder_are_a_checkpoint_each(folder: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    renamed(folder, runs, 5)
    renamed(folder, runs, 20)
    (runs / "optimizer.bin").write_bytes(b"never opened")
    snapshots = scan([runs], READERS).snapshots
    assert sorted((one.step, one.part) for one in snapshots) == [
        (5, "net-5.safetensors.index.json"), (20, "net-20.safetensors.index.json"),
    ]  # fmt: skip
    assert all(same(one.load(), expected()) for one in snapshots)


def test_single_files_beside_an_index_are_found_and_shards_told_once(folder: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    renamed(folder, runs, 5)
    save_file(expected(), runs / "net-7.safetensors")
    inventory = scan([runs], READERS)
    assert [(one.step, one.reader.name) for one in inventory.snapshots] == [
        (5, "safetensors-sharded"), (7, "safetensors"),
    ]  # fmt: skip
    assert len(inventory.others) == 3
    assert not inventory.problems


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors is missing: model.safetensors.index.json names it" in failure(folder)


def test_a_torn_shard_is_named(folder: Path) -> None:
    shard = folder / "model-00002-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8])
    assert "model-00002-of-00003.safetensors is torn" in failure(folder)
    shard.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 167335342\n")
    assert "model-00002-of-00003.safetensors is a Git LFS pointer" in failure(folder)


def test_a_tensor_that_the_shard_lacks_is_named(folder: Path) -> None:
    edit(folder, lambda content: content["weight_map"].update(extra="model-00001-of-00003.safetensors"))
    message = failure(folder)
    assert "model.safetensors.index.json says that tensor extra is in model-00001-of-00003.safetensors" in message


def test_a_tensor_that_the_index_lacks_is_named(folder: Path) -> None:
    edit(folder, lambda content: content["weight_map"].pop("conv_in.bias"))
    message = failure(folder)
    assert "model-00001-of-00003.safetensors holds tensor conv_in.bias, which model.safetensors.index.json" in message


def test_a_tensor_in_another_shard_than_the_index_says_is_named(folder: Path) -> None:
    edit(folder, lambda content: content["weight_map"].update({"conv_in.bias": "model-00003-of-00003.safetensors"}))
    assert "holds tensor conv_in.bias, which model.safetensors.index.json does not place there" in failure(folder)


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "", "..", "a/b.safetensors", "a\0b", 5])
def test_an_index_that_points_elsewhere_is_refused(folder: Path, shard: object) -> None:
    edit(folder, lambda content: content["weight_map"].update({"conv_in.bias": shard}))
    assert "places tensor conv_in.bias in" in failure(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "model.safetensors.index.json is torn or damaged: it is no JSON"),
        ('{"weight_map": {"a', "is torn or damaged: it is no JSON"),
        ('{"weight_map": ' + "[" * 100_000, "is torn or damaged: it is no JSON"),
        ('{"weight_map": {}}', "has no table weight_map"),
        ('{"weight_map": ["a"]}', "has no table weight_map"),
        ('{"metadata": 5, "weight_map": {"a": "b"}}', "has no table weight_map"),
        ('{"metadata": {"step": "x"}, "weight_map": {"a": "a.safetensors"}}', "a.safetensors is missing"),
    ],
)
def test_a_damaged_index_is_named(folder: Path, content: str, message: str) -> None:
    index_of(folder).write_text(content)
    assert message in failure(folder)
    assert message in failure(index_of(folder))
    (problem,) = scan([folder], READERS).problems
    assert problem.kind == "torn"


def test_the_step_of_the_metadata_counts(folder: Path) -> None:
    edit(folder, lambda content: content["metadata"].update(step="900"))
    (snapshot,) = READER.scan(folder)
    assert snapshot.step == 900
    edit(folder, lambda content: content["metadata"].update(step="many"))
    assert "give the training step as 'many'" in failure(folder)


def test_a_sharded_adapter_is_a_lora_stream(tmp_path: Path) -> None:
    for number, factor in ((1, "A"), (2, "B")):
        save_file(
            {f"to_q.lora_{factor}.weight": torch.zeros(2, 2)}, tmp_path / f"net-0000{number}-of-00002.safetensors"
        )
    places = {f"to_q.lora_{one}.weight": f"net-0000{n}-of-00002.safetensors" for n, one in ((1, "A"), (2, "B"))}
    (tmp_path / "net.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    (snapshot,) = READER.scan(tmp_path)
    assert snapshot.stream == Stream("lora")


def test_shards_of_torch_files_are_read_likewise(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-30"
    folder.mkdir()
    names = sorted(expected())
    halves = {"pytorch_model-00001-of-00002.bin": names[:20], "pytorch_model-00002-of-00002.bin": names[20:]}
    for shard, held in halves.items():
        torch.save({name: expected()[name] for name in held}, folder / shard)
    places = {name: shard for shard, held in halves.items() for name in held}
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    for reader in (READER, DiffusersReader()):
        assert reader.recognises(folder)
        (snapshot,) = reader.scan(folder)
        assert snapshot.step == 30
        assert same(snapshot.load(), expected())
    (folder / "pytorch_model-00002-of-00002.bin").write_bytes(b"PK")
    assert "pytorch_model-00002-of-00002.bin" in failure(folder)


def test_folders_and_texts_of_another_kind_are_passed_over(tmp_path: Path) -> None:
    assert not READER.recognises(tmp_path)
    (tmp_path / "data.json").write_text('{"weight_map": {}}')
    assert not READER.recognises(tmp_path / "data.json")
    assert not READER.recognises(tmp_path / "absent")
    assert not READER.recognises(FORMATS / "single" / "diffusion_pytorch_model.safetensors")


def test_the_rules_of_readers_are_kept(folder: Path) -> None:
    hub = FORMATS / "sharded_hub"
    good = [FORMATS / "sharded_diffusers", hub, hub / "model.safetensors.index.json"]
    index_of(folder).write_text('{"weight_map": ')
    check_checkpoint_reader(READER, good, [folder, index_of(folder)], [FORMATS, FORMATS / "single"])


def test_tensors_come_in_the_order_of_the_index_whatever_the_hash_seed(folder: Path) -> None:
    (snapshot,) = READER.scan(folder)
    assert list(snapshot.tensors) == list(json.loads(index_of(folder).read_text())["weight_map"])
    assert list(snapshot.load()) == list(snapshot.tensors)
