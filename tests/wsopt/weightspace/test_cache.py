"""Differences in a mapped file: kept between runs, rebuilt when a checkpoint changes, never half written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stacks import merged, set_of, walk
from wsopt.checkpoints import SafetensorsReader, open_checkpoints
from wsopt.errors import CheckpointError, InputError
from wsopt.files import locked
from wsopt.weightspace import DenseStack, SpaceSettings
from wsopt.weightspace._cache import allocate_file

COUNT = 5
SHAPES = {"a": (70, 31), "b": (9000,), "c": ()}
GROUPS = {"a": "x", "b": "y", "c": "x", "fixed": "x"}
ALPHA = np.stack([np.array([0.4, -2.5, 3.0, 1.25, -1.15]), np.array([0.1, 0.2, 0.3, 0.2, 0.2])])


def write(folder: Path, seed: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    for step, tensors in enumerate(walk(COUNT, SHAPES, seed), start=1):
        save_file(tensors | {"fixed": torch.ones(9), "n": torch.tensor(4)}, folder / f"{step}.safetensors")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "checkpoints")


def stack(folder: Path, **settings: Any) -> DenseStack:
    chosen = {"memory": "mapped", "cache": folder.parent / "cache", "width": 3, **settings}
    return DenseStack(open_checkpoints(folder, [SafetensorsReader()]), SpaceSettings(**chosen), lambda shapes: GROUPS)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder.parent / "cache").iterdir())


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checkpoints that are read from now on."""
    found: list[str] = []
    load = SafetensorsReader.load

    def counted(self: SafetensorsReader, snapshot: Any) -> Any:
        found.append(snapshot.path.name)
        return load(self, snapshot)

    monkeypatch.setattr(SafetensorsReader, "load", counted)
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("devices", [(), ("cpu", "cpu")])
def test_mapped_equals_resident_and_a_second_start_reads_nothing(
    folder: Path, dtype: str, devices: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    resident = stack(folder, memory="resident", dtype=dtype)
    first = stack(folder, dtype=dtype, devices=devices)
    found = reads(monkeypatch)
    second = stack(folder, dtype=dtype, devices=devices)
    assert found == []
    assert not resident.mapped
    expected = merged(resident, ALPHA, row=1)
    for other in (first, second):
        assert other.mapped
        assert other.fingerprint == resident.fingerprint
        assert other.policies == resident.policies
        assert list(other.policies) == list(resident.policies)
        assert other.groups == resident.groups
        assert other.nbytes < resident.nbytes
        result = merged(other, ALPHA, row=1)
        assert result.keys() == expected.keys()
        assert all(torch.equal(result[name], expected[name]) for name in expected)
        assert np.array_equal(other.gram(), resident.gram()) or devices
    assert len(entries(folder)) == 1


def test_a_touched_checkpoint_is_read_again_and_the_old_file_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stack(folder)
    before = entries(folder)
    path = folder / "2.safetensors"
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))
    found = reads(monkeypatch)
    second = stack(folder)
    assert found
    assert second.fingerprint == first.fingerprint
    assert len(entries(folder)) == 1
    assert entries(folder) != before
    # What was mapped before stays readable.
    assert all(torch.equal(merged(first, ALPHA)[name], tensor) for name, tensor in merged(second, ALPHA).items())


def test_changed_content_of_the_same_size_and_time_of_modification_is_noticed(folder: Path) -> None:
    first = stack(folder)
    old, path = (folder / "2.safetensors").stat(), folder / "2.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    time.sleep(0.02)  # the clock of files may be as coarse as 10 ms
    path.write_bytes(data)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert stack(folder).fingerprint != first.fingerprint


@pytest.mark.parametrize("name", ["differences.bin", "rest.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "longer"])
def test_a_damaged_cache_is_built_again(folder: Path, name: str, damage: str) -> None:
    expected = merged(stack(folder), ALPHA)
    path = next((folder.parent / "cache").rglob(name))
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "longer": data + b"\0" * 8}[damage])
    result = merged(stack(folder), ALPHA)
    assert all(torch.equal(result[key], expected[key]) for key in expected)


def test_what_is_stacked_otherwise_has_its_own_file(folder: Path) -> None:
    stack(folder)
    stack(folder, dtype="bfloat16")
    stack(folder, batchnorm="copy")
    DenseStack(
        open_checkpoints(folder, [SafetensorsReader()]),
        SpaceSettings(memory="mapped", cache=folder.parent / "cache"),
    )
    assert len(entries(folder)) == 4
    stack(folder, width=7)
    stack(folder, devices=("cpu", "cpu"))
    assert len(entries(folder)) == 4


def test_a_failed_build_leaves_nothing_that_is_used(folder: Path) -> None:
    tensors = {"a": torch.zeros(70, 31), "b": torch.zeros(9000), "c": torch.zeros(())}
    path = folder / "3.safetensors"
    good = path.read_bytes()
    save_file(tensors | {"fixed": torch.ones(9), "n": torch.tensor(5)}, path)
    with pytest.raises(CheckpointError, match=r"tensor n"):
        stack(folder)
    assert [one.name for one in (folder.parent / "cache").rglob("*") if one.is_file()] == [".lock"]
    path.write_bytes(good)
    expected = merged(stack(folder, memory="resident"), ALPHA)
    assert all(torch.equal(merged(stack(folder), ALPHA)[name], expected[name]) for name in expected)


def test_a_checkpoint_that_changes_while_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = SafetensorsReader.load

    def touching(self: SafetensorsReader, snapshot: Any) -> Any:
        os.utime(folder / "2.safetensors", (time.time() + 60, time.time() + 60))
        return load(self, snapshot)

    monkeypatch.setattr(SafetensorsReader, "load", touching)
    with pytest.raises(CheckpointError, match="changed while it was read"):
        stack(folder)
    assert not list((folder.parent / "cache").rglob("*.safetensors"))


def test_a_full_disk_is_one_message(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        InputError, match=r"cache.*GiB\) cannot be kept there: No space left on device\. Set weightspace"
    ):
        stack(folder)
    assert not list((folder.parent / "cache").rglob("*.bin*"))
    monkeypatch.undo()
    with pytest.raises(OSError, match=r"."):
        allocate_file(tmp_path / "huge", 1 << 62)


def test_a_cache_that_is_no_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be kept there"):
        stack(folder, cache=tmp_path / "file")


def test_without_a_folder_the_message_names_the_setting(folder: Path) -> None:
    with pytest.raises(InputError, match=r"Set weightspace\.cache"):
        stack(folder, cache=None)


def test_auto_maps_where_memory_is_short(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not stack(folder, memory="auto").mapped
    monkeypatch.setattr("wsopt.weightspace._storage.available_memory", lambda: 1000)
    assert stack(folder, memory="auto").mapped


def test_nothing_to_combine_can_be_mapped(tmp_path: Path) -> None:
    for step in (1, 2):
        save_file({"fixed": torch.ones(9)}, tmp_path / f"{step}.safetensors")
    checkpoints = open_checkpoints(tmp_path, [SafetensorsReader()])
    for _ in range(2):
        held = DenseStack(checkpoints, SpaceSettings(memory="mapped", cache=tmp_path / "cache"))
        assert merged(held, np.array([2.0, 2.0]))["fixed"].tolist() == [1.0] * 9


_SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from wsopt.checkpoints import SafetensorsReader, open_checkpoints
from wsopt.weightspace import DenseStack, SpaceSettings
checkpoints = open_checkpoints(Path(sys.argv[1]), [SafetensorsReader()])
print("ready", flush=True)
sys.stdin.readline()
stack = DenseStack(checkpoints, SpaceSettings(memory="mapped", cache=Path(sys.argv[2]), width=1))
stack.prepare(np.array([[[0.4, -2.5, 3.0, 1.25, -1.15]]]))
print(stack.fingerprint, float(stack.tensors(0)["b"].double().sum()))
"""


def test_two_processes_at_once(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SCRIPT, str(folder), str(tmp_path / "shared")]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    said = [worker.communicate(timeout=60)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert said[0] == said[1]
    assert said[0].startswith(stack(folder, memory="resident").fingerprint)


def test_a_start_waits_for_another_that_builds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack(folder)
    entry = next((folder.parent / "cache").iterdir())
    held = locked(entry, RuntimeError)
    held.__enter__()
    waits = []

    def release(seconds: float) -> None:
        waits.append(seconds)
        held.__exit__(None, None, None)

    monkeypatch.setattr("wsopt.weightspace._cache.time.sleep", release)
    assert stack(folder).mapped
    assert len(waits) == 1


def test_sets_that_are_not_on_disk_cannot_be_kept() -> None:
    with pytest.raises(InputError, match=r"1\.memory"):
        DenseStack(set_of(walk(3, SHAPES)), SpaceSettings(memory="mapped", cache=Path("unused")))
