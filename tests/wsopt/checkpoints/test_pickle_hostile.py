"""Pickles that would run code, exhaust memory or are damaged: one error that names the file, and no effect."""

from __future__ import annotations

import io
import pickle
import resource
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from wsopt.checkpoints import CheckpointReader, EdmPickleReader, TorchReader
from wsopt.errors import CheckpointError

READERS: list[CheckpointReader] = [TorchReader(), EdmPickleReader()]
WEIGHTS = {"w": torch.arange(100.0)}


@pytest.fixture(autouse=True)
def limited_memory() -> Iterator[None]:
    """No test may allocate more than 4 GiB beyond what the process has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 1 << 22
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (4 << 30), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def load_all(path: Path, reader: CheckpointReader) -> str | None:
    """The message of the CheckpointError that scanning and loading `path` ends with; None where both succeed."""
    try:
        for snapshot in reader.scan(path):
            snapshot.load()
    except CheckpointError as error:
        return str(error)
    return None


def attempt(path: Path) -> str:
    """The message that opening `path` ends with; loads whatever a scan lets through."""
    message = load_all(path, next(reader for reader in READERS if reader.recognises(path)))
    assert message is not None
    assert path.name in message
    assert len(message) < 1000
    return message


class Calls:
    """Pickled as a call of `function` with `arguments`, and a state that is built upon its result."""

    def __init__(self, function: Callable[..., Any], *arguments: object, state: object = None) -> None:
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self) -> tuple[Any, ...]:
        return (self.function, self.arguments) if self.state is None else (self.function, self.arguments, self.state)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def payloads(marker: Path) -> dict[str, bytes]:
    """Pickles of protocol 2; each one makes the file `marker` where an ordinary unpickler reads it."""
    touch, code = f"touch {marker}", f"open({str(marker)!r}, 'w').close()"
    inner = b"\x80\x02cposix\nsystem\n" + text(touch) + b"\x85R."
    return {
        "system": inner,
        "os.system": b"\x80\x02cos\nsystem\n" + text(touch) + b"\x85R.",
        "exec": b"\x80\x02cbuiltins\nexec\n" + text(code) + b"\x85R.",
        "exec of Python 2": b"\x80\x02c__builtin__\nexec\n" + text(code) + b"\x85R.",
        "stack global": b"\x80\x04" + text("posix") + text("system") + b"\x93" + text(touch) + b"\x85R.",
        "dotted name": b"\x80\x04" + text("torch.nn.modules.module")
        + text("torch.os.system") + b"\x93" + text(touch) + b"\x85R.",
        "dotted name of a known module": b"\x80\x04" + text("collections") + text("OrderedDict.__init__.__globals__")
        + b"\x93.",
        "open": b"\x80\x02cio\nopen\n" + text(str(marker)) + text("w") + b"\x86R.",
        "pathlib": b"\x80\x02cpathlib\nPath.touch\ncpathlib\nPath\n" + text(str(marker)) + b"\x85R\x85R.",
        "memo": b"\x80\x02cposix\nsystem\nq\x000" + text(touch) + b"q\x010h\x00h\x01\x85R.",
        "hidden in a dictionary": b"\x80\x02}q\x00(" + text("w") + inner[2:-1] + text("v") + b"K\x01u.",
        "instance opcode": b"\x80\x02(" + text(touch) + b"iposix\nsystem\n.",
        "object opcode": b"\x80\x02(cposix\nsystem\n" + text(touch) + b"o.",
        "new object": b"\x80\x02csubprocess\nPopen\n" + text(touch) + b"\x85\x81.",
        "getattr": b"\x80\x02cbuiltins\ngetattr\ncposix\nsystem\n" + text("__call__")
        + b"\x86R" + text(touch) + b"\x85R.",
        "extension": b"\x80\x02\x82\x01.",
        "loads": b"\x80\x02cpickle\nloads\nB" + struct.pack("<I", len(inner)) + inner + b"\x85R.",
        "torch.load": b"\x80\x02ctorch.serialization\nload\n" + text(str(marker)) + b"\x85R.",
        "build on a class": b"\x80\x02ctorch.nn.modules.linear\nLinear\n}" + text("__setstate__")
        + b"cposix\nsystem\nsb.",
        "build on a function": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(}" + text("__defaults__")
        + b"K\x01\x85stb.",
        "persistent id": b"\x80\x02" + text(touch) + b"Q.",
        "persistent id in text": b"\x80\x02P" + touch.encode() + b"\n.",
        "storage that is a pickle": b"\x80\x02ctorch.storage\n_load_from_bytes\nB"
        + struct.pack("<I", len(inner) + 90) + inner + bytes(90) + b"\x85R.",
        "encoding": b"\x80\x02c_codecs\nencode\n" + text("a") + text("zlib") + b"\x86R.",
    }  # fmt: skip


NAMES = sorted(payloads(Path("x")))


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_pickle_is_refused_without_effect(tmp_path: Path, name: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / "network-snapshot-000001.pkl"
    path.write_bytes(payloads(marker)[name])
    attempt(path)
    assert not marker.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_pickle_inside_a_torch_zip_is_refused_without_effect(tmp_path: Path, name: str) -> None:
    marker, path = tmp_path / "ran", tmp_path / "model000001.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", payloads(marker)[name])
        archive.writestr("model/version", "3\n")
    attempt(path)
    assert not marker.exists()


def test_the_payloads_work_where_code_is_run(tmp_path: Path) -> None:
    """So that the refusals above prove something."""
    marker = tmp_path / "ran"
    run = getattr(pickle, "_Unpickler")  # noqa: B009 - the name of the loader that must not be used elsewhere
    for name in ("system", "os.system", "exec", "stack global", "open", "memo", "hidden in a dictionary",
                 "instance opcode", "object opcode", "loads"):  # fmt: skip
        value = run(io.BytesIO(payloads(marker)[name])).load()
        if hasattr(value, "close"):
            value.close()
        assert marker.exists(), name
        marker.unlink()


def test_a_class_with_a_hostile_setstate_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a-1.pt"
    marker = tmp_path / "ran"
    torch.save({"w": torch.zeros(3), "hook": Calls(Path.touch, Calls(Path, str(marker)))}, path)
    assert "pathlib." in attempt(path)
    torch.save({"w": torch.zeros(3), "hook": Calls(exec, f"open({str(marker)!r}, 'w')")}, path)
    message = attempt(path)
    assert "a-1.pt asks for builtins.exec" in message
    assert "never runs code from a file" in message
    assert "torch.save(model.state_dict(), ...)" in message
    torch.save({"w": Calls(exec, "pass")}, path, _use_new_zipfile_serialization=False)
    assert "exec" in attempt(path)
    assert not marker.exists()


def test_what_other_code_declared_safe_is_not_run(tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "a-1.pt"
    torch.save({"w": torch.zeros(3), "hook": Calls(exec, f"open({str(marker)!r}, 'w')")}, path)
    with torch.serialization.safe_globals([(exec, "builtins.exec")]):
        assert "builtins.exec" in attempt(path)
    assert not marker.exists()


def bombs() -> dict[str, bytes]:
    weights = pickle.dumps(WEIGHTS, protocol=4)
    nested = b"\x80\x04]q\x00" + b"h\x00h\x00\x86q\x00" * 100
    module = (
        b"\x80\x02}q\x00" + text("ema") + b"ctorch.nn.modules.linear\nLinear\n)\x81q\x01}" + text("_modules")
        + b"}" + text("a") + b"h\x01s" + text("b") + b"h\x01ssbs."
    )  # fmt: skip
    return {
        "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
        "long text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
        "negative length": b"\x80\x02T" + struct.pack("<i", -5) + b"x.",
        "long integer": b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"x.",
        "memo index": b"\x80\x04]r\xff\xff\xff\xff.",
        "references": nested + b".",
        "modules that hold themselves": module,
        "a deep list": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
        "a deep tuple": b"\x80\x02)" + b"\x85" * 200_000 + b".",
        "a number of digits": b"\x80\x02I" + b"9" * 100_000 + b"\n.",
        "a name without end": b"\x80\x02c" + b"a" * 100_000,
        "an empty stack": b"\x80\x02}0000.",
        "no opcode": b"\x80\x04}\xff.",
        "a missing memo": b"\x80\x04}h\x07.",
        "a protocol of the future": b"\x80\x05}\x80\xff.",
        "a foreign storage": weights.replace(b"FloatStorage", b"FloatStoraga"),
        "a storage of another length": weights.replace(b"K\x64N", b"K\x65N"),
        "a tensor beyond its storage": weights.replace(b"K\x64\x85", b"K\x65\x85"),
    }


@pytest.mark.parametrize("name", sorted(bombs()))
def test_a_bomb_is_refused(tmp_path: Path, name: str) -> None:
    data = bombs()[name]
    assert data != pickle.dumps(WEIGHTS, protocol=4)
    path = tmp_path / "a-1.pkl"
    path.write_bytes(data)
    attempt(path)
    path = tmp_path / "a-1.pt"
    if b"_load_from_bytes" not in data:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", data)
        message = load_all(path, TorchReader())
        assert message is None or "a-1.pt" in message


def test_every_truncation_of_a_pickle_is_torn(tmp_path: Path) -> None:
    whole = pickle.dumps(WEIGHTS, protocol=4)
    path = tmp_path / "a-1.pkl"
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "a-1.pkl is torn" in attempt(path), length


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_flipped_byte_raises_nothing_else(tmp_path: Path, reader: CheckpointReader) -> None:
    path = tmp_path / "a-1.x"
    if reader.name == "torch":
        torch.save(WEIGHTS, path)
    else:
        path.write_bytes(pickle.dumps(WEIGHTS, protocol=4))
    whole = path.read_bytes()
    header = [at for at in range(len(whole)) if not 1000 <= at < len(whole) - 700]
    refused = 0
    for at in header:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            message = load_all(path, reader) if reader.recognises(path) else None
        assert message is None or "a-1.x" in message
        refused += message is not None
    assert refused > 100
