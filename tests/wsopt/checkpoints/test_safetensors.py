from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from wsopt.checkpoints import SafetensorsReader, Snapshot, Stream, scan
from wsopt.errors import CheckpointError
from wsopt.testing.conformance import check_checkpoint_reader

FORMATS = Path(__file__).parents[2] / "data" / "formats"
READER = SafetensorsReader()


def write(path: Path, header: dict[str, Any] | str, data: int) -> Path:
    raw = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(data))
    return path


def entry(start: int, end: int, shape: tuple[int, ...] = (2,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def failure(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        READER.scan(path)
    return str(caught.value)


def only(path: Path) -> Snapshot:
    (snapshot,) = READER.scan(path)
    return snapshot


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e4m3fnuz,
        torch.float8_e5m2, torch.float8_e5m2fnuz, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64,
        torch.uint32, torch.uint16, torch.uint8, torch.bool,
    ],
)  # fmt: skip
def test_every_dtype_is_told_by_the_header_and_loaded(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0, 1, 0], [1, 1, 0]]).to(dtype)
    save_file({"w": tensor, "empty": torch.empty(0, 3, dtype=dtype), "one": tensor[0, 1].clone()}, tmp_path / "1")
    snapshot = only(tmp_path / "1")
    loaded = snapshot.load()
    assert {name: (tuple(one.shape), one.dtype) for name, one in loaded.items()} == {
        name: (spec.shape, spec.dtype) for name, spec in snapshot.tensors.items()
    }
    assert loaded["w"].dtype == dtype
    assert loaded["w"].view(torch.uint8).equal(tensor.view(torch.uint8))


@pytest.mark.parametrize("dtype", ["F4", "F8_E8M0", "X"])
def test_a_dtype_that_cannot_be_combined_is_named(tmp_path: Path, dtype: str) -> None:
    path = write(tmp_path / "1.safetensors", {"w": entry(0, 8, dtype=dtype)}, 8)
    assert f"tensor w has dtype {dtype}, which wsopt cannot combine" in failure(path)


def test_a_shape_that_does_not_fit_its_bytes_is_named(tmp_path: Path) -> None:
    header = {"a": entry(0, 8), "b": entry(8, 16, (3,))}
    message = failure(write(tmp_path / "1.safetensors", header, 16))
    assert "tensor b of shape [3] and dtype F32 takes 12 bytes, its data_offsets [8, 16] hold 8" in message
    huge = write(tmp_path / "2.safetensors", {"a": entry(0, 8, (1 << 62, 1 << 62))}, 8)
    assert "tensor a of shape" in failure(huge)
    assert "hold -8" in failure(write(tmp_path / "3.safetensors", {"a": entry(8, 0)}, 8))


def test_tensors_that_share_bytes_are_named(tmp_path: Path) -> None:
    for start in (0, 4):
        path = write(tmp_path / "1.safetensors", {"b": entry(start, start + 8), "a": entry(0, 8)}, start + 8)
        assert "tensors a and b overlap" in failure(path)


def test_bytes_of_no_tensor_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "1.safetensors", {"a": entry(0, 8), "b": entry(12, 20)}, 20)
    assert "the 4 bytes before tensor b belong to no tensor" in failure(path)


def test_a_name_that_comes_twice_is_told(tmp_path: Path) -> None:
    text = json.dumps({"a": entry(0, 8), "b": entry(8, 16)}).replace('"b"', '"a"')
    assert "its header names a twice" in failure(write(tmp_path / "1.safetensors", text, 16))


def test_the_first_tensor_cut_off_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "1.safetensors", {"c": entry(16, 24), "a": entry(0, 8), "b": entry(8, 16)}, 12)
    assert "the file has" in (message := failure(path))
    assert "The first tensor cut off is b." in message


def test_a_git_lfs_pointer_says_what_it_is(tmp_path: Path) -> None:
    pointer = tmp_path / "model-10.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 167335342\n")
    assert "stand for a file of 167,335,342. Fetch the file itself: git lfs pull" in (message := failure(pointer))
    assert "model-10.safetensors is a Git LFS pointer" in message
    (problem,) = scan([tmp_path], [READER]).problems
    assert (problem.kind, problem.text) == ("torn", message)
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "43 bytes that stand for another file" in scan([tmp_path], [READER]).problems[0].text


def test_a_shard_without_its_index_is_refused(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "model-00001-of-00003.safetensors")
    assert "is one of 3 shards of a checkpoint, and no index" in failure(tmp_path / "model-00001-of-00003.safetensors")
    save_file({"w": torch.zeros(2)}, tmp_path / "model-00001-of-00001.safetensors")
    assert only(tmp_path / "model-00001-of-00001.safetensors").tensors.keys() == {"w"}


@pytest.mark.parametrize(
    "path", sorted((FORMATS / "lora" / "styles").glob("*.safetensors")), ids=lambda path: path.stem
)
def test_lora_files_of_every_key_style_are_a_lora_stream(path: Path) -> None:
    assert only(path).stream == Stream("lora")


def test_a_network_is_a_raw_stream() -> None:
    assert only(FORMATS / "lora" / "base_unet" / "diffusion_pytorch_model.safetensors").stream == Stream("raw")


def test_the_rules_of_readers_are_kept(tmp_path: Path) -> None:
    good = sorted(FORMATS.rglob("*.safetensors"))
    whole = [path for path in good if "-of-" not in path.name]
    torn = write(tmp_path / "torn.safetensors", {"a": entry(0, 8)}, 4)
    (tmp_path / "short.safetensors").write_bytes(b"\x05\0")
    (tmp_path / "text").write_text("{}")
    shards = [path for path in good if path not in whole]
    check_checkpoint_reader(
        READER, whole, [torn, tmp_path / "short.safetensors", *shards], [tmp_path / "text", FORMATS]
    )


def test_a_file_without_tensors_holds_no_weights(tmp_path: Path) -> None:
    save_file({}, tmp_path / "1.safetensors", metadata={"step": "1"})
    assert READER.scan(tmp_path / "1.safetensors") == []


def test_a_file_that_changes_after_the_scan_is_told(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "1.safetensors")
    snapshot = only(tmp_path / "1.safetensors")
    save_file({"b": torch.zeros(2)}, tmp_path / "1.safetensors")
    with pytest.raises(CheckpointError, match=r"1\.safetensors holds other tensors than before"):
        snapshot.load()
