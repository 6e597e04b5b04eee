"""Files that announce more than they hold, or that are no files: told without the memory and time they ask for."""

from __future__ import annotations

import json
import os
import pickle
import signal
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from wsopt.checkpoints import DiffusersReader, EdmPickleReader, SafetensorsReader, TorchReader, open_checkpoints, scan
from wsopt.errors import CheckpointError

READERS = [DiffusersReader(), SafetensorsReader(), TorchReader(), EdmPickleReader()]


class Late(BaseException):
    """No error that a reader could take for a file's."""


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    """30 seconds and, of what Python allocates, 200 MB."""

    def late(number: int, frame: FrameType | None) -> None:
        raise Late

    signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    signal.alarm(0)
    assert peak < 200e6


def message(path: Path) -> str:
    (problem,) = scan([path], READERS).problems
    assert problem.kind == "torn"
    assert str(path) in problem.text
    return problem.text


def views(path: Path, count: int, of: torch.Tensor) -> Path:
    torch.save({f"w{index}": of[:] for index in range(count)}, path)
    return path


def test_a_record_that_is_longer_than_its_file(tmp_path: Path) -> None:
    path = tmp_path / "model1.pt"
    torch.save({"w": torch.zeros(3)}, path)
    with zipfile.ZipFile(path) as archive:
        records = {one.filename: archive.read(one) for one in archive.infolist()}
    data = records["model1/data.pkl"].replace(b"K\x03\x85", b"J\0\0\0\x40\x85").replace(b"K\x03t", b"J\0\0\0\x40t")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model1/data.pkl", data)
        archive.writestr("model1/data/0", bytes(12))
        archive.filelist[-1].file_size = archive.filelist[-1].compress_size = 4 << 30
    assert "its record data/0 alone should have 4,294,967,296" in message(path)


def test_views_of_one_storage(tmp_path: Path) -> None:
    assert "repeat the same values" in message(views(tmp_path / "model1.pt", 100, torch.zeros(1 << 19)))
    assert "repeat the same values" in message(views(tmp_path / "model2.pt", 100, torch.zeros(1).expand(1 << 20)))
    tied = views(tmp_path / "model4.pt", 8, torch.arange(1e5))
    (snapshot,) = TorchReader().scan(tied)
    assert len(snapshot.load()) == 8


def test_a_compressed_file_that_unpacks_to_much_more(tmp_path: Path) -> None:
    path, packed = tmp_path / "plain.pt", tmp_path / "model1.pt"
    torch.save({"w": torch.zeros(1 << 25)}, path)
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in plain.infolist():
            archive.writestr(one.filename, plain.read(one))
    path.unlink()
    tracemalloc.reset_peak()
    assert "are compressed" in message(packed)


AXES = 20_000


def test_a_shape_of_endless_axes(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 62] * AXES, "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "1.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert "its header is damaged" in message(path)

    sizes = b"(" + b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\x7f\0" * AXES + b"t"
    whole = pickle.dumps({"w": np.zeros(3, "f4")}, protocol=2)
    assert whole.count(b"K\x03\x85") == 1
    path = tmp_path / "2.pkl"
    path.write_bytes(whole.replace(b"K\x03\x85", sizes))
    assert "impossible shape" in message(path)

    torch.save({"w": torch.zeros(3)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "3.pt", "w") as archive:
        data = plain.read("plain/data.pkl")
        archive.writestr("a/data.pkl", data.replace(b"K\x03\x85", sizes))
        archive.writestr("a/data/0", plain.read("plain/data/0"))
    assert "impossible shape" in message(tmp_path / "3.pt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / "model.safetensors.index.json")
    save_file({"w": torch.ones(2)}, tmp_path / "run" / "diffusion_pytorch_model.safetensors")
    (snapshot,) = scan([tmp_path / "run"], READERS).snapshots
    assert snapshot.load()["w"].tolist() == [1, 1]


def test_a_link_to_a_device_leads_somewhere(tmp_path: Path) -> None:
    (tmp_path / "model1.pt").symlink_to(os.devnull)
    assert "is neither a file nor a folder" in message(tmp_path / "model1.pt")
    (tmp_path / "model2.pt").symlink_to("nowhere")
    assert "is a symbolic link that leads nowhere" in message(tmp_path / "model2.pt")


def test_thousands_of_files_without_a_step(tmp_path: Path) -> None:
    """Each is compared once with all others, not once more for each of these."""
    save_file({"w": torch.ones(4)}, tmp_path / "model-1.safetensors")
    whole = (tmp_path / "model-1.safetensors").read_bytes()
    letters = str.maketrans("0123456789", "abcdefghij")
    for number in range(2, 1500):
        data = whole[:-4] + struct.pack("<f", number)
        name = f"{number}" if number % 2 else f"{number}".translate(letters)
        (tmp_path / f"model-{name}.safetensors").write_bytes(data)
    (tmp_path / "model-last.safetensors").write_bytes(whole)
    opened = open_checkpoints(tmp_path, [SafetensorsReader()])
    assert len(opened) == 750
    assert len(opened.notes) == 750
    assert any("model-last.safetensors holds the same weights as" in note for note in opened.notes)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    torch.save({"fine": torch.ones(2), "bad\ud800": torch.ones(2)}, tmp_path / "model1.pt")
    assert r"the name 'bad\ud800' of a tensor is no valid text" in message(tmp_path / "model1.pt")


def test_complex_tensors_of_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model1.safetensors"
    save_file({"freqs": torch.full((2,), 1j)}, path)
    (snapshot,) = SafetensorsReader().scan(path)
    assert snapshot.load()["freqs"].equal(load_file(path)["freqs"])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantized_tensors_are_named(tmp_path: Path) -> None:
    torch.save({"w": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, tmp_path / "model1.pt")
    with pytest.raises(CheckpointError, match=r"model1\.pt holds quantized tensors"):
        TorchReader().scan(tmp_path / "model1.pt")


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "pkl"])
def test_a_file_that_changes_between_scan_and_load(tmp_path: Path, suffix: str) -> None:
    def save(size: int) -> None:
        tensors = {"v": torch.ones(2), "w": torch.ones(size)}
        if suffix == "pkl":
            path.write_bytes(pickle.dumps(tensors))
        elif suffix == "pt":
            torch.save(tensors, path)
        else:
            save_file(tensors, path)

    path = tmp_path / f"model1.{suffix}"
    save(300)
    (snapshot,) = scan([path], READERS).snapshots
    save(5)
    with pytest.raises(CheckpointError, match=r"has changed: tensor w was \[300\] float32 and is now \[5\] float32"):
        snapshot.load()
