"""Training at a tiny size: what is written, and that an interrupted training ends as an undisturbed one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file

from wsopt.datasets import Dataset
from wsopt.diffusion import flow_pairs
from wsopt.errors import CheckpointError, InputError, Interrupted, WsoptError
from wsopt.files import locked
from wsopt.progress import SilentProgress, Stage
from wsopt_cd import _training
from wsopt_cd.family import ConsistencyDistillation
from wsopt_cd.params import CDParams, CDRecipe, NetworkParams

PARAMS = CDParams(
    network=NetworkParams(img_resolution=4, model_channels=4, channel_mult=(1,), attn_resolutions=()), scales=5
)
RECIPE = CDRecipe(
    seed=5, teacher_steps=7, teacher_batch=4, steps=9, batch=200, save_every=2, state_every=3, ema_rates=(0.5, 0.9)
)


class Stripes(Dataset):
    """Twenty images of 4 x 4 pixels."""

    name = "stripes"

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift

    def images(self, split: str) -> NDArray[np.float32]:
        assert split == "train", "training may read nothing else"
        values = np.sin(np.arange(20 * 16, dtype=np.float64) + self.shift)
        return values.astype(np.float32).reshape(20, 1, 4, 4)

    def labels(self, split: str) -> NDArray[np.int64]:
        return np.zeros(20, dtype=np.int64)


class Watch(SilentProgress):
    """Records the stages; stops, or fails, once a step of a stage was reached."""

    def __init__(self, stop: tuple[str, int] | None = None, fail: tuple[str, int] | None = None) -> None:
        self.stop, self.fail = stop, fail
        self.stages: list[tuple[str, int, int]] = []
        self.updates: list[tuple[str, int]] = []
        self.stopping = False

    @contextmanager
    def stage(self, name: str, total: int, done: int = 0) -> Iterator[Stage]:
        self.stages.append((name, total, done))
        watch = self

        class Recording:
            def update(self, done: int, **facts: str) -> None:
                float(facts["loss"])
                watch.updates.append((name, done))
                watch.stopping |= watch.stop == (name, done)
                if watch.fail == (name, done):
                    raise RuntimeError("killed")

            def resize(self, total: int, done: int) -> None:
                raise AssertionError("a training knows its length")

        yield Recording()

    def should_stop(self) -> bool:
        return self.stopping


def train(folder: Path, progress: Watch | None = None, **changes: Any) -> Any:
    recipe = CDRecipe(**{**RECIPE.model_dump(), **changes})
    return ConsistencyDistillation(PARAMS).train(recipe, Stripes(), folder, progress or Watch())


def contents(folder: Path) -> dict[str, bytes]:
    """All files of weights, and what of training.json is not a measurement."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}
    report = json.loads((folder / "training.json").read_text())
    report["facts"] = {key: value for key, value in report["facts"].items() if key.startswith("loss")}
    return {**files, "training.json": json.dumps(report).encode()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder)
    return folder


def test_what_is_written(undisturbed: Path) -> None:
    steps = [2, 4, 6, 8]
    names = [f"step-{step:06d}.safetensors" for step in steps]
    assert sorted(path.name for path in (undisturbed / "checkpoints").iterdir()) == names
    network = ConsistencyDistillation(PARAMS).build().state_dict()
    for step, name in zip(steps, names, strict=True):
        with safe_open(undisturbed / "checkpoints" / name, framework="pt") as file:
            assert file.metadata() == {"step": str(step)}
            assert {key: file.get_tensor(key).shape for key in network} == {k: v.shape for k, v in network.items()}
    with safe_open(undisturbed / "ema" / "ema-0.9.safetensors", framework="pt") as file:
        assert file.metadata() == {"rate": "0.9", "step": "9"}
    assert sorted(path.name for path in undisturbed.iterdir()) == [
        ".lock",
        "checkpoints",
        "ema",
        "teacher.safetensors",
        "training.json",
    ]


def test_trained_set(undisturbed: Path) -> None:
    found = train(undisturbed)
    assert found.checkpoints == undisturbed / "checkpoints"
    assert found.emas == {rate: undisturbed / "ema" / f"ema-{rate}.safetensors" for rate in ("0.5", "0.9")}
    assert found.facts["seconds"] == found.facts["seconds_teacher"] + found.facts["seconds_distillation"] > 0
    assert found.facts["peak_memory_bytes"] > 1e6
    assert found.facts["loss"] > 0


def test_a_finished_training_is_not_repeated(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    watch = Watch()
    train(undisturbed, watch)
    assert watch.stages == []
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == before


def test_weights_change_and_the_emas_lag_behind(undisturbed: Path) -> None:
    teacher = load_file(undisturbed / "teacher.safetensors")
    last = load_file(undisturbed / "checkpoints" / "step-000008.safetensors")
    name = "enc.4x4_conv.weight"
    fast, slow = (load_file(undisturbed / "ema" / f"ema-{rate}.safetensors")[name] for rate in ("0.5", "0.9"))
    moved = [float((weights - teacher[name]).norm()) for weights in (slow, fast, last[name])]
    assert 0 < moved[0] < moved[1]
    assert moved[2] > moved[0]


@pytest.mark.parametrize(
    "stop", [("train teacher", 1), ("train teacher", 7), ("distil", 1), ("distil", 5), ("distil", 8)]
)
def test_stopped_and_continued(undisturbed: Path, tmp_path: Path, stop: tuple[str, int]) -> None:
    # At its last step a stage is over: the stop is then noticed at the beginning of the next.
    where = "step 0 of 9" if stop == ("train teacher", 7) else f"step {stop[1]} of"
    with pytest.raises(Interrupted, match=rf"training stopped at {where}.*the same command continues"):
        train(tmp_path, Watch(stop=stop))
    assert not (tmp_path / "training.json").exists()
    watch = Watch()
    train(tmp_path, watch)
    expected = ("distil", 9, 0) if stop == ("train teacher", 7) else (stop[0], {"distil": 9}.get(stop[0], 7), stop[1])
    assert watch.stages[0] == expected
    assert contents(tmp_path) == contents(undisturbed)


@pytest.mark.parametrize("fail", [("train teacher", 2), ("train teacher", 5), ("distil", 2), ("distil", 4)])
def test_killed_and_continued(undisturbed: Path, tmp_path: Path, fail: tuple[str, int]) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, Watch(fail=fail))
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path, Watch(fail=(fail[0], fail[1] + 1)))
    train(tmp_path)
    assert contents(tmp_path) == contents(undisturbed)


def test_killed_while_writing(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever rename a kill comes before, the training continues to the same end."""
    original = Path.replace
    for count in (1, 2, 4, 7, 10):
        folder = tmp_path / str(count)
        left = [count]

        def replace(self: Path, target: Path, left: list[int] = left) -> Path:
            left[0] -= 1
            if left[0] == 0:
                raise RuntimeError("killed")
            return original(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            with pytest.raises(RuntimeError, match="killed"):
                train(folder)
        train(folder)
        assert contents(folder) == contents(undisturbed), f"kill before rename {count}"


@pytest.mark.parametrize("loss", ["l2", "pseudo-huber"])
def test_ema_target_resumes_too(tmp_path: Path, loss: str) -> None:
    changes: dict[str, Any] = {"target": "ema", "target_rate": 0.8, "loss": loss, "steps": 5}
    train(tmp_path / "whole", **changes)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "parts", Watch(fail=("distil", 4)), **changes)
    train(tmp_path / "parts", **changes)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert len(list((tmp_path / "whole" / "ema").iterdir())) == 2, "the target's EMA is not one of the user's"


def test_target_choices_differ(tmp_path: Path, undisturbed: Path) -> None:
    train(tmp_path, target="ema")
    assert contents(tmp_path).keys() == contents(undisturbed).keys()
    last = "checkpoints/step-000008.safetensors"
    assert contents(tmp_path)[last] != contents(undisturbed)[last]


def test_seeds_differ_and_nothing_global_is_drawn(
    tmp_path: Path, undisturbed: Path, untouched_randomness: None
) -> None:
    train(tmp_path, seed=6)
    assert contents(tmp_path)["teacher.safetensors"] != contents(undisturbed)["teacher.safetensors"]


def test_how_often_the_state_is_saved_changes_nothing(tmp_path: Path, undisturbed: Path) -> None:
    train(tmp_path, state_every=1000)
    assert contents(tmp_path) == contents(undisturbed)


def test_a_lost_checkpoint_is_named(tmp_path: Path) -> None:
    train(tmp_path)
    (tmp_path / "checkpoints" / "step-000004.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"step-000004\.safetensors is gone.*delete the folder .* to train again"):
        train(tmp_path)


@pytest.mark.parametrize("change", [{"emas": None}, {"checkpoints": [3]}, {"facts": {"seconds": []}}])
def test_a_damaged_training_json_is_named(tmp_path: Path, undisturbed: Path, change: dict[str, Any]) -> None:
    found = json.loads((undisturbed / "training.json").read_text())
    for damaged in ({key: found[key] for key in ("params", "recipe")}, found | change):
        (tmp_path / "training.json").write_text(json.dumps(damaged))
        with pytest.raises(CheckpointError, match=r"training\.json is damaged .*delete the folder .* to train again"):
            train(tmp_path)


def test_another_recipe_is_refused(tmp_path: Path, undisturbed: Path) -> None:
    with pytest.raises(CheckpointError, match=r"training\.json belongs to another recipe"):
        train(undisturbed, lr=0.5)
    with pytest.raises(Interrupted):
        train(tmp_path, Watch(stop=("train teacher", 3)))
    with pytest.raises(CheckpointError, match=r"state\.safetensors belongs to another recipe or other images"):
        train(tmp_path, teacher_lr=0.5)
    with pytest.raises(CheckpointError, match="or other images"):
        ConsistencyDistillation(PARAMS).train(RECIPE, Stripes(shift=1), tmp_path, Watch())


def test_torn_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, Watch(stop=("train teacher", 3)))
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"state\.safetensors cannot be read"):
        train(tmp_path)
    (tmp_path / "training.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"training\.json cannot be read"):
        train(tmp_path)


def test_images_of_another_shape_are_refused(tmp_path: Path) -> None:
    params = CDParams(network=NetworkParams(img_resolution=8, model_channels=4))
    with pytest.raises(InputError, match=r"data set stripes: its images are \[1, 4, 4\]"):
        ConsistencyDistillation(params).train(RECIPE, Stripes(), tmp_path, Watch())


def test_dropout_is_refused(tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"network": PARAMS.network.model_copy(update={"dropout": 0.1})})
    with pytest.raises(InputError, match=r"family\.network\.dropout is 0\.1"):
        ConsistencyDistillation(params).train(RECIPE, Stripes(), tmp_path, Watch())


def test_a_diverged_training_says_so(tmp_path: Path) -> None:
    with pytest.raises(WsoptError, match=r"training loss became (inf|nan) at step \d.*Lower the learning rate"):
        train(tmp_path, teacher_lr=1e20)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path, AssertionError), pytest.raises(WsoptError, match="another process is training in"):
        train(tmp_path)


def test_gradients_are_needed_even_where_the_caller_turned_them_off(tmp_path: Path, undisturbed: Path) -> None:
    with torch.no_grad():
        train(tmp_path)
    assert contents(tmp_path) == contents(undisturbed)


def test_blocks_do_not_change_with_where_a_training_resumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A block is one pass of the teacher over the images of several steps."""
    sizes: list[int] = []
    original = flow_pairs

    def counted(teacher: Any, images: Any, *rest: Any) -> Any:
        sizes.append(len(images))
        return original(teacher, images, *rest)

    monkeypatch.setattr(_training, "flow_pairs", counted)
    train(tmp_path)
    assert sizes == [400] * 5


def steps_of(updates: Sequence[tuple[str, int]], stage: str) -> list[int]:
    return [done for name, done in updates if name == stage]


def test_progress(tmp_path: Path) -> None:
    watch = Watch()
    train(tmp_path, watch)
    assert watch.stages == [("train teacher", 7, 0), ("distil", 9, 0)]
    assert steps_of(watch.updates, "train teacher") == list(range(1, 8))
    assert steps_of(watch.updates, "distil") == list(range(1, 10))
