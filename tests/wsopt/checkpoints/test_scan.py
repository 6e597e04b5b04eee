"""What lies in a folder: content decides, and other programs' files are no nuisance."""

from __future__ import annotations

import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wsopt.checkpoints import Inventory, SafetensorsReader, TorchReader, open_checkpoints, scan
from wsopt.checkpoints._duplicates import BLOCK_BYTES, duplicate_groups
from wsopt.checkpoints._scan import below_with_checkpoints
from wsopt.errors import CheckpointError

READERS = [SafetensorsReader(), TorchReader()]
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 1183600000\n"


def save(path: Path, value: float = 0.0, size: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"w": torch.full((size,), value)}, path)
    return path


def scanned(folder: Path) -> Inventory:
    return scan([folder], READERS)


def write_others(folder: Path) -> dict[str, str]:
    """Files of other programs, and what they are."""
    (folder / "log.txt").write_text("step 10: loss 0.5 \u2603\n" * 1000, encoding="utf-8")
    (folder / "progress2.csv").write_text("a,b\n1,2\n")
    (folder / "config.yml").write_text("!!python/object:argparse.Namespace\na: 1\n")
    (folder / "empty.log").write_bytes(b"")
    (folder / "sample_0001.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    (folder / "grid.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(64))
    record = b"\x1a\x0d\x00\x00\x00\x00\x00\x00brain.Event:2"
    (folder / "events.out.tfevents.1700000000.host").write_bytes(struct.pack("<Q", 24) + bytes(4) + record + bytes(9))
    np.save(folder / "stats.npy", np.zeros(3))
    np.savez(folder / "fid_stats.npz", mu=np.zeros(3), sigma=np.eye(3))
    with zipfile.ZipFile(folder / "code.zip", "w") as archive:
        archive.writestr("train.py", "print()")
    (folder / "code.tar.gz").write_bytes(b"\x1f\x8b" + bytes(20))
    return {
        "log.txt": "text",
        "progress2.csv": "text",
        "config.yml": "text",
        "empty.log": "empty file",
        "sample_0001.png": "image",
        "grid.jpg": "image",
        "events.out.tfevents.1700000000.host": "TensorBoard events",
        "stats.npy": "numpy array",
        "fid_stats.npz": "numpy arrays",
        "code.zip": "zip archive",
        "code.tar.gz": "compressed file",
    }


def test_other_files_are_listed_and_never_an_error(tmp_path: Path) -> None:
    expected = write_others(tmp_path)
    for step in (1, 2):
        save(tmp_path / f"{step}.safetensors", step)
    found = scanned(tmp_path)
    assert {path.name: kind for path, kind in found.others} == expected
    assert found.problems == ()
    assert open_checkpoints(tmp_path, READERS).steps == (1, 2)


@pytest.mark.parametrize("name", ["x.pt", "x.pth", "x.ckpt", "x.bin", "x.safetensors", "x.pkl", "x.msgpack", "model_7"])
@pytest.mark.parametrize("content", [b"<!DOCTYPE html><p>404</p>", b"\x00\x01\xfe\xff" * 20])
def test_what_is_named_like_a_checkpoint_and_is_none_is_foreign(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    (problem,) = scan([tmp_path], [SafetensorsReader()]).problems
    assert problem.kind == "foreign"
    assert f"{name} is no checkpoint of a known format" in problem.text
    assert ("it is text that begins with '<!DOCTYPE html>" in problem.text) == content.startswith(b"<")


def test_unknown_binary_content_is_foreign_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1") * 3000)
    (tmp_path / "control.txt").write_bytes(b"text\x00text")
    assert {one.path.name: one.kind for one in scanned(tmp_path).problems} == dict.fromkeys(
        ["weights.h5", "latin.txt", "control.txt"], "foreign"
    )


def test_a_character_cut_off_at_the_end_of_what_is_read_is_text(tmp_path: Path) -> None:
    for shift in range(3):
        (tmp_path / f"notes{shift}.md").write_text("x" * shift + "\u20ac" * 3000, encoding="utf-8")
    assert [kind for _, kind in scanned(tmp_path).others] == ["text"] * 3


def test_a_pointer_of_git_lfs_has_its_own_message(tmp_path: Path) -> None:
    for name in ("1.safetensors", "2.pt"):
        (tmp_path / name).write_text(LFS)
    for problem in scanned(tmp_path).problems:
        assert problem.kind == "torn"
        assert (
            f"{len(LFS)} bytes that stand for a file of 1,183,600,000. Fetch the file itself: git lfs pull"
            in problem.text
        )
    assert len(scanned(tmp_path).problems) == 2


def test_files_that_may_not_be_read_are_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = save(tmp_path / "1.safetensors")
    opened = Path.open

    def refused(self: Path, *args: object, **kwargs: object) -> object:
        if self == locked:
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refused)
    (problem,) = scanned(tmp_path).problems
    assert problem.kind == "torn"
    assert "1.safetensors cannot be read: Permission denied" in problem.text


def test_a_path_given_twice_counts_once_and_order_is_by_number(tmp_path: Path) -> None:
    names = ["model9.safetensors", "model10.safetensors", "model100.safetensors"]
    for name in reversed(names):
        save(tmp_path / name)
    found = scan([tmp_path, tmp_path / names[1], tmp_path], READERS)
    assert [one.path.name for one in found.snapshots] == names


def test_hidden_entries_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / ".1.safetensors.tmp").write_bytes(b"half")
    (tmp_path / ".cache").mkdir()
    found = scanned(tmp_path)
    assert (found.problems, found.others, found.subfolders) == ((), (), ())


def test_checkpoints_in_subfolders_are_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    save(tmp_path / "out" / "run" / "1.safetensors")
    assert [path for path, _ in below_with_checkpoints(scanned(tmp_path))] == [tmp_path / "out" / "run"]
    with pytest.raises(CheckpointError) as caught:
        open_checkpoints(tmp_path, READERS)
    assert f"its subfolder {tmp_path / 'out' / 'run'} does: set checkpoints.path to it" in str(caught.value)
    save(tmp_path / "b" / "1.safetensors")
    with pytest.raises(CheckpointError, match=r"2 of its subfolders do .*Set checkpoints\.path to one of them"):
        open_checkpoints(tmp_path, READERS)


# ---- copies


def groups(folder: Path) -> list[list[str]]:
    return [[one.path.name for one in group] for group in duplicate_groups(scanned(folder).snapshots)]


def test_copies_are_found_whatever_they_are_called(tmp_path: Path) -> None:
    for name, value in (("1", 1.0), ("2", 2.0), ("3", 3.0)):
        save(tmp_path / f"{name}.safetensors", value, 100_000)
    shutil.copy(tmp_path / "2.safetensors", tmp_path / "last.safetensors")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "3.safetensors")
    assert groups(tmp_path) == [["2.safetensors", "last.safetensors"], ["3.safetensors", "link.safetensors"]]


@pytest.mark.parametrize("where", [0.0, 0.3, 0.5, 0.99])
def test_files_that_differ_somewhere_are_no_copies(tmp_path: Path, where: float) -> None:
    # A small file is compared whole, so that one bit is enough.
    path = save(tmp_path / "1.safetensors", 1.0, 10_000)
    data = bytearray(path.read_bytes())
    header = len(data) - 40_000
    data[header + int(where * 40_000)] ^= 1
    (tmp_path / "2.safetensors").write_bytes(data)
    assert groups(tmp_path) == []


def test_large_files_are_compared_by_blocks(tmp_path: Path) -> None:
    path = save(tmp_path / "1.safetensors", 1.0, 1_000_000)
    data = bytearray(path.read_bytes())
    start = (len(data) - BLOCK_BYTES) * 7 // 31
    data[start + 5] ^= 1
    (tmp_path / "2.safetensors").write_bytes(data)
    assert groups(tmp_path) == []


def test_torch_files_saved_twice_are_copies_though_their_bytes_differ(tmp_path: Path) -> None:
    for step in (5000, 10000):
        weights = {"module.w": torch.full((5, 5), float(step))}
        for name in (f"ckpt_{step}.pth", "ckpt.pth"):
            torch.save(
                [weights, {"state": {}, "param_groups": []}, 3, step, {"w": torch.full((5, 5), step + 1.0)}],
                tmp_path / name,
            )
    assert (tmp_path / "ckpt.pth").read_bytes() != (tmp_path / "ckpt_10000.pth").read_bytes()
    assert groups(tmp_path) == [["ckpt.pth", "ckpt_10000.pth"]] * 2
    found = open_checkpoints(tmp_path, READERS)
    assert found.steps == (5000, 10000)
    assert found.paths[1].name == "ckpt_10000.pth"
    assert [ema.path.name for ema in found.emas] == ["ckpt_5000.pth", "ckpt_10000.pth"]
    assert len(found.notes) == 2
    assert f"{tmp_path / 'ckpt.pth'} (0) holds the same weights as {tmp_path / 'ckpt_10000.pth'} (0)" in found.notes[0]


def test_without_checksums_bytes_decide(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        for name, value in (("a_1.pt", 1.0), ("b_1.pt", 2.0), ("c_1.pt", 2.0)):
            torch.save({"w": torch.full((9,), value)}, tmp_path / name)
    finally:
        torch.serialization.set_crc32_options(before)
    shutil.copy(tmp_path / "b_1.pt", tmp_path / "d_1.pt")
    assert groups(tmp_path) == [["b_1.pt", "d_1.pt"]]


def test_what_is_gone_is_no_copy(tmp_path: Path) -> None:
    first, second = save(tmp_path / "1.safetensors"), save(tmp_path / "2.safetensors")
    one, other = scanned(tmp_path).snapshots
    assert duplicate_groups([one, other])
    second.unlink()
    assert not duplicate_groups([one, other])
    assert first.exists()
