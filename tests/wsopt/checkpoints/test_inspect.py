"""The facts that `wsopt inspect` shows."""

from __future__ import annotations

import json
import math
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from wsopt.checkpoints import (
    DeepFacts,
    DiffusersReader,
    Inspection,
    SafetensorsReader,
    Snapshot,
    TorchReader,
    as_json,
    inspect,
    look_deep,
)
from wsopt.checkpoints._inspect import missing_steps, usual_interval

READERS = [SafetensorsReader(), TorchReader()]


def save(path: Path, **tensors: Tensor) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


def inspected(*paths: Path) -> Inspection:
    return inspect(paths, READERS)


# ---- steps and gaps


@pytest.mark.parametrize(
    ("steps", "interval", "missing"),
    [
        ([], None, []),
        ([5], None, []),
        ([10, 20], 10, []),
        ([10, 20, 30, 60, 70], 10, [40, 50]),
        ([1, 5000, 10000, 20000, 25000], 5000, [15000]),  # ddim saves at step 1 too
        ([1, 10000, 15000, 20000], 5000, [5000]),
        ([10, 30, 70], 20, []),  # no distance occurs twice
        ([100, 200, 300, 340, 440], 100, []),
    ],
)
def test_interval_and_gaps(steps: list[int], interval: int | None, missing: list[int]) -> None:
    assert usual_interval(steps) == interval
    assert missing_steps(steps) == (missing, len(missing))


@given(st.integers(1, 1000), st.sets(st.integers(0, 200), min_size=10).map(sorted))
def test_what_is_missing_of_a_grid_is_found(interval: int, indices: list[int]) -> None:
    steps = [interval * index for index in indices]
    found, count = missing_steps(steps)
    usual = usual_interval(steps)
    assert usual is not None
    assert count == len(found)
    assert not set(found) & set(steps)
    if usual == interval and [b - a for a, b in pairwise(steps)].count(interval) > 1:
        assert set(found) | set(steps) == set(range(steps[0], steps[-1] + 1, interval))


def test_a_huge_gap_is_counted_and_not_listed() -> None:
    missing, count = missing_steps([1, 2, 3, 10**9])
    assert count == 10**9 - 4
    assert len(missing) == 1000


# ---- streams


def test_a_run_with_everything(tmp_path: Path) -> None:
    for step in (10, 20, 40, 50):
        tensors = {"module.w": torch.full((4, 2), float(step)), "module.h": torch.ones(3, dtype=torch.float16)}
        save(tmp_path / f"model{step}.safetensors", **tensors)
        save(tmp_path / f"ema_0.99_{step}.safetensors", **{name: 0.5 * value for name, value in tensors.items()})
    shutil.copy(tmp_path / "model50.safetensors", tmp_path / "latest.safetensors")
    (tmp_path / "model60.safetensors").write_bytes(b"torn")
    (tmp_path / "log.txt").write_text("loss")
    (tmp_path / "logs").mkdir()
    found = inspected(tmp_path)
    raw, ema = found.streams
    assert (raw.stream.kind, ema.stream.rate, raw.part) == ("raw", 0.99, "")
    assert (raw.steps, raw.interval, raw.missing, raw.missing_count) == ((10, 20, 40, 50), 10, (30,), 1)
    assert (len(raw.snapshots), [one.path.name for one in raw.copies]) == (4, ["latest.safetensors"])
    assert (raw.values, raw.nbytes, raw.dtypes) == (11, 4 * 38, {"float32": 8, "float16": 3})
    assert (raw.prefixes, sorted(raw.tensors), raw.formats) == (("module.",), ["h", "w"], ("safetensors",))
    assert [[one.path.name for one in group] for group in found.duplicates] == [
        ["latest.safetensors", "model50.safetensors"]
    ]
    assert [(one.path.name, one.kind) for one in found.problems] == [("model60.safetensors", "torn")]
    assert found.others == ((tmp_path / "log.txt", "text"),)
    assert found.passed_over == (tmp_path / "logs",)


def test_folders_below_are_looked_into_and_kept_apart(tmp_path: Path) -> None:
    save(tmp_path / "teacher.safetensors", w=torch.zeros(2))
    save(tmp_path / "checkpoints" / "1.safetensors", w=torch.zeros(2))
    save(tmp_path / "ema" / "ema-0.9.safetensors", w=torch.zeros(2))
    (tmp_path / "logs").mkdir()
    found = inspected(tmp_path)
    folders = {one.folder.relative_to(tmp_path).as_posix(): one for one in found.streams}
    assert folders.keys() == {".", "checkpoints", "ema"}
    assert folders["."].without_step == folders["."].snapshots
    assert found.passed_over == (tmp_path / "logs",)


def test_misfits_are_named(tmp_path: Path) -> None:
    save(tmp_path / "1.safetensors", a=torch.zeros(2), b=torch.zeros(2))
    save(tmp_path / "2.safetensors", a=torch.zeros(3), c=torch.zeros(2))
    (stream,) = inspected(tmp_path).streams
    (text,) = stream.misfits
    assert "lacks 1 tensors (b), has 1 more tensors (c), 1 differ (a: [3] float32, [2] float32 there)" in text


def test_a_files_components_are_told_apart_where_one_must_be_chosen(tmp_path: Path) -> None:
    for step in (1, 2):
        weights = {"module.w": torch.full((3,), float(step))}
        optimizer: dict[str, object] = {"state": {}, "param_groups": []}
        torch.save([weights, optimizer, 0, step, {"w": torch.full((3,), -1.0 * step)}], tmp_path / f"ckpt_{step}.pth")
    found = inspected(tmp_path)
    assert [(one.stream.kind, one.part, one.steps) for one in found.streams] == [
        ("raw", "", (1, 2)),
        ("ema", "", (1, 2)),
    ]


# ---- values


def deep(folder: Path, done: list[Snapshot] | None = None) -> DeepFacts:
    (stream,) = inspected(folder).streams
    return look_deep(stream, (done if done is not None else []).append)


def test_what_would_be_combined_and_copied(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(
            tmp_path / f"{step}.safetensors",
            w=torch.full((100,), float(step)),
            fixed=torch.arange(5.0),
            count=torch.tensor(7),
            batches=torch.tensor(step),
            small=torch.tensor([step / 4]).to(torch.float8_e4m3fn),
        )
    done: list[Snapshot] = []
    facts = deep(tmp_path, done)
    assert len(done) == 3
    assert set(facts.combined) == {"w", "small"}
    assert set(facts.constant) == {"fixed", "count"}
    assert facts.clashing == ("batches",)
    # |theta_2 - theta_1| / |theta_1|, over w (100 values), fixed (norm 30^0.5) and small.
    expected = (100 + 1 / 16) ** 0.5 / (100 + 30 + 1 / 16) ** 0.5
    assert facts.distances[0].distance == pytest.approx(expected)
    assert facts.near == ()


def test_nan_and_infinity_are_counted_per_tensor(tmp_path: Path) -> None:
    save(tmp_path / "1.safetensors", w=torch.ones(4), v=torch.ones(2, dtype=torch.bfloat16))
    bad = torch.tensor([1.0, torch.nan, torch.inf, -torch.inf])
    save(tmp_path / "2.safetensors", w=bad, v=torch.full((2,), 2.0, dtype=torch.bfloat16))
    facts = deep(tmp_path)
    (broken,) = facts.broken
    assert (broken.snapshot.step, broken.tensor, broken.nan, broken.infinite, broken.values) == (2, "w", 1, 2, 4)
    assert facts.distances[0].distance == pytest.approx(1.0)


def test_neighbours_that_hardly_differ(tmp_path: Path) -> None:
    values = [1.0, 1.1, 1.2, 1.2 + 1e-6, 1.3, 1.4]
    for step, value in enumerate(values):
        save(tmp_path / f"{step}.safetensors", w=torch.full((50_000,), value))
    last = torch.full((50_000,), values[-1])
    last[1] += 1  # not one of the sampled values
    save(tmp_path / "6.safetensors", w=last)
    facts = deep(tmp_path)
    assert [(one.earlier.step, one.later.step) for one in facts.near] == [(2, 3), (5, 6)]
    assert 0 < facts.near[1].distance < 1e-10
    assert facts.median == pytest.approx(0.08, rel=0.1)


def test_a_checkpoint_that_cannot_be_loaded_is_told_and_the_rest_compared(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path / f"{step}.safetensors", w=torch.full((3,), float(step)))
    (stream,) = inspected(tmp_path).streams
    (tmp_path / "2.safetensors").unlink()
    facts = look_deep(stream)
    assert "2.safetensors" in facts.unreadable[0]
    assert [(one.earlier.step, one.later.step) for one in facts.distances] == [(1, 3)]


# ---- JSON


def test_the_json_is_plain_and_complete(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path / f"{step}.safetensors", w=torch.full((2, 3), float(step)))
    found = inspected(tmp_path)
    data = as_json(found, [look_deep(stream) for stream in found.streams], tensors=True)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    (stream,) = data["streams"]
    assert stream["steps"] == [1, 2]
    assert stream["tensor_list"] == [{"name": "w", "shape": [2, 3], "dtype": "float32", "bytes": 24}]
    assert stream["deep"]["combined"] == ["w"]
    assert stream["deep"]["distances"] == [{"steps": [1, 2], "distance": pytest.approx(1.0)}]
    assert "tensor_list" not in as_json(found)["streams"][0]


def test_a_distance_without_a_number_is_null(tmp_path: Path) -> None:
    for step, value in enumerate([0.0, 1.0, 2.0, 1e300], start=1):
        save(tmp_path / f"{step}.safetensors", w=torch.full((3,), value, dtype=torch.float64))
    (stream,) = inspected(tmp_path).streams
    facts = look_deep(stream)
    assert [one.distance for one in facts.distances] == [math.inf, 1.0, math.inf]
    assert facts.median == 1.0
    assert facts.near == ()
    data = json.loads(json.dumps(as_json(inspected(tmp_path), [facts]), allow_nan=False))
    assert [one["distance"] for one in data["streams"][0]["deep"]["distances"]] == [None, 1.0, None]


def test_a_deep_configuration_is_cut(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-1"
    save(folder / "diffusion_pytorch_model.safetensors", w=torch.ones(2))
    (folder / "config.json").write_text('{"_class_name": "Net", "deep": ' + "[" * 900 + "]" * 900 + "}")
    config = as_json(inspect([tmp_path], [DiffusersReader()]))["streams"][0]["config"]
    assert config["_class_name"] == "Net"
    assert json.dumps(config).count("[") == 49
