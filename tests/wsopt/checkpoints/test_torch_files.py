"""Files of torch.save as files: zip and legacy, torn and damaged, what is read and what is kept in memory."""

from __future__ import annotations

import os
import pickle
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wsopt.checkpoints import EdmPickleReader, Selection, Stream, TensorSpec, TorchReader, open_checkpoints, scan
from wsopt.errors import CheckpointError

READER = TorchReader()


def weights(seed: int = 0) -> dict[str, Tensor]:
    values = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=values),
        "conv.bias": torch.randn(4, generator=values).half(),
        "norm.weight": torch.randn(4, generator=values, dtype=torch.float64),
        "head.weight": torch.randn(2, 4, generator=values).bfloat16(),
        "steps": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "nothing": torch.zeros(0, 3),
    }


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype, name
        assert tensor.is_contiguous()
        assert not tensor.requires_grad
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
        assert torch.equal(tensor, expected[name].detach()), name


def failure(path: Path) -> str:
    assert READER.recognises(path)
    with pytest.raises(CheckpointError) as caught:
        [snapshot.load() for snapshot in READER.scan(path)]
    assert path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_names_shapes_dtypes_and_values(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "model000100.pt"
    torch.save(weights(), path, _use_new_zipfile_serialization=zipped)
    assert READER.recognises(path)
    assert not EdmPickleReader().recognises(path)
    (found,) = READER.scan(path)
    assert (found.part, found.stream, found.step) == ("", Stream("raw"), 100)
    assert found.tensors == {name: TensorSpec(tuple(one.shape), one.dtype) for name, one in weights().items()}
    same(found.load(), weights())


def test_other_formats_are_not_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.zeros(3))
    zipfile.ZipFile(tmp_path / "b.zip", "w").close()
    (tmp_path / "c.txt").write_text("PK is not enough")
    (tmp_path / "d.pkl").write_bytes(pickle.dumps({"w": 1}))
    (tmp_path / "e.md").write_text("")
    (tmp_path / "f.pt").mkdir()
    assert [path.name for path in tmp_path.iterdir() if READER.recognises(path)] == []


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "weights-5.safetensors"
    torch.save(weights(), path)
    assert READER.recognises(path)
    same(READER.scan(path)[0].load(), weights())


def test_every_truncation_of_a_zip_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "model000100.pt"
    torch.save({"w": torch.arange(300.0)}, path)
    whole = path.read_bytes()
    for length in [*range(0, 300), *range(300, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert "model000100.pt is torn" in failure(path), length
    inventory = scan([tmp_path], [READER])
    assert [(one.path, one.kind) for one in inventory.problems] == [(path, "torn")]


def test_every_truncation_of_a_legacy_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model000100.pt"
    torch.save({"w": torch.arange(300.0)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for length in [*range(16, len(whole), 11), len(whole) - 1]:
        path.write_bytes(whole[:length])
        failure(path)
    assert "is torn" in failure(path)


def test_a_record_that_is_missing_or_too_short_is_torn(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.pt", tmp_path / "model000100.pt"
    torch.save({"w": torch.arange(10.0), "v": torch.arange(5.0)}, plain)
    for size, said in ((None, "missing"), (39, "39 bytes long"), (41, "41 bytes long")):
        with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w") as new:
            for one in old.infolist():
                if not one.filename.endswith("data/0"):
                    new.writestr(one, old.read(one))
                elif size is not None:
                    new.writestr(one.filename, bytes(size))
        assert f"record data/0 is {said}, expected 40 bytes" in failure(path)


def test_the_scan_reads_no_tensor(tmp_path: Path) -> None:
    path = tmp_path / "model000100.pt"
    torch.save({"w": torch.full((5000,), 1.25), "b": torch.full((300,), 1.25)}, path)
    before = READER.scan(path)
    data = path.read_bytes().replace(torch.tensor([1.25]).numpy().tobytes(), b"\xff" * 4)
    path.write_bytes(data)
    assert READER.scan(path) == before
    assert before[0].load()["w"].isnan().all()


def test_a_part_of_a_large_file_is_all_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ckpt_5.pth"
    big = {f"w{i}": torch.zeros(1 << 20) for i in range(3)}
    small = {"w": torch.zeros(1 << 18)}
    torch.save([small, {"state": {0: big}, "param_groups": []}, 1, 5], path)
    (found,) = READER.scan(path)
    tracemalloc.start()
    found.load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.nbytes <= peak < 1.5 * found.nbytes


def test_views_of_one_flat_storage_come_apart(tmp_path: Path) -> None:
    path = tmp_path / "ema_0.9999_050000.pt"
    flat = torch.arange(1000.0).requires_grad_()
    held = OrderedDict(a=flat[:600].view(20, 30), b=flat[600:650], c=flat[650:].view(35, 10).t())
    torch.save(held, path)
    assert path.stat().st_size < 4 * 1000 + 3000
    (found,) = READER.scan(path)
    assert (found.stream, found.step) == (Stream("ema", 0.9999), 50_000)
    loaded = found.load()
    same(loaded, dict(held))
    loaded["a"].zero_()
    assert loaded["b"][0] == 600


def test_tied_weights_and_parameters_are_independent(tmp_path: Path) -> None:
    path = tmp_path / "target_model000010.pt"
    one = torch.nn.Parameter(torch.arange(4.0))
    torch.save({"in": one, "out": one}, path)
    (found,) = READER.scan(path)
    assert found.stream == Stream("target")
    loaded = found.load()
    assert type(loaded["in"]) is Tensor
    loaded["in"].zero_()
    assert loaded["out"].tolist() == [0, 1, 2, 3]


def test_loaded_tensors_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model000100.pt"
    torch.save(weights(), path)
    loaded = READER.scan(path)[0].load()
    os.truncate(path, 0)
    path.unlink()
    same(loaded, weights())


def test_the_metadata_of_a_state_dict_does_not_hinder(tmp_path: Path) -> None:
    path = tmp_path / "model000100.pt"
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    state = network.state_dict()
    assert state._metadata  # type: ignore[attr-defined]
    torch.save(state, path)
    same(READER.scan(path)[0].load(), dict(state))


def test_a_broadcast_view_is_read_unless_it_is_absurd(tmp_path: Path) -> None:
    path = tmp_path / "model000100.pt"
    view = torch.arange(3.0).expand(4, 3)
    torch.save({"w": view}, path)
    same(READER.scan(path)[0].load(), {"w": view})
    torch.save({"w": torch.zeros(1).expand(1 << 40)}, path)
    assert "model000100.pt is damaged" in failure(path)


def test_what_only_torch_can_read_is_left_to_it(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.pt", tmp_path / "model000100.pt"
    torch.save(weights(), plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for one in old.infolist():
            new.writestr(one.filename, old.read(one))
    same(READER.scan(path)[0].load(), weights())
    odd = {"w": torch.zeros(3, dtype=torch.float8_e4m3fn), "v": torch.ones(2)}
    torch.save(odd, path)
    (found,) = READER.scan(path)
    assert str(found.tensors["w"]) == "[3] float8_e4m3fn"
    assert found.load()["w"].dtype == torch.float8_e4m3fn
    turned = torch.tensor([1 + 2j, 3 - 4j]).conj()
    torch.save({"w": turned, "v": turned.clone().imag}, path)
    same(READER.scan(path)[0].load(), {"w": turned.resolve_conj(), "v": torch.tensor([-2.0, 4.0])})
    torch.save({"w": torch.eye(3).to_sparse(), "v": torch.ones(2)}, path)
    assert "tensor w is sparse" in failure(path)


def test_a_file_saved_without_checksums_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model000100.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(weights(), path)
    finally:
        torch.serialization.set_crc32_options(True)
    same(READER.scan(path)[0].load(), weights())


def test_a_torchscript_program_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model000100.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}.")
        archive.writestr("model/constants.pkl", b"\x80\x02).")
    assert "model000100.pt is a TorchScript program, not weights" in failure(path)


def test_a_whole_module_of_a_foreign_class_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model000100.pt"
    torch.save(Foreign(), path)
    message = failure(path)
    assert "Foreign, which wsopt would have to run" in message
    torch.save(Foreign(), path, _use_new_zipfile_serialization=False)
    assert "Foreign" in failure(path)


class Foreign(torch.nn.Linear):
    def __init__(self) -> None:
        super().__init__(1, 1)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model000100.pt"
    torch.save(weights(), path)
    (found,) = READER.scan(path)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"model000100\.pt cannot be read: No such file"):
        found.load()
    with pytest.raises(CheckpointError, match=r"model000100\.pt cannot be read: No such file"):
        READER.scan(path)


def test_a_file_that_lost_its_end_after_the_scan_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model000100.pt"
    torch.save(weights(), path)
    (found,) = READER.scan(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CheckpointError, match=r"model000100\.pt is torn"):
        found.load()


def test_a_run_is_opened_in_the_order_of_its_steps(tmp_path: Path) -> None:
    for step in (900_000, 1_000_000):
        torch.save({"w": torch.full((2,), float(step))}, tmp_path / f"model{step:06d}.pt")
        torch.save({"w": torch.full((2,), 1.0)}, tmp_path / f"ema_0.9999_{step:06d}.pt")
        torch.save({"state": {0: torch.zeros(2)}, "param_groups": [{}]}, tmp_path / f"opt{step:06d}.pt")
    opened = open_checkpoints(tmp_path, [READER], Selection())
    assert opened.steps == (900_000, 1_000_000)
    assert opened.load(1)["w"].tolist() == [1_000_000] * 2
    assert {one.stream for one in opened.emas} == {Stream("ema", 0.9999)}
