from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wsopt.checkpoints import CheckpointSet, SafetensorsReader, Selection, open_checkpoints
from wsopt.errors import CheckpointError, ExitCode
from wsopt.weightspace import DenseStack

READERS = [SafetensorsReader()]


def save(path: Path, step: int | None = None, **tensors: torch.Tensor) -> Path:
    tensors = tensors or {"w": torch.arange(6.0).reshape(2, 3)}
    save_file(tensors, path, metadata=None if step is None else {"step": str(step)})
    return path


def opened(folder: Path, window: tuple[int, int] | None = None, interval: int | None = None) -> CheckpointSet:
    return open_checkpoints(folder, READERS, Selection(window=window, interval=interval))


def failure(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        opened(folder)
    assert caught.value.exit_code == ExitCode.USAGE
    return str(caught.value)


def test_steps_are_sorted_as_numbers_and_metadata_wins_over_the_name(tmp_path: Path) -> None:
    save(tmp_path / "model900000.safetensors")
    save(tmp_path / "model1000000.safetensors")
    save(tmp_path / "misnamed-5.safetensors", step=950_000)
    assert opened(tmp_path).steps == (900_000, 950_000, 1_000_000)


def test_window_and_interval(tmp_path: Path) -> None:
    for step in range(10, 110, 10):
        save(tmp_path / f"{step}.safetensors")
    assert opened(tmp_path, (30, 70)).steps == (30, 40, 50, 60, 70)
    assert opened(tmp_path, interval=25).steps == (10, 40, 70, 100)


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    save(tmp_path / "1.safetensors")
    torn = save(tmp_path / "2.safetensors", w=torch.zeros(100))
    whole = torn.read_bytes()
    torn.write_bytes(whole[:-50])
    assert "2.safetensors is torn: its header announces 472 bytes, the file has 422." in failure(tmp_path)
    for length in (0, 5, 20):
        torn.write_bytes(whole[:length])
        assert (
            "2.safetensors is torn: it ends within its header. Restore that file, or save that checkpoint again."
            in failure(tmp_path)
        )


def test_a_foreign_file_is_named(tmp_path: Path) -> None:
    save(tmp_path / "1.safetensors")
    (tmp_path / "weights-2.bin").write_bytes(bytes(range(256)))
    message = failure(tmp_path)
    assert "weights-2.bin is no checkpoint of a known format (known: safetensors)" in message
    assert 'checkpoints.exclude = ["weights-2.bin"], or checkpoints.unreadable = "skip"' in message


def test_a_differing_tensor_is_named_with_both_shapes(tmp_path: Path) -> None:
    save(tmp_path / "1.safetensors")
    save(tmp_path / "2.safetensors", w=torch.zeros(3, 2))
    assert "tensor w is [3, 2] float32 and [2, 3] float32 in the other" in failure(tmp_path)
    save(tmp_path / "2.safetensors", v=torch.zeros(3, 2))
    assert "it lacks tensor w; it has a tensor v that the other lacks" in failure(tmp_path)
    save(tmp_path / "2.safetensors", w=torch.zeros(2, 3, dtype=torch.float16))
    assert "tensor w is [2, 3] float16 and [2, 3] float32" in failure(tmp_path)


def test_two_files_of_one_step_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a-7.safetensors")
    save(tmp_path / "b-7.safetensors", w=torch.ones(2, 3))
    message = failure(tmp_path)
    assert "are both of step 7 and stream raw, and hold different weights" in message
    assert 'checkpoints.exclude = ["b-*.safetensors"]' in message


def test_too_few_none_and_no_folder(tmp_path: Path) -> None:
    assert "holds no checkpoint files" in failure(tmp_path)
    save(tmp_path / "7.safetensors")
    assert "has 1 checkpoint of this stream (step 7), a combination needs at least 2" in failure(tmp_path)
    assert "is not a folder" in failure(tmp_path / "absent")


def test_a_file_without_a_step_is_named(tmp_path: Path) -> None:
    save(tmp_path / "final.safetensors")
    assert "final.safetensors names no training step" in failure(tmp_path)


def test_a_nan_is_found_at_load_with_file_and_tensor(tmp_path: Path) -> None:
    save(tmp_path / "1.safetensors")
    save(tmp_path / "2.safetensors", w=torch.tensor([[1.0, float("nan"), 3.0], [4.0, 5.0, float("inf")]]))
    checkpoints = opened(tmp_path)
    checkpoints.load(0)
    with pytest.raises(CheckpointError, match=r"2\.safetensors: tensor w has 2 of 6 values that are NaN or infinite"):
        checkpoints.load(1)


def write_header(path: Path, header: object) -> None:
    raw = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(24))


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": ["F32"]}, {"shape": 6}, {"shape": ["6"]}, {"shape": [-6]}, {"data_offsets": ["0", "24"]},
        {"data_offsets": [24]}, {"data_offsets": None}, {"data_offsets": [0, 10**400]},
    ],
)  # fmt: skip
def test_a_header_of_wrong_types_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    save(tmp_path / "1.safetensors")
    write_header(tmp_path / "2.safetensors", {"w": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]} | change})
    assert "2.safetensors is not a safetensors file: its header is damaged." in failure(tmp_path)


@pytest.mark.parametrize("header", ['{"w": ' + "[" * 100_000, {"__metadata__": "text"}, {"__metadata__": {"a": []}}])
def test_a_header_too_deep_or_with_foreign_metadata_is_damaged(tmp_path: Path, header: object) -> None:
    write_header(tmp_path / "2.safetensors", header)
    assert "2.safetensors is not a safetensors file: its header is damaged." in failure(tmp_path)


@pytest.mark.parametrize("step", [5, "-5", "\u00b2", "", "1" * 16, "9" * 5000])
def test_a_step_that_is_no_number_of_15_digits_is_refused(tmp_path: Path, step: object) -> None:
    entry = {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}
    write_header(tmp_path / "2.safetensors", {"__metadata__": {"step": step}, "w": entry})
    message = failure(tmp_path)
    assert f"2.safetensors: its metadata give the training step as {repr(step)[:20]}" in message
    assert len(message) < 400


def test_a_step_of_too_many_digits_in_the_name_is_refused(tmp_path: Path) -> None:
    save(tmp_path / f"{'1' * 16}.safetensors")
    assert "the last number in its name has 16 digits" in failure(tmp_path)


def test_links_that_lead_nowhere_and_pipes_are_named(tmp_path: Path) -> None:
    odd = tmp_path / "3.safetensors"
    odd.symlink_to(tmp_path / "absent")
    assert "3.safetensors is a symbolic link that leads nowhere" in failure(tmp_path)
    odd.unlink()
    odd.symlink_to(odd)
    assert "3.safetensors is a symbolic link that leads nowhere" in failure(tmp_path)
    odd.unlink()
    os.mkfifo(odd)
    assert "3.safetensors is neither a file nor a folder" in failure(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_8_bit_floats_are_read_and_merged(tmp_path: Path, dtype: torch.dtype) -> None:
    for step, value in ((1, 1.0), (2, 3.0)):
        save(tmp_path / f"{step}.safetensors", w=torch.full((2, 3), value).to(dtype))
    stack = DenseStack(opened(tmp_path))
    stack.prepare(np.array([[[0.5, 0.5]]]))
    merged = stack.tensors(0)["w"]
    assert merged.dtype == dtype
    assert merged.float().eq(2).all()
    save(tmp_path / "2.safetensors", w=torch.full((2, 3), torch.nan).to(dtype))
    with pytest.raises(CheckpointError, match="tensor w has 6 of 6 values that are NaN or infinite"):
        opened(tmp_path).load(1)


def test_a_value_that_float32_cannot_hold_is_named(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path / f"{step}.safetensors", w=torch.tensor([1.0, -(10.0 ** (30 * step))], dtype=torch.float64))
    opened(tmp_path).load(0)
    with pytest.raises(CheckpointError, match=r"2\.safetensors: tensor w has 1 of 2 values that are beyond the range"):
        opened(tmp_path).load(1)
