from __future__ import annotations

import json
import math
import struct
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from wsopt.checkpoints import (
    DiffusersReader,
    FlaxReader,
    SafetensorsReader,
    ShardedReader,
    Snapshot,
    Stream,
    TorchReader,
    open_checkpoints,
    scan,
)
from wsopt.errors import CheckpointError
from wsopt.testing.conformance import check_checkpoint_reader

FORMATS = Path(__file__).parents[2] / "data" / "formats"
FLAX = FORMATS / "flax"
READER = FlaxReader()
CHECKPOINTS = sorted(FLAX.glob("*/checkpoints/*"))


def pack(value: Any) -> bytes:
    """msgpack of what the tests need; a tensor becomes Flax's extension 1, bytes are taken as packed already."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, torch.Tensor):
        return array(list(value.shape), str(value.dtype).removeprefix("torch."), raw(value))
    if isinstance(value, bool) or value is None:
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        return struct.pack(">Bq", 0xD3, value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, str):
        return struct.pack(">BB", 0xD9, len(value.encode())) + value.encode()
    if isinstance(value, dict):
        head = struct.pack("B", 0x80 | len(value)) if len(value) < 16 else struct.pack(">BI", 0xDF, len(value))
        return head + b"".join(pack(key) + pack(one) for key, one in value.items())
    assert isinstance(value, list)
    return struct.pack(">BH", 0xDC, len(value)) + b"".join(map(pack, value))


def raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.reshape(-1).view(torch.uint8).tolist()) if tensor.numel() else b""


def array(shape: Sequence[object], dtype: object, data: bytes, code: int = 1) -> bytes:
    content = pack([list(shape), dtype, struct.pack(">BI", 0xC6, len(data)) + data])
    return struct.pack(">BIb", 0xC9, len(content), code) + content


def write(folder: Path, state: Any, name: str = "checkpoint_3") -> Path:
    (folder / name).write_bytes(state if isinstance(state, bytes) else pack(state))
    return folder / name


def failure(path: Path) -> str:
    assert READER.recognises(path)
    with pytest.raises(CheckpointError) as caught:
        READER.scan(path)
    assert str(caught.value).startswith(f"{path} is torn or damaged: ")
    return str(caught.value)


def only(path: Path) -> Snapshot:
    (snapshot,) = READER.scan(path)
    return snapshot


def read_all(path: Path) -> str | None:
    """Read everything and hold it against the header; the message where that is refused."""
    try:
        loaded = [(snapshot, snapshot.load()) for snapshot in READER.scan(path)]
    except CheckpointError as error:
        return str(error)
    for snapshot, tensors in loaded:
        assert {name: tuple(one.shape) for name, one in tensors.items()} == {
            name: spec.shape for name, spec in snapshot.tensors.items()
        }
    return None


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_what_flax_wrote_is_read_in_torch_layout(path: Path) -> None:
    expected = load_file(path.parents[1] / f"{path.name}.expected.safetensors")
    assert READER.recognises(path)
    found: dict[str, torch.Tensor] = {}
    for snapshot in READER.scan(path):
        loaded = snapshot.load()
        assert {name: (tuple(one.shape), one.dtype) for name, one in loaded.items()} == {
            name: (spec.shape, spec.dtype) for name, spec in snapshot.tensors.items()
        }
        assert all(tensor.is_contiguous() for tensor in loaded.values())
        found |= {f"{snapshot.part}/{name}": tensor for name, tensor in loaded.items()}
    parts = {name.partition("/")[0] for name in expected}
    assert {name for name in found if name.partition("/")[0] in parts} == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].equal(tensor), name


def test_streams_and_steps_are_those_of_the_state() -> None:
    ema = Stream("ema", 0.9999)
    assert [(one.part, one.stream, one.step) for one in READER.scan(FLAX / "ct" / "checkpoints" / "checkpoint_3")] == [
        ("params", Stream(), 30000), ("target_params", Stream("target"), 30000), ("params_ema", ema, 30000),
    ]  # fmt: skip
    chunked = READER.scan(FLAX / "chunked" / "checkpoints" / "checkpoint_3")
    assert [(one.part, one.stream, one.step) for one in chunked] == [
        ("params", Stream(), 30000), ("params_ema", Stream("ema"), 30000),
    ]  # fmt: skip
    config = READER.scan(FLAX / "cd" / "checkpoints" / "checkpoint_10")[0].config
    assert json.dumps(config) == '{"lr": 0.0004, "ema_rate": 0.9999}'


def test_a_run_is_opened_in_the_order_of_its_steps() -> None:
    readers = [DiffusersReader(), ShardedReader(), SafetensorsReader(), TorchReader(), READER]
    checkpoints = open_checkpoints(FLAX / "cd" / "checkpoints", readers)
    assert checkpoints.steps == (30000, 100000)
    assert {str(ema.stream) for ema in checkpoints.emas} == {"ema 0.9999"}
    assert checkpoints.load(1)["Conv_0.weight"].shape == (4, 3, 3, 3)


def test_two_axes_rules_that_look_alike(tmp_path: Path) -> None:
    kernel, frequencies = torch.arange(120.0).reshape(2, 3, 4, 5), torch.arange(4.0)
    tree = {
        "Conv_0": {"kernel": kernel, "bias": frequencies},
        "Conv2d_0": {"weight": kernel},
        "Fourier_0": {"W": frequencies},
        "NIN_0": {"W": kernel[0, 0], "b": frequencies},
        "Norm_0": {"scale": frequencies, "weight_": kernel[0]},
        "Odd": {"kernel": kernel[0], "absent": None},
    }
    loaded = only(write(tmp_path, {"params": tree})).load()
    assert list(loaded) == [
        "Conv_0.weight", "Conv_0.bias", "Conv2d_0.weight", "Fourier_0.W", "NIN_0.weight", "NIN_0.bias", "Norm_0.weight",
        "Norm_0.weight_", "Odd.kernel",
    ]  # fmt: skip
    assert loaded["Conv_0.weight"].equal(kernel.permute(3, 2, 0, 1))
    assert loaded["Conv2d_0.weight"].equal(loaded["Conv_0.weight"])
    assert loaded["NIN_0.weight"].equal(kernel[0, 0].T)
    assert loaded["Fourier_0.W"].equal(frequencies)
    assert loaded["Odd.kernel"].equal(kernel[0])


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.uint8, torch.bool, torch.float8_e5m2]
)
def test_dtypes_and_empty_arrays(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.tensor([0.0, 1.0, 1.0]).to(dtype)
    tree = {"a": tensor, "empty": torch.empty(0, 2, dtype=dtype), "scalar": tensor[1]}
    loaded = only(write(tmp_path, {"params": tree})).load()
    assert raw(loaded["a"]) == raw(tensor)
    assert (loaded["empty"].shape, loaded["empty"].dtype) == ((0, 2), dtype)
    assert raw(loaded["scalar"]) == raw(tensor[1])


def test_the_step_may_be_of_any_number_kind(tmp_path: Path) -> None:
    tree = {"w": torch.ones(2)}
    steps: tuple[object, ...] = (70, 70.0, torch.tensor(70), torch.tensor([70.0]), torch.tensor(70, dtype=torch.uint8))
    for step in (*steps, array([], "int64", struct.pack("<q", 70), code=3)):
        assert only(write(tmp_path, {"step": step, "params": tree})).step == 70
    assert only(write(tmp_path, {"params": tree})).step == 3
    for step in ("70", -1, 0.5, math.nan, math.inf, 10**15, torch.zeros(8), torch.tensor(True), array([], "key", b"")):
        assert "its step is no number" in failure(write(tmp_path, {"step": step, "params": tree}))


@pytest.mark.parametrize("rate", [0.0, 1.0, math.nan, "fast", torch.zeros(3)])
def test_a_rate_that_is_none_is_left_out(tmp_path: Path, rate: object) -> None:
    assert only(write(tmp_path, {"ema_rate": rate, "params_ema": {"w": torch.ones(2)}})).stream == Stream("ema")


def test_a_bare_tree_of_parameters_is_raw_weights(tmp_path: Path) -> None:
    path = write(tmp_path, {"conv": {"kernel": torch.ones(2, 3)}}, "flax_model-20.msgpack")
    snapshot = only(path)
    assert (snapshot.part, snapshot.stream, snapshot.step) == ("", Stream(), 20)
    assert snapshot.load()["conv.weight"].shape == (3, 2)


def test_states_without_weights_give_none(tmp_path: Path) -> None:
    states: list[dict[str, object]] = [{"step": 5, "opt_state": {"mu": torch.ones(2)}}, {"params": {}}, {"name": "x"}]
    for state in states:
        path = write(tmp_path, state)
        assert READER.recognises(path)
        assert READER.scan(path) == []
    assert scan([tmp_path], [READER]).others == ((path, "flax without weights"),)


def chunked(shape: object, chunks: object) -> dict[str, object]:
    return {"__msgpack_chunked_array__": True, "shape": shape, "chunks": chunks}


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (array([3], "float32", bytes(8)), r"tensor a\.w: an array of shape \[3\] and dtype float32 takes 12 bytes, 8 "),
        (array([1 << 40, 1 << 40], "float32", bytes(8)), "bytes, 8 are there"),
        (array([-1], "float32", b""), r"has the shape \[-1\]"),
        (array([1.0], "float32", bytes(4)), r"has the shape \[1.0\]"),
        (array([1 << 60], "float32", b""), "has the shape"),
        (array([1] * 40, "float32", bytes(4)), "an array has no shape"),
        (array([1], "complex64", bytes(8)), r"tensor a\.w: it has dtype complex64, which wsopt cannot combine"),
        (array([1], 5, bytes(8)), "it has dtype 5"),
        (struct.pack(">BBb", 0xC7, 1, 1) + b"\x05", "is no triple of shape, dtype and bytes"),
        (struct.pack(">BBb", 0xC7, 1, 1) + b"\x91", r"tensor a\.w: it is cut off"),
        (struct.pack(">BBb", 0xC7, 1, 2) + b"\x05", r"a\.w is no array, but bytes"),
        (5, r"a\.w is no array, but a number"),
        ("text", r"a\.w is no array, but text"),
        ([1, 2], r"a\.w is no array, but a list"),
        (chunked({"0": 3}, {"0": torch.ones(2)}), r"the 1 chunks of an array of shape \[3\] do not fit"),
        (chunked({"0": 2}, {"0": torch.ones(1), "1": torch.ones(1).int()}), "the 2 chunks of an array"),
        (chunked({"0": 2}, {"1": torch.ones(2)}), "lacks its shape or its chunks"),
        (chunked([2], {"0": torch.ones(2)}), "lacks its shape or its chunks"),
        (chunked({"0": 1}, {"0": 5}), "a chunk of an array is none"),
    ],
)
def test_a_leaf_that_is_no_array_is_named(tmp_path: Path, leaf: object, message: str) -> None:
    path = write(tmp_path, {"params": {"a": {"w": leaf}}})
    failure(path)
    with pytest.raises(CheckpointError, match=message):
        READER.scan(path)


def test_names_that_become_one_are_refused(tmp_path: Path) -> None:
    tree = {"a": {"kernel": torch.ones(2, 2), "weight": torch.ones(2)}}
    assert "are both called a.weight" in failure(write(tmp_path, {"params": tree}))


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (b"\x91" * 100 + b"\xc0", "nested deeper than 64 levels"),
        (b"\x81\xa1a" * 100_000, "nested deeper than 64 levels"),
        (b"\xdd\xff\xff\xff\xff", "4,294,967,295 values should follow"),
        (b"\xdf\xff\xff\xff\xff", "values should follow"),
        (b"\xc6\xff\xff\xff\xff", "4,294,967,295 bytes should follow"),
        (b"\xc9\xff\xff\xff\xff\x01", "it is cut off"),
        (b"\xdb\xff\xff\xff\xff", "it is cut off"),
        (b"\xdd\x00\x10\x00\x00" + b"\xc0" * (1 << 20), "more than 200,000 values"),
        (b"\xc1", "is 0xc1, which begins no value"),
        (b"\x81\x05\x05", "is no text"),
        (b"\x81\x91\x05\x05", "is no text"),
        (b"\x82\xa1a\x05\xa1a\x05", "the key 'a' comes twice"),
        (b"\xa1\xff", "is not UTF-8"),
        (b"\xc0trailing", "8 bytes follow its end"),
        (b"", "it is cut off"),
        (b"\xcb\x00", "it is cut off"),
    ],
)
def test_hostile_structures_are_refused_and_cost_little(tmp_path: Path, tail: bytes, message: str) -> None:
    path = write(tmp_path, b"\x82\xa4step\x05\xa6params" + tail)
    tracemalloc.start()
    try:
        assert message in failure(path)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("code", [0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xD9, 0xDA, 0xDB])
def test_every_width_of_length_is_read(tmp_path: Path, code: int) -> None:
    form = {0: ">B", 1: ">H", 2: ">I"}[(code - 0xC4) % 3 if code < 0xD9 else code - 0xD9]
    value = bytes([code]) + struct.pack(form, 3) + (b"\x05" if 0xC7 <= code <= 0xC9 else b"") + b"abc"
    snapshot = only(write(tmp_path, {"note": value, "after": 7, "params": {"w": torch.ones(2)}}))
    assert snapshot.config == {"after": 7}


@pytest.mark.parametrize(
    ("packed", "number"),
    [
        (b"\x05", 5), (b"\xff", -1), (b"\xe0", -32), (b"\x7f", 127), (b"\xcc\xff", 255), (b"\xcd\x01\x00", 256),
        (b"\xce\x00\x01\x00\x00", 65536), (b"\xcf" + b"\0" * 7 + b"\x09", 9), (b"\xd0\x80", -128),
        (b"\xd1\xff\xff", -1), (b"\xd2\xff\xff\xff\xfe", -2), (b"\xca\x3f\x80\x00\x00", 1.0),
    ],
)  # fmt: skip
def test_every_width_of_number_is_read(tmp_path: Path, packed: bytes, number: float) -> None:
    fixed = b"\xd4\x05x\xd5\x05xx\xd6\x05xxxx"  # extensions of fixed length
    state = b"\x85\xa1n" + packed + b"\xa1l\x93" + fixed + b"\xa1m\x80\xa1t\xc3\xa6params" + pack({"w": torch.ones(2)})
    assert only(write(tmp_path, state)).config == {"n": number}


@pytest.mark.parametrize("path", [CHECKPOINTS[0]], ids=["cd"])
def test_every_truncation_is_told(tmp_path: Path, path: Path) -> None:
    whole = path.read_bytes()
    for length in [*range(6, 400, 7), *range(400, len(whole), 1009), len(whole) - 1]:
        assert "it is cut off" in failure(write(tmp_path, whole[:length]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_never_ends_in_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    changed = bytearray((FLAX / "chunked" / "checkpoints" / "checkpoint_3").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path = write(tmp_path, bytes(changed))
    message = read_all(path)
    assert message is None or str(path) in message


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_any_bytes_are_recognised_or_not_without_a_traceback(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, content)
    message = read_all(path) if READER.recognises(path) else None
    assert message is None or str(path) in message


def test_files_of_other_formats_are_not_taken(tmp_path: Path) -> None:
    for path in FORMATS.rglob("*"):
        assert READER.recognises(path) == (path in CHECKPOINTS), path
    for content in (b"", b"\x80", b"\x81", b"\x80\x02}q\x00.", b"\x81\x05", b"\x81\xa1\xff", b"\x85text", b"\x81\xa1a"):
        assert not READER.recognises(write(tmp_path, content)) or content == b"\x81\xa1a"


def test_a_scan_reads_no_payload(tmp_path: Path) -> None:
    size = 1 << 30
    content = pack([[size // 4], "float32"])[:3].replace(b"\x00\x02", b"\x00\x03") + pack([size // 4])
    content += pack("float32") + struct.pack(">BI", 0xC6, size)
    head = pack({"params": {"w": struct.pack(">BIb", 0xC9, len(content) + size, 1) + content}})
    path = write(tmp_path, head)
    with path.open("r+b") as file:
        file.truncate(len(head) + size)  # a hole: takes no space on disk
    tracemalloc.start()
    try:
        assert only(path).tensors["w"].shape == (size // 4,)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_the_rules_of_readers_are_kept(tmp_path: Path) -> None:
    torn = write(tmp_path, CHECKPOINTS[0].read_bytes()[:-1])
    empty = write(tmp_path, b"", "empty")
    text = write(tmp_path, b"remember the milk", "notes-2.txt")
    check_checkpoint_reader(READER, CHECKPOINTS, [torn], [empty, text, FORMATS, FORMATS / "README.md"])
