"""Which of the weights found are taken, and what is said where a choice does not fit."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from wsopt.checkpoints import (
    CheckpointReader,
    CheckpointSet,
    SafetensorsReader,
    Selection,
    Snapshot,
    Stream,
    TensorSpec,
    TorchReader,
    open_checkpoints,
)
from wsopt.checkpoints._select import select_steps
from wsopt.errors import CheckpointError

READERS = [SafetensorsReader(), TorchReader()]


def save(path: Path, value: float = 0.0, **tensors: Tensor) -> Path:
    save_file(tensors or {"w": torch.full((2, 3), float(value))}, path)
    return path


def opened(folder: Path, **choice: Any) -> CheckpointSet:
    return open_checkpoints(folder, READERS, Selection(**choice))


def failure(folder: Path, readers: Sequence[CheckpointReader] = READERS, **choice: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoints(folder, readers, Selection(**choice))
    return str(caught.value)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Raw weights, two EMAs of them and a target network, as openai/consistency_models leaves them."""
    for step in (100, 200, 300):
        save(tmp_path / f"model{step:06d}.safetensors", step)
        save(tmp_path / f"target_model{step:06d}.safetensors", step + 1)
        for rate in ("0.999", "0.9999432189950708"):
            save(tmp_path / f"ema_{rate}_{step:06d}.safetensors", step + float(rate))
    return tmp_path


# ---- streams


def test_raw_weights_are_taken_where_nothing_is_said_and_emas_lie_beside(run: Path) -> None:
    found = opened(run)
    assert (found.kind, found.steps) == ("raw", (100, 200, 300))
    assert {(ema.stream.rate, ema.step) for ema in found.emas} == {
        (rate, step) for rate in (0.999, 0.9999432189950708) for step in (100, 200, 300)
    }


@pytest.mark.parametrize("choice", [{"kind": "ema", "rate": 0.999}, {"rate": 0.999}])
def test_an_ema_stream(run: Path, choice: dict[str, Any]) -> None:
    found = opened(run, **choice)
    assert {snapshot.stream for snapshot in found.snapshots} == {Stream("ema", 0.999)}
    assert {ema.stream.rate for ema in found.emas} == {0.9999432189950708}


def test_a_rate_is_compared_as_a_number_of_its_rest(run: Path) -> None:
    assert opened(run, rate=0.99994321899507).snapshots[0].stream.rate == 0.9999432189950708
    assert "no streams that fit kind = ema, rate = 0.9999 " in failure(run, rate=0.9999)


def test_a_target_stream(run: Path) -> None:
    assert opened(run, kind="target").load(0)["w"][0, 0] == 101


def test_what_does_not_fit_is_told_with_what_there_is_and_the_keys(run: Path) -> None:
    message = failure(run, kind="ema")
    assert "holds 2 streams that fit kind = ema" in message
    assert "ema 0.999 (3 checkpoints), ema 0.9999432189950708 (3 checkpoints)" in message
    assert 'Set checkpoints.kind = "ema" and checkpoints.rate = 0.9999432189950708' in message
    message = failure(run, kind="lora")
    assert "holds no streams that fit kind = lora" in message
    assert "raw (3 checkpoints)" in message
    assert "no streams that fit kind = ema, width = 0.1" in failure(run, width=0.1)


def test_without_raw_weights_the_only_stream_is_taken_and_of_several_none(run: Path) -> None:
    assert opened(run, include=("ema_0.999_*",)).snapshots[0].stream == Stream("ema", 0.999)
    message = failure(run, include=("ema*", "target*"))
    assert "holds 3 streams, none of them raw" in message
    assert 'Set checkpoints.kind = "target"' in message


def test_widths(tmp_path: Path) -> None:
    for step in (1, 2):
        for width in ("0.050", "0.100"):
            save(tmp_path / f"network-snapshot-{step:07d}-{width}.safetensors", step + float(width))
    assert opened(tmp_path, width=0.1).snapshots[0].stream.width == 0.1
    assert "checkpoints.width = 0.1" in failure(tmp_path)


# ---- files


def test_include_and_exclude_see_the_whole_name(run: Path) -> None:
    assert opened(run, exclude=("model000200*",)).steps == (100, 300)
    assert opened(run, include=("model*", "nothing")).steps == (100, 200, 300)
    assert opened(run, include=("model*",)).emas != ()
    assert {ema.stream.rate for ema in opened(run, exclude=("ema_0.999_*",)).emas} == {0.9999432189950708}
    message = failure(run, include=("Model*",))
    assert "checkpoints.include and checkpoints.exclude leave none of 12 checkpoint files" in message


def test_torn_and_foreign_files_are_an_error_or_skipped_or_excluded(run: Path) -> None:
    torn = run / "model000200.safetensors"
    torn.write_bytes(torn.read_bytes()[:-4])
    (run / "model000400.bin").write_bytes(bytes(range(256)))
    message = failure(run)
    assert "model000200.safetensors is torn" in message
    assert "1 more cannot be read: model000400.bin." in message
    assert 'checkpoints.exclude = ["model000200.safetensors"], or checkpoints.unreadable = "skip"' in message
    found = opened(run, unreadable="skip")
    assert found.steps == (100, 300)
    assert [(one.path.name, one.kind) for one in found.skipped] == [
        ("model000200.safetensors", "torn"),
        ("model000400.bin", "foreign"),
    ]
    found = opened(run, exclude=("model000200.safetensors", "*.bin"))
    assert (found.steps, found.skipped) == ((100, 300), ())


def test_what_was_skipped_is_told_where_too_few_are_left(tmp_path: Path) -> None:
    save(tmp_path / "1.safetensors")
    (tmp_path / "2.safetensors").write_bytes(b"torn")
    assert "1 files that cannot be read were passed over" in failure(tmp_path, unreadable="skip")
    (tmp_path / "1.safetensors").write_bytes(b"torn")
    assert "(2 that cannot be read were passed over)" in failure(tmp_path, unreadable="skip")


def test_a_copy_without_a_step_is_passed_over_with_a_note(run: Path) -> None:
    shutil.copy(run / "model000300.safetensors", run / "latest.safetensors")
    found = opened(run)
    assert found.steps == (100, 200, 300)
    (note,) = found.notes
    assert note.startswith(f"{run / 'latest.safetensors'} holds the same weights as {run / 'model000300.safetensors'}")


def test_final_weights_without_a_step_beside_numbered_ones_are_passed_over_with_a_note(run: Path) -> None:
    save(run / "final.safetensors", 7)
    found = opened(run)
    assert found.steps == (100, 200, 300)
    (note,) = found.notes
    assert note == f"{run / 'final.safetensors'} names no training step, as the others do, and was passed over."


def test_where_nothing_names_a_step_the_message_says_how_to(tmp_path: Path) -> None:
    save(tmp_path / "first.safetensors", 1)
    save(tmp_path / "final.safetensors", 7)
    message = failure(tmp_path)
    assert "final.safetensors names no training step" in message
    assert 'checkpoints.exclude = ["final.safetensors"]' in message


def test_of_two_copies_of_a_step_the_one_whose_name_has_it_is_taken(tmp_path: Path) -> None:
    save(tmp_path / "1.safetensors", 1)
    save_file({"w": torch.full((2, 3), 2.0)}, tmp_path / "best.safetensors", metadata={"step": "2"})
    shutil.copy(tmp_path / "best.safetensors", tmp_path / "model2.safetensors")
    found = opened(tmp_path)
    assert found.paths[1].name == "model2.safetensors"
    assert len(found.notes) == 1
    shutil.copy(tmp_path / "best.safetensors", tmp_path / "third.safetensors")
    assert len(opened(tmp_path).notes) == 2
    save_file({"w": torch.full((2, 3), 2.5)}, tmp_path / "third.safetensors", metadata={"step": "2"})
    assert "are both of step 2" in failure(tmp_path)


def test_files_of_two_kinds_at_one_step_are_left_out_by_a_pattern(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path / f"network-{step}.safetensors", step)
        save(tmp_path / f"state-{step}.safetensors", step + 10)
    assert 'checkpoints.exclude = ["state-*.safetensors"]' in failure(tmp_path)
    assert opened(tmp_path, exclude=("state-*.safetensors",)).steps == (1, 2)
    for step in (1, 2):
        (tmp_path / f"network-{step}.safetensors").rename(tmp_path / f"state-new-{step}.safetensors")
    assert 'checkpoints.exclude = ["state-new-*.safetensors"]' in failure(tmp_path)


def test_two_different_emas_of_one_rate_at_the_last_step_are_refused(run: Path) -> None:
    save(run / "other_ema_0.999_000300.safetensors", 9)
    assert "are both of step 300 and stream ema 0.999, and hold different weights" in failure(run)
    shutil.copy(run / "ema_0.999_000300.safetensors", run / "other_ema_0.999_000300.safetensors")
    found = opened(run)
    assert len([ema for ema in found.emas if (ema.stream.rate, ema.step) == (0.999, 300)]) == 1


def test_an_ema_of_another_network_is_none(run: Path) -> None:
    save(run / "ema_0.5_000300.safetensors", v=torch.zeros(1))
    found = opened(run)
    assert all(ema.stream.rate != 0.5 for ema in found.emas)
    assert "ema_0.5_000300.safetensors has other tensors than the checkpoints" in found.notes[0]


# ---- components


class Pipelines(CheckpointReader):
    """Folders of several networks."""

    name = "pipelines"

    def recognises(self, path: Path) -> bool:
        return path.is_dir() and path.name.startswith("checkpoint-")

    def scan(self, path: Path) -> list[Snapshot]:
        step = int(path.name.rpartition("-")[2])
        spec = {"w": TensorSpec((2,), torch.float32)}
        return [Snapshot(path, part, Stream(), step, spec, self) for part in ("text_encoder", "unet")]

    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        return {"w": torch.full((2,), float(len(snapshot.part)))}


def test_a_component_must_be_named_where_there_are_several(tmp_path: Path) -> None:
    for step in (1, 2):
        (tmp_path / f"checkpoint-{step}").mkdir()
    message = failure(tmp_path, [Pipelines()])
    assert "checkpoint-1 holds 2 components of stream raw" in message
    assert '"text_encoder" (2 checkpoints), "unet" (2 checkpoints)). Set checkpoints.part' in message
    assert 'holds no component "vae" of stream raw (found: "text_encoder"' in failure(
        tmp_path, [Pipelines()], part="vae"
    )
    found = open_checkpoints(tmp_path, [Pipelines()], Selection(part="unet"))
    assert found.load(0)["w"].tolist() == [4, 4]
    assert "leave none of 4" in failure(tmp_path, [Pipelines()], exclude=("checkpoint-*",))


# ---- tensors


def test_where_only_dtypes_differ_it_is_said(tmp_path: Path) -> None:
    save(tmp_path / "1.safetensors")
    save(tmp_path / "2.safetensors", w=torch.zeros(2, 3, dtype=torch.float16))
    message = failure(tmp_path)
    assert "tensor w is [2, 3] float16 and [2, 3] float32 in the other. Only dtypes differ" in message
    assert 'checkpoints.exclude = ["2.safetensors"]' in message
    save(tmp_path / "2.safetensors", w=torch.zeros(3, 2, dtype=torch.float16))
    assert "All checkpoints must come from one training run" in failure(tmp_path)


def test_mixed_dtypes_within_files_are_fine(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path / f"{step}.safetensors", a=torch.zeros(2), b=torch.zeros(2, dtype=torch.float16))
    assert opened(tmp_path).tensors["b"].dtype == torch.float16


def test_weights_of_other_formats_and_precisions_are_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for step in (1, 2):
        save(folder / f"{step}.safetensors", w=torch.zeros(2, 3, dtype=torch.float16), n=torch.tensor(1))
    found = open_checkpoints(folder, READERS)
    torch.save({"module.w": torch.full((2, 3), 0.1), "module.n": torch.tensor(1)}, tmp_path / "ema_0.9.pt")
    loaded = found.load_weights(tmp_path / "ema_0.9.pt")
    assert torch.equal(loaded["w"], torch.full((2, 3), 0.1))
    torch.save({"w": torch.zeros(2, 3), "n": torch.tensor(1.0)}, tmp_path / "ema_0.8.pt")
    with pytest.raises(CheckpointError, match=r"tensor n is \[\] float32 and \[\] int64"):
        found.load_weights(tmp_path / "ema_0.8.pt")
    with pytest.raises(CheckpointError, match="does not exist"):
        found.load_weights(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match=r"holds no part 'unet', expected one \(its parts: '' \(raw\)\)"):
        found.load_weights(folder / "1.safetensors", "unet")
    (tmp_path / "odd.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(CheckpointError, match=r"odd\.png is of no known format \(safetensors, torch\)"):
        found.load_weights(tmp_path / "odd.png")


# ---- steps

steps_of_runs = st.sets(st.integers(0, 10**7), min_size=1, max_size=40).map(sorted)
windows = st.none() | st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)).map(lambda pair: (min(pair), max(pair)))


def taken(there: Sequence[int], **choice: Any) -> list[int]:
    return select_steps(Path("run"), there, Selection(**choice))


@given(steps_of_runs, windows, st.integers(1, 10**6))
def test_window_and_interval_keep_what_they_say(
    steps: list[int], window: tuple[int, int] | None, interval: int
) -> None:
    first, last = window or (0, 10**7)
    inside = [step for step in steps if first <= step <= last]
    found = taken(steps, window=window, interval=interval)
    assert found == sorted(set(found))
    assert set(found) <= set(inside)
    assert found[-1:] == inside[-1:]
    assert all(later - earlier >= interval for earlier, later in pairwise(found))
    # None is left out for nothing: every step is less than an interval below a kept one.
    assert all(any(0 <= kept - step < interval for kept in found) for step in inside)


@given(steps_of_runs, windows)
def test_an_interval_of_one_and_a_window_of_all_change_nothing(
    steps: list[int], window: tuple[int, int] | None
) -> None:
    assert taken(steps, window=(steps[0], steps[-1]), interval=1) == taken(steps) == steps
    thinned = taken(steps, interval=7, window=window)
    assert taken(thinned, interval=7, window=window) == thinned


@given(st.data(), steps_of_runs)
def test_explicit_steps_are_taken_exactly(data: st.DataObject, steps: list[int]) -> None:
    wanted = data.draw(st.lists(st.sampled_from(steps), min_size=1))
    assert taken(steps, steps=tuple(wanted), interval=1000) == sorted(set(wanted))


@given(st.data(), steps_of_runs)
def test_a_step_that_is_not_there_is_told_with_the_nearest(data: st.DataObject, steps: list[int]) -> None:
    absent = data.draw(st.integers(0, 2 * 10**7).filter(lambda step: step not in steps))
    with pytest.raises(CheckpointError) as caught:
        taken(steps, steps=(steps[0], absent))
    nearest = min(steps, key=lambda step: abs(step - absent))
    message = str(caught.value)
    assert f"run holds no checkpoint of step {absent}" in message
    assert str(nearest) in message.partition("the nearest are ")[2].partition(" (")[0].split(" and ")


def test_a_step_outside_of_the_window_is_told_so() -> None:
    with pytest.raises(
        CheckpointError, match=r"step 30 of checkpoints\.steps is outside of checkpoints\.window = \[0, 20\]"
    ):
        taken([10, 20, 30], steps=(10, 30), window=(0, 20))


def test_too_few_in_the_window(run: Path) -> None:
    message = failure(run, window=(150, 250), interval=50)
    assert "has 1 checkpoint with checkpoints.window = [150, 250], checkpoints.interval = 50" in message
    assert "(steps found: 100 to 300, 3 of them)" in message


def test_a_rate_that_is_not_there_gets_the_nearest_one(tmp_path: Path) -> None:
    for rate in ("0.9", "0.99", "0.9999"):
        for step in (100, 200):
            save(tmp_path / f"ema_{rate}_{step:06d}.safetensors", step)
    message = failure(tmp_path, rate=0.995)
    assert 'Set checkpoints.kind = "ema" and checkpoints.rate = 0.99,' in message
    assert "checkpoints.rate = 0.9," in failure(tmp_path, rate=0.8)
