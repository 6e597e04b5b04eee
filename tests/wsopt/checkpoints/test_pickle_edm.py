"""Snapshots and training states in NVlabs' layouts, written by classes of the same names and read without them."""

from __future__ import annotations

import importlib
import io
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wsopt.checkpoints import EdmPickleReader, Snapshot, Stream, TorchReader
from wsopt.errors import CheckpointError

# Classes whose instances are pickled as a call to one function, with their source code beside their state.
_SOURCES = {
    "dnnlib/__init__.py": "from dnnlib.util import EasyDict\n",
    "dnnlib/util.py": """
class EasyDict(dict):
    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name)
""",
    "torch_utils/__init__.py": "",
    "torch_utils/persistence.py": """
import pathlib
import dnnlib

def _reconstruct_persistent_obj(meta):
    pathlib.Path(MARKER).write_text("ran")

class Persistent:
    def __reduce__(self):
        state = dict(self.__dict__)
        meta = dnnlib.EasyDict(type="class", version=6, module_src=f"open({MARKER!r}, 'w')",
                               class_name=type(self).__name__, state=state)
        return _reconstruct_persistent_obj, (meta,)
""",
    "networks.py": """
import numpy as np
import torch
from torch_utils.persistence import Persistent

class SongUNet(Persistent, torch.nn.Module):
    def __init__(self, width, skip_scale, seed):
        super().__init__()
        self._init_args = ()
        self._init_kwargs = dict(width=width, skip_scale=skip_scale, channel_mult=[1, 2], dropout=0.1)
        values = torch.Generator().manual_seed(seed)
        self.weight = torch.nn.Parameter(torch.randn(width, 3, 2, generator=values))
        self.halves = torch.nn.Parameter(torch.randn(70, generator=values).half())
        self.bias = torch.nn.Parameter(torch.randn(1, generator=values), requires_grad=False)
        self.register_parameter("absent", None)
        self.register_buffer("resample_filter", torch.randn(2, 2, generator=values))
        self.register_buffer("scratch", torch.randn(5, generator=values), persistent=False)
        self.register_buffer("nothing", None)
        self.skip_scale = skip_scale
        self.enc = torch.nn.ModuleDict({"8x8_conv": torch.nn.Linear(3, 4), "8x8_norm": torch.nn.GroupNorm(2, 4)})
        with torch.no_grad():
            self.enc["8x8_conv"].weight.copy_(torch.randn(4, 3, generator=values))

class EDMPrecond(Persistent, torch.nn.Module):
    def __init__(self, img_resolution, seed):
        super().__init__()
        self._init_args = (img_resolution,)
        self._init_kwargs = dict(model_type="SongUNet", sigma_data=np.float64(0.5), label_dim=np.int64(10), odd=object)
        self.model = SongUNet(4, np.sqrt(.5), seed)

class EDMLoss(Persistent):
    def __init__(self):
        self.P_mean, self.P_std, self.sigma_data = -1.2, 1.2, np.float64(0.5)
""",
}


@pytest.fixture
def edm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The classes, importable until `forget` is called; `marker` is a file that running any of them makes."""
    root, marker = tmp_path / "code", tmp_path / "ran"
    for name, source in _SOURCES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"MARKER = {str(marker)!r}\n{source}")
    monkeypatch.syspath_prepend(root)
    networks = importlib.import_module("networks")
    dnnlib = importlib.import_module("dnnlib")

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("networks", "dnnlib", "torch_utils")]:
            del sys.modules[name]
        if str(root) in sys.path:
            sys.path.remove(str(root))

    yield SimpleNamespace(networks=networks, EasyDict=dnnlib.EasyDict, forget=forget, marker=marker)
    forget()


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(found) == list(expected)
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype, name
        assert not tensor.requires_grad
        assert torch.equal(tensor, expected[name].detach()), name


def pickled(value: object, protocol: int = 4) -> bytes:
    buffer = io.BytesIO()
    pickle.dump(value, buffer, protocol=protocol)
    return buffer.getvalue()


def snapshot_of(edm: SimpleNamespace, path: Path, protocol: int = 4, seed: int = 0) -> tuple[bytes, dict[str, Tensor]]:
    net = edm.networks.EDMPrecond(8, seed)
    net._init_kwargs.pop("odd")
    expected = {name: one.detach().clone() for name, one in net.state_dict().items()}
    held = {"ema": net, "loss_fn": edm.networks.EDMLoss(), "augment_pipe": None,
            "dataset_kwargs": edm.EasyDict(path="here", resolution=8)}  # fmt: skip
    data = pickled(held, protocol)
    path.write_bytes(data)
    return data, expected


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("numpy_name", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_a_snapshot_gives_its_state_dict_and_its_architecture(
    edm: SimpleNamespace, tmp_path: Path, protocol: int, numpy_name: bytes
) -> None:
    path = tmp_path / "network-snapshot-002500.pkl"
    data, expected = snapshot_of(edm, path, protocol)
    edm.forget()
    for name in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        shift = len(numpy_name) - len(name)
        length = bytes([0x8C, len(name)])  # SHORT_BINUNICODE of protocol 4; frames only guide the reading
        data = data.replace(length + name, bytes([0x8C, len(name) + shift]) + numpy_name)
        data = data.replace(b"c" + name + b"\n", b"c" + numpy_name + b"\n")
    path.write_bytes(data)
    assert numpy_name in data
    assert b"torch_utils.persistence" in data
    reader = EdmPickleReader()
    assert reader.recognises(path)
    assert not TorchReader().recognises(path)
    (found,) = reader.scan(path)
    assert (found.part, found.stream, found.step) == ("", Stream("ema"), 2500)
    assert {name: (spec.shape, spec.dtype) for name, spec in found.tensors.items()} == {
        name: (tuple(one.shape), one.dtype) for name, one in expected.items()
    }
    assert "model.enc.8x8_conv.weight" in found.tensors
    assert "model.scratch" not in found.tensors
    assert found.config == {
        "class_name": "EDMPrecond",
        "init_args": [8],
        "init_kwargs": {"model_type": "SongUNet", "sigma_data": 0.5, "label_dim": 10},
        "loss_fn": {"class_name": "EDMLoss", "P_mean": -1.2, "P_std": 1.2, "sigma_data": 0.5},
    }
    same(found.load(), expected)
    assert not edm.marker.exists()


def test_an_edm2_snapshot_has_the_width_of_its_name(edm: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "network-snapshot-0008388-0.050.pkl"
    net = edm.networks.SongUNet(4, 0.5, 0).half()
    expected = {name: one.detach().clone() for name, one in net.state_dict().items()}
    path.write_bytes(pickled(edm.EasyDict(encoder=None, dataset_kwargs={}, ema=net)))
    edm.forget()
    (found,) = EdmPickleReader().scan(path)
    assert (found.stream, found.step) == (Stream("ema", width=0.05), 8388)
    assert {spec.dtype for spec in found.tensors.values()} == {torch.float16}
    same(found.load(), expected)


def test_the_scan_reads_no_tensor(edm: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "network-snapshot-000001.pkl"
    data, _ = snapshot_of(edm, path)
    net = edm.networks.EDMPrecond(8, 0)
    edm.forget()
    before = EdmPickleReader().scan(path)
    for name in ("weight", "resample_filter"):
        values = getattr(net.model, name).detach().numpy().tobytes()
        assert data.count(values) == 1
        data = data.replace(values, b"\xff" * len(values))
    path.write_bytes(data)
    assert EdmPickleReader().scan(path) == before


def test_the_scan_holds_no_tensor_in_memory(tmp_path: Path) -> None:
    tracemalloc = importlib.import_module("tracemalloc")
    path = tmp_path / "big-1.pkl"
    size = 1 << 22
    path.write_bytes(pickled({f"w{i}": torch.zeros(size // 4) for i in range(8)}))
    reader = EdmPickleReader()
    reader.scan(path)
    tracemalloc.start()
    (found,) = reader.scan(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.nbytes == 8 * size
    assert peak < size // 4


def test_a_training_state_gives_the_raw_network(edm: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "training-state-000500.pt"
    net = edm.networks.EDMPrecond(8, 3)
    net._init_kwargs.pop("odd")
    expected = {name: one.detach().clone() for name, one in net.state_dict().items()}
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    torch.save({"net": net, "optimizer_state": optimizer.state_dict()}, path)
    edm.forget()
    (found,) = TorchReader().scan(path)
    assert (found.part, found.stream, found.step) == ("", Stream("raw"), 500)
    assert found.config["init_kwargs"] == {"model_type": "SongUNet", "sigma_data": 0.5, "label_dim": 10}
    same(found.load(), expected)
    assert not edm.marker.exists()


def test_a_training_state_with_compressed_records_is_read_by_stand_ins(edm: SimpleNamespace, tmp_path: Path) -> None:
    zipfile = importlib.import_module("zipfile")
    plain, path = tmp_path / "plain.pt", tmp_path / "training-state-000500.pt"
    net = edm.networks.EDMPrecond(8, 3)
    expected = {name: one.detach().clone() for name, one in net.state_dict().items()}
    net._init_kwargs.pop("odd")
    torch.save({"net": net}, plain)
    edm.forget()
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for one in old.infolist():
            new.writestr(one.filename, old.read(one))
    before = set(torch.serialization.get_safe_globals())
    (found,) = TorchReader().scan(path)
    same(found.load(), expected)
    assert set(torch.serialization.get_safe_globals()) == before
    assert not edm.marker.exists()


def test_an_edm2_training_state_gives_the_net_and_one_ema_for_each_width(edm: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "training-state-0016777.pt"
    net, short, long = ({"w": torch.full((3,), value)} for value in (1.0, 2.0, 3.0))
    state = edm.EasyDict(cur_nimg=16_777_216, total_elapsed_time=1.5)
    torch.save(
        {"state": state, "net": net, "optimizer": {"state": {}, "param_groups": []},
         "ema": {"stds": [0.05, 0.1], "emas": [short, long]}, "loss_fn": edm.EasyDict(P_mean=np.float64(-0.4))},
        path,
    )  # fmt: skip
    edm.forget()
    found = TorchReader().scan(path)
    assert [(one.part, one.stream, one.step) for one in found] == [
        ("net", Stream("raw"), 16777),
        ("ema/emas/0", Stream("ema", width=0.05), 16777),
        ("ema/emas/1", Stream("ema", width=0.1), 16777),
    ]
    for one, expected in zip(found, (net, short, long), strict=True):
        same(one.load(), expected)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_dictionary_of_arrays_and_tensors_is_read(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "weights-7.pkl"
    held: dict[str, Any] = {
        "small": np.arange(4, dtype=np.float32),
        "fortran": np.asfortranarray(np.arange(60, dtype=np.float64).reshape(6, 10)),
        "whole": np.arange(100, dtype=np.int64),
        "scalar": np.array(2.5, dtype=np.float16),
        "epoch": 3,
    }
    if protocol > 2:  # below, storages are saved as text
        held["view"] = torch.arange(200.0).reshape(10, 20)[2:4, ::3]
    path.write_bytes(pickled(held, protocol))
    (found,) = EdmPickleReader().scan(path)
    assert (found.stream, found.step) == (Stream("raw"), 7)
    same(found.load(), {name: torch.as_tensor(one) for name, one in held.items() if name != "epoch"})


def test_a_pickle_of_another_layout_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a-1.pkl"
    path.write_bytes(pickled({"generator": {"w": np.zeros(3)}, "step": 3}))
    with pytest.raises(
        CheckpointError, match=r"a-1\.pkl is a pickle of an unknown layout \(top level: generator, step"
    ):
        EdmPickleReader().scan(path)
    path.write_bytes(pickled({"epoch": 3}))
    assert EdmPickleReader().scan(path) == []


def test_a_module_class_that_is_unknown_is_refused_by_name(edm: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "network-snapshot-000001.pkl"
    net = edm.networks.EDMPrecond(8, 0)
    path.write_bytes(pickled({"ema": net}))
    edm.forget()
    with pytest.raises(CheckpointError, match=r"asks for builtins\.object.*never runs code from a file"):
        EdmPickleReader().scan(path)


def test_a_file_that_changed_since_it_was_scanned_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w-1.pkl"
    path.write_bytes(pickled({"w": np.arange(1000.0)}))
    (found,) = EdmPickleReader().scan(path)
    assert isinstance(found, Snapshot)
    path.write_bytes(pickled({"epoch": 1}))
    with pytest.raises(CheckpointError, match=r"w-1\.pkl no longer holds weights"):
        found.load()
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"w-1\.pkl is torn"):
        found.load()
