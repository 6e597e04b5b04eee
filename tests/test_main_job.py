"""The main job as a user runs it: real processes, real signals, real files, at a tiny setting of the real benchmark."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from wsopt.config import load_config
from wsopt.plugin_manager import load_plugins

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "lcsc_cd.toml"
TINY = {
    "train.teacher_steps": 60,
    "train.steps": 60,
    "train.save_every": 6,
    "train.state_every": 10,
    "train.teacher_batch": 8,
    "train.batch": 8,
    "baselines.singles": 2,
    "baselines.extend": 1,
    "search.samples": 60,
    "report.samples": 60,
    "report.figure_pairs": 2,
    "budget": 60,
    "optimizer.iter": 7,
}


def command(output: Path, *extra: str) -> list[str]:
    overrides = [f"--set={key}={value}" for key, value in TINY.items()]
    return [sys.executable, "-m", "wsopt.cli", "run", str(BENCHMARK), f"--set=output={output}", *overrides, *extra]


def start(output: Path, *extra: str) -> subprocess.Popen[str]:
    environment = os.environ | {"WSOPT_PLUGINS": "cd"}
    return subprocess.Popen(
        command(output, *extra), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def stop_when(process: subprocess.Popen[str], ready: Callable[[], bool], how: signal.Signals) -> tuple[int, str]:
    """Send a signal as soon as `ready`; return the exit code and stderr."""
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(how)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


def finish(output: Path, *extra: str) -> tuple[Path, str]:
    process = start(output, *extra)
    stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    return folder_in(output), stdout


def folder_in(output: Path) -> Path:
    (folder,) = [path.parent for path in output.glob("*/journal.jsonl")]
    return folder


def has_events(output: Path, kind: str, count: int) -> Callable[[], bool]:
    def ready() -> bool:
        journals = list(output.glob("*/journal.jsonl"))
        return bool(journals) and journals[0].read_text().count(f'"event":"{kind}"') >= count

    return ready


def trains(output: Path, phase: str) -> Callable[[], bool]:
    def ready() -> bool:
        pattern = (
            "trained/*/state.safetensors" if phase == "teacher" else "trained/*/checkpoints/step-000018.safetensors"
        )
        return any(output.glob(pattern))

    return ready


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    finish(output)
    return output


@pytest.mark.slow
@pytest.mark.timeout(900)  # five runs and their kills: minutes on a machine with other work
def test_killed_in_every_stage_the_journal_is_the_undisturbed_one(undisturbed: Path, tmp_path: Path) -> None:
    stages = [
        trains(tmp_path, "teacher"),
        trains(tmp_path, "distillation"),
        has_events(tmp_path, "baseline", 4),
        has_events(tmp_path, "told", 9),
        has_events(tmp_path, "report", 3),
    ]
    for ready in stages:
        code, _ = stop_when(start(tmp_path), ready, signal.SIGKILL)
        assert code == -signal.SIGKILL
    folder, _ = finish(tmp_path)
    reference = folder_in(undisturbed)
    assert (folder / "journal.jsonl").read_bytes() == (reference / "journal.jsonl").read_bytes()
    assert (folder / "merged.safetensors").read_bytes() == (reference / "merged.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_on_request_it_says_how_to_go_on(undisturbed: Path, tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "trained").symlink_to(undisturbed / "trained")
    code, stderr = stop_when(start(tmp_path), has_events(tmp_path, "told", 3), how)
    assert code == 130
    last = stderr.strip().splitlines()[-1]
    assert last.startswith(f"continue with:  wsopt run {BENCHMARK} --set output=")
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_json_on_stdout_is_results_json_and_the_weights_load(undisturbed: Path) -> None:
    folder, stdout = finish(undisturbed, "--json")
    assert json.loads(stdout) == json.loads((folder / "results.json").read_text())
    config, _ = load_config(BENCHMARK, [("train.steps", "60"), ("train.save_every", "6")])
    family = load_plugins().registry.get("family", "cd").load()(config.family.params)
    family.load(family.build(), load_file(folder / "merged.safetensors"))
