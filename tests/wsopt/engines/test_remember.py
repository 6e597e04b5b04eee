"""Scores that are remembered are the scores that were measured, and only where nothing that decides them differs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toy_run import request_for, write_checkpoints, write_toml
from wsopt.checkpoints import SafetensorsReader, open_checkpoints
from wsopt.datasets import Digits
from wsopt.engines import EvaluatorSpec, InProcessEngine, RememberingEngine
from wsopt.objectives import FrechetDistance, Pixels
from wsopt.registry import Registry
from wsopt.types import Coefficients, Job, Outcome, Split, WeightsFile

COUNT = 8
ROOT = Path(__file__).parents[3]


class Counting(InProcessEngine):
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def evaluate(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        jobs = list(jobs)
        self.asked += [job.id for job in jobs]
        return super().evaluate(jobs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_checkpoints(tmp_path / "checkpoints", COUNT)
    write_toml(tmp_path)
    return tmp_path


def spec_of(folder: Path, *overrides: tuple[str, str]) -> EvaluatorSpec:
    request = request_for(folder, *overrides)
    checkpoints = open_checkpoints(folder / "checkpoints", [SafetensorsReader()])
    grouping = request.registry.make("parameterization", request.config.parameterization).grouping
    return EvaluatorSpec(request.config, request.registry, checkpoints, grouping)


def started(folder: Path, *overrides: tuple[str, str]) -> tuple[RememberingEngine, Counting]:
    inside = Counting()
    engine = RememberingEngine(inside)
    engine.start(spec_of(folder, *overrides))
    return engine, inside


def mixed(seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    rest = np.random.Generator(np.random.PCG64(seed)).normal(scale=0.2, size=(1, COUNT - 1))
    return np.concatenate([1 - rest.sum(axis=1, keepdims=True), rest], axis=1)


def jobs(folder: Path, split: Split = "search", samples: int = 100) -> list[Job]:
    """Coefficients, then weights on disk, then coefficients that nobody will ask for again."""
    file = WeightsFile(folder / "checkpoints" / "step-000040.safetensors")
    return [
        Job(0, Coefficients(mixed(0)), split, samples, 0, remember=True),
        Job(1, file, split, samples, 1, remember=True),
        Job(2, Coefficients(mixed(1)), split, samples, 2),
        Job(3, Coefficients(mixed(2)), split, samples, 3, remember=True),
    ]


def lines(folder: Path) -> list[str]:
    return [
        line for path in sorted((folder / "runs" / "scores").iterdir()) for line in path.read_text().split("\n") if line
    ]


@pytest.mark.parametrize("split", ["search", "report"])
def test_what_was_scored_before_is_not_scored_again(folder: Path, split: Split) -> None:
    plain = InProcessEngine()
    plain.start(spec_of(folder))
    measured = [outcome.scores for outcome in plain.evaluate(jobs(folder, split))]
    first, inside = started(folder)
    assert [outcome.scores for outcome in first.evaluate(jobs(folder, split))] == measured
    assert inside.asked == [0, 1, 2, 3]
    for _ in range(2):
        again, inside = started(folder)
        found = list(again.evaluate(jobs(folder, split)))
        assert [(outcome.id, outcome.scores) for outcome in found] == list(enumerate(measured))
        assert inside.asked == [2]
        assert [dict(outcome.seconds) == {} for outcome in found] == [True, True, False, True]
    assert len(lines(folder)) == 3


def test_one_engine_remembers_what_it_has_scored_itself(folder: Path) -> None:
    engine, inside = started(folder)
    first = [outcome.scores for outcome in engine.evaluate(jobs(folder))]
    assert [outcome.scores for outcome in engine.evaluate(jobs(folder))] == first
    assert inside.asked == [0, 1, 2, 3, 2]


def test_outcomes_keep_the_order_of_their_jobs(folder: Path) -> None:
    engine, inside = started(folder)
    everything = jobs(folder)
    list(engine.evaluate([everything[0], everything[3]]))
    shuffled = [everything[index] for index in (3, 2, 0, 1)]
    assert [outcome.id for outcome in engine.evaluate(shuffled)] == [3, 2, 0, 1]
    assert inside.asked == [0, 3, 2, 1]
    assert list(engine.evaluate([])) == []


def test_other_samples_splits_weights_and_coefficients_are_scored(folder: Path) -> None:
    engine, inside = started(folder)
    list(engine.evaluate(jobs(folder)))
    inside.asked.clear()
    other = WeightsFile(folder / "checkpoints" / "step-000050.safetensors")
    fresh = [
        Job(0, Coefficients(mixed(0)), "search", 101, remember=True),
        Job(1, Coefficients(mixed(0)), "report", 100, remember=True),
        Job(2, other, "search", 100, remember=True),
        Job(3, Coefficients(np.nextafter(mixed(0), 9)), "search", 100, remember=True),
    ]
    list(engine.evaluate(fresh))
    assert inside.asked == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "change",
    [
        ("seed", "1"),
        ("search.batch_size", "40"),
        ("report.metrics", '[{name = "kid"}]'),
        ("features.pixels.name", "digits-mlp"),
        ("objective.quantize", "none"),
        ("objective.reference", "test"),
        ("report.references", '["test"]'),
        ("weightspace.dtype", "bfloat16"),
        ("threads", "2"),
        ("parameterization.name", "layerwise"),
    ],
)
def test_a_config_that_scores_otherwise_has_a_file_of_its_own(folder: Path, change: tuple[str, str]) -> None:
    asked(folder)
    assert asked(folder) == []
    assert asked(folder, change) == [0]
    assert len(list((folder / "runs" / "scores").iterdir())) == 2


def test_other_checkpoints_have_a_file_of_their_own(folder: Path) -> None:
    asked(folder)
    write_checkpoints(folder / "checkpoints", COUNT + 1)
    assert asked(folder) == [0]


def asked(folder: Path, *overrides: tuple[str, str]) -> list[int]:
    """Which jobs a fresh engine passes on of one that scores a file."""
    engine, inside = started(folder, *overrides)
    file = WeightsFile(folder / "checkpoints" / "step-000040.safetensors")
    list(engine.evaluate([Job(0, file, "search", 50, remember=True)]))
    return inside.asked


@pytest.mark.parametrize(
    "change",
    [
        ("name", "other"),
        ("budget", "99"),
        ("optimizer.m_cp", "3"),
        ("baselines.singles", "2"),
        ("search.max_failures", "3"),
        ("parameterization.coordinates", "whitened"),
        ("weightspace.memory", "mapped"),
    ],
)
def test_a_config_that_scores_alike_shares_the_file(folder: Path, change: tuple[str, str]) -> None:
    first = [outcome.scores for outcome in started(folder)[0].evaluate(jobs(folder))]
    engine, inside = started(folder, change)
    assert [outcome.scores for outcome in engine.evaluate(jobs(folder))] == first
    assert inside.asked == [2]


def test_another_version_of_the_objective_or_extractor_is_another_score(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(started(folder)[0].evaluate(jobs(folder)))
    with monkeypatch.context() as patch:
        patch.setattr(FrechetDistance, "version", 99)
        engine, inside = started(folder)
        list(engine.evaluate(jobs(folder)))
        assert inside.asked == [0, 1, 2, 3]
    monkeypatch.setattr(Pixels, "digest", property(lambda self: "other"))
    engine, inside = started(folder)
    list(engine.evaluate(jobs(folder)))
    assert inside.asked == [0, 1, 2, 3]


def test_other_images_of_the_reference_are_scored_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin's data set may read files, and the config that names them stays as it is."""
    original = Digits.images
    asked(folder)
    assert asked(folder) == []
    for split, expected in (("validation", []), ("train", [0])):
        monkeypatch.setattr(Digits, "images", lambda self, of, s=split: original(self, of) * (0.5 if of == s else 1))
        assert asked(folder) == expected


FAMILY = """
from wsopt.hookspecs import hookimpl
from wsopt.testing.analytic import AnalyticFamily, AnalyticParams

class Mine(AnalyticFamily):
    name = "mine"

@hookimpl
def register_model_families(register):
    register("mine", "my_family:Mine", params=AnalyticParams)
"""


def test_a_plugin_whose_code_changed_is_scored_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version stands still while its author works on it."""
    (folder / "my_family.py").write_text(FAMILY)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "my_family", raising=False)
    spec = spec_of(folder)
    registry = Registry()
    for kind in ("dataset", "objective", "extractor", "parameterization"):
        for component in spec.registry.all(kind):
            registry.add(component)
    family = spec.registry.get("family", "analytic")
    registry.add(type(family)("family", "analytic", "my_family:Mine", family.params, None, "mine", "my-family", "1"))
    asked = []
    for text in (FAMILY, FAMILY, FAMILY + "# another sampler\n"):
        (folder / "my_family.py").write_text(text)
        engine = RememberingEngine(inside := Counting())
        engine.start(EvaluatorSpec(spec.config, registry, spec.checkpoints))
        list(engine.evaluate(jobs(folder)))
        asked.append(inside.asked)
    assert asked == [[0, 1, 2, 3], [2], [0, 1, 2, 3]]


def test_failures_are_not_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Job(0, Coefficients(np.full((1, COUNT), np.nan)), "search", 50, remember=True)
    for _ in range(2):
        engine, inside = started(folder)
        (outcome,) = engine.evaluate([bad])
        assert outcome.failure is not None
        assert inside.asked == [0]
    assert not (folder / "runs" / "scores").exists()


def test_missing_weights_are_told_by_the_engine_inside(folder: Path) -> None:
    job = Job(0, WeightsFile(folder / "gone.safetensors"), "search", 50, remember=True)
    plain = InProcessEngine()
    plain.start(spec_of(folder))
    with pytest.raises(Exception, match=r"gone\.safetensors") as expected:
        list(plain.evaluate([job]))
    with pytest.raises(type(expected.value)) as found:
        list(started(folder)[0].evaluate([job]))
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff\xfe garbage\n",
        b'{"key": 1}\n[]\nnull\n{"key": "a", "scores": [[1, 2]]}\n' + b"[" * 100_000 + b"\n",
        b'{"key": "%s", "scores": [["fid", null, null, "3", null, 1]]}\n',
        b'{"key": "%s", "scores": [["fid", null, null, NaN, null, 1]]}\n',
        b'{"key": "%s", "scores": 3}\n',
    ],
)
def test_lines_that_cannot_be_read_are_passed_over(folder: Path, damage: bytes) -> None:
    first = [outcome.scores for outcome in started(folder)[0].evaluate(jobs(folder))]
    (path,) = (folder / "runs" / "scores").iterdir()
    key = json.loads(lines(folder)[0])["key"]
    rest = path.read_bytes().split(b"\n", 2)[2]  # the first line torn or replaced, the others whole
    path.write_bytes(damage.replace(b"%s", key.encode()) + b"\n" + rest)
    engine, inside = started(folder)
    assert [outcome.scores for outcome in engine.evaluate(jobs(folder))] == first
    assert inside.asked == [0, 2]
    healed, inside = started(folder)
    assert [outcome.scores for outcome in healed.evaluate(jobs(folder))] == first
    assert inside.asked == [2]


def test_a_line_torn_at_the_end_does_not_spoil_the_next(folder: Path) -> None:
    list(started(folder)[0].evaluate(jobs(folder)[:1]))
    (path,) = (folder / "runs" / "scores").iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    list(started(folder)[0].evaluate(jobs(folder)[:1]))
    engine, inside = started(folder)
    list(engine.evaluate(jobs(folder)[:1]))
    assert inside.asked == []


def test_a_folder_that_cannot_be_written_costs_the_memory_only(folder: Path) -> None:
    (folder / "runs").mkdir()
    (folder / "runs" / "scores").write_text("a file where the folder should be")
    engine, inside = started(folder)
    assert all(outcome.failure is None for outcome in engine.evaluate(jobs(folder)))
    assert all(outcome.failure is None for outcome in engine.evaluate(jobs(folder)))
    assert len(inside.asked) == 8


CHILD = """
import sys
from pathlib import Path
import torch
from test_remember import jobs, started
torch.set_num_threads(1)
folder = Path(sys.argv[1])
engine, inside = started(folder)
print("ready", flush=True)
sys.stdin.readline()
for outcome in engine.evaluate(jobs(folder)):
    print(outcome.id, [(score.score.value.hex(), score.score.samples) for score in outcome.scores])
"""


def test_two_processes_share_a_file(folder: Path) -> None:
    paths = ":".join(str(path) for path in (Path(__file__).parent, ROOT / "tests" / "support"))
    env = {"PYTHONPATH": paths, "WSOPT_PLUGINS": "cd", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(folder)]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        engine, _ = started(folder)
        assert child.stdout.readline() == "ready\n"  # both have begun before either has a score
        child.stdin.write("go\n")
        child.stdin.flush()
        here = list(engine.evaluate(jobs(folder)))
        printed, _ = child.communicate(timeout=300)
    rows = [[(score.score.value.hex(), score.score.samples) for score in outcome.scores] for outcome in here]
    assert printed == "".join(f"{number} {row}\n" for number, row in enumerate(rows))
    engine, inside = started(folder)
    assert [outcome.scores for outcome in engine.evaluate(jobs(folder))] == [outcome.scores for outcome in here]
    assert inside.asked == [2]


def test_many_writers_leave_whole_lines(folder: Path) -> None:
    engines = [started(folder)[0] for _ in range(2)]
    scores = next(iter(engines[0].evaluate(jobs(folder)[:1]))).scores

    def write(engine: RememberingEngine, name: str) -> None:
        for number in range(200):
            engine._scores.add(f"{name}{number}", scores * 20)

    threads = [threading.Thread(target=write, args=(engine, name)) for engine, name in zip(engines, "ab", strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = [json.loads(line) for line in lines(folder)]
    assert len({entry["key"] for entry in entries}) == 401


def test_the_rest_of_the_engine_is_the_one_inside(folder: Path) -> None:
    engine, inside = started(folder)
    assert engine.fingerprint == inside.fingerprint
    assert engine.nfe == 1
    assert engine.warnings == inside.warnings
    assert engine.floor() == inside.floor()
    target = Coefficients(mixed())
    np.testing.assert_array_equal(engine.render(target, "report", 5).images, inside.render(target, "report", 5).images)
    for name, tensor in inside.export(target).tensors.items():
        torch.testing.assert_close(engine.export(target).tensors[name], tensor, rtol=0, atol=0)
    engine.close()
