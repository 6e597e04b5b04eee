"""The file is there whole or not at all."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from wsopt.checkpoints import SafetensorsReader, TensorSpec
from wsopt.errors import InputError, WsoptError
from wsopt.merge import TensorFile

TENSORS = {
    "byte": torch.tensor([1, 2, 3], dtype=torch.uint8),
    "b": torch.arange(6, dtype=torch.float16).reshape(2, 3),
    "a": torch.arange(6.0).reshape(2, 3).T,
    "wide": torch.tensor(1 / 3, dtype=torch.float64),
    "flag": torch.tensor([True, False]),
    "empty": torch.zeros(0, 4),
    "brain": torch.tensor([0.5], dtype=torch.bfloat16),
    **{
        f"f8 {dtype}": torch.tensor([0.5, 2.0]).to(dtype)
        for dtype in (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz)
    },
}


def specs(tensors: dict[str, torch.Tensor]) -> dict[str, TensorSpec]:
    return {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def write(path: Path, tensors: dict[str, torch.Tensor], announced: dict[str, TensorSpec] | None = None) -> None:
    with TensorFile(path, announced or specs(tensors), {"format": "pt", "about": "α"}) as file:
        for name in file.names:
            file.put(name, tensors[name])
        file.commit()


def test_the_library_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.safetensors"
    write(path, TENSORS)
    found = load_file(path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].to(torch.float64), tensor.to(torch.float64)), name
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "about": "α"}
    (snapshot,) = SafetensorsReader().scan(path)
    assert dict(snapshot.tensors) == specs(TENSORS)
    assert TensorFile(path, specs(TENSORS), {"format": "pt", "about": "α"}).nbytes == path.stat().st_size


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "one.safetensors", TENSORS)
    write(tmp_path / "two.safetensors", dict(reversed(TENSORS.items())))
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_without_commit_nothing_stays(tmp_path: Path) -> None:
    with TensorFile(tmp_path / "x.safetensors", specs(TENSORS), {}) as file:
        file.put(file.names[0], TENSORS[file.names[0]])
        with pytest.raises(ValueError, match="still to be put"):
            file.commit()
        with pytest.raises(ValueError, match="expected"):
            file.put("stranger", torch.zeros(1))
    assert list(tmp_path.iterdir()) == []


def test_an_error_within_keeps_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"former")
    with pytest.raises(ValueError, match="expected"):
        write(path, TENSORS | {"flag": torch.zeros(3)}, specs(TENSORS))
    assert path.read_bytes() == b"former"
    assert [one.name for one in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    tensors = {"w": torch.zeros(100_000)}
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, former[1]))
    try:
        with pytest.raises(WsoptError, match="could not be written: File too large"):
            write(tmp_path / "x.safetensors", tensors)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100))
    with pytest.raises(InputError, match=r"needs [\d,]+ bytes and its disk has 100 free"):
        write(tmp_path / "x.safetensors", TENSORS)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "file" / "x.safetensors", TENSORS)

    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"x\.safetensors cannot be written: Permission denied"):
        write(tmp_path / "x.safetensors", TENSORS)


def test_a_dtype_that_the_format_lacks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tensor z is"):
        TensorFile(tmp_path / "x", specs({"z": torch.zeros(1, dtype=torch.complex128)}), {})


def test_a_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"former")
    script = f"""
import os, signal, torch
from pathlib import Path
from wsopt.checkpoints import TensorSpec
from wsopt.merge import TensorFile
spec = TensorSpec((1000,), torch.float32)
with TensorFile(Path({str(path)!r}), {{"a": spec, "b": spec}}, {{}}) as file:
    file.put("a", torch.zeros(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], env=dict(os.environ), check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"former"
    write(path, TENSORS)  # what the killed one left does not stand in the way
    assert [one.name for one in tmp_path.iterdir()] == ["x.safetensors"]
