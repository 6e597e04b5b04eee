"""`wsopt compare` as a user meets it: real runs on the analytic family, then their folders alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from toy_run import PLUGIN, TOML, write_checkpoints
from wsopt.cli import main

FILES = {"manifest.json", "logs", "figures", "runs.csv", "table.md", "table.tex", "report.html", "comparison.json"}
COMPARISON = """
name = "toys"
base = "base.toml"
jobs = 2

[common]
search.samples = 100
report.samples = 100
report.figure_pairs = 0

[instances]
seed = [1]

[methods.lcsc]

[methods.random]
optimizer.name = "random"
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints and a comparison whose runs are finished."""
    folder = tmp_path_factory.mktemp("compare")
    write_checkpoints(folder / "checkpoints")
    text = TOML.format(seed=0, budget=14, output=folder / "runs")
    (folder / "base.toml").write_text(text.replace("[family]", f'plugins = ["{PLUGIN}"]\n[family]', 1))
    (folder / "toys.toml").write_text(COMPARISON)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WSOPT_PLUGINS", "cd")
        assert main(["compare", str(folder / "toys.toml")]) == 0
    return folder


def runs(toy: Path) -> list[Path]:
    return sorted(path for path in (toy / "runs").iterdir() if (path / "results.json").exists())


def test_everything_is_written(toy: Path) -> None:
    out = toy / "runs" / "toys"
    assert {path.name for path in out.iterdir()} >= FILES
    manifest = json.loads((out / "manifest.json").read_text())
    assert [(cell["method"], cell["state"]) for cell in manifest["cells"]] == [("lcsc", "done"), ("random", "done")]
    assert {cell["run"] for cell in manifest["cells"]} == {str(path) for path in runs(toy)}
    comparison = json.loads((out / "comparison.json").read_text())
    assert set(comparison["methods"]) == {"lcsc", "random"}
    assert comparison["instances"] == ["seed=1"]
    assert comparison["reference"] == "lcsc"


def test_a_second_command_runs_nothing(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (toy / "runs").glob("*/journal.jsonl")}
    assert main(["compare", str(toy / "toys.toml"), "--json"]) == 0
    captured = capsys.readouterr()
    assert "2 of 2 runs are finished already" in captured.err
    assert json.loads(captured.out)["name"] == "toys"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    tried = json.loads((toy / "runs" / "toys" / "manifest.json").read_text())["tried"]
    assert all(entry["times"] >= 2 for entry in tried)


def test_the_plan(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["compare", str(toy / "toys.toml"), "--dry-run", "--set", "optimizer.name=random", "--set", "seed=1"]
    assert main([*argv[:3], "--jobs", "3"]) == 0
    text = capsys.readouterr().out
    assert "runs          2, 3 at a time" in text
    assert "evaluations   28 in all, 0 of them still to do" in text
    assert f"wsopt run {toy / 'base.toml'} --set 'optimizer.name=\"random\"'" in text
    assert main([*argv[:3], "--set", "budget=20", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [(run["budget"], run["evaluations"], run["finished"]) for run in plan["runs"]] == [(20, 14, False)] * 2
    assert main(argv) == 2  # both methods are the same run now
    assert "resolve to the same run" in capsys.readouterr().err


def test_a_budget_that_is_spent_already_is_told(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(toy / "toys.toml"), "--dry-run", "--set", "budget=13"]) == 0
    said = capsys.readouterr().out
    assert "26 in all, 0 of them still to do" in said
    assert "lcsc (seed=1): 14 evaluations done, more than its budget of 13, which is refused" in said


def test_finished_runs_are_compared(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(path) for path in runs(toy)]
    before = sorted(tmp_path.iterdir())
    assert main(["compare", *folders, "--json"]) == 0
    (method,) = [name for name in json.loads(capsys.readouterr().out)["methods"] if "random" in name]
    assert sorted(tmp_path.iterdir()) == before
    assert main(["compare", *folders, "--output", str(tmp_path / "mine"), "--reference", method]) == 0
    assert method in capsys.readouterr().out
    comparison = json.loads((tmp_path / "mine" / "comparison.json").read_text())
    assert (comparison["name"], comparison["reference"]) == ("mine", method)
    assert {path.name for path in (tmp_path / "mine").iterdir()} >= FILES - {"manifest.json", "logs"}


def test_finished_runs_need_no_torch(toy: Path) -> None:
    script = (
        "import sys, wsopt.cli\n"
        f"assert wsopt.cli.main(['compare', *{[str(path) for path in runs(toy)]!r}]) == 0\n"
        "assert not {'torch', 'cma', 'nevergrad', 'sklearn'} & set(sys.modules), 'too much is imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr


def test_a_failure_is_told_and_the_rest_compared(toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = COMPARISON + '\n[methods.lost]\ncheckpoints.path = "nowhere"\n'
    (toy / "lost.toml").write_text(text.replace('name = "toys"', 'name = "lost"'))
    assert main(["compare", str(toy / "lost.toml")]) == 2
    assert "checkpoints" in capfd.readouterr().err
    assert main(["compare", str(toy / "lost.toml"), "--force"]) == 1
    error = capfd.readouterr().err
    assert "no comparison is written: lost has no finished run." in error
    assert "error: lost (seed=1) failed with exit code 2: " in error
    assert "nowhere" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["no.toml"], "the comparison no.toml does not exist"),
        (["no", "neither"], "no is not a folder. Give one comparison in TOML, or the folders of finished runs."),
        (["{run}", "{run}"], "is given twice"),
        (["{run}", "--set", "seed=1"], "--set is for a comparison FILE"),
        (["{run}", "--jobs", "2"], "--jobs is for a comparison FILE"),
        (["{toy}"], "has no journal.jsonl, so it is not a run folder"),
        (["{toy}/toys.toml", "--reference", "lcsc"], "--reference is for run folders"),
        (["{run}", "--reference", "x"], "'x'"),
        (["{run}", "--output", "{toy}/toys.toml"], "toys.toml is not a folder. Give another one"),
        (["{run}", "--output", "{toy}/toys.toml/out"], "toys.toml is not a folder. Give another one"),
        (["{run}", "--output", "{run}"], "is the folder of a run, whose figures would be overwritten"),
        (["{toy}/toys.toml", "--output", "{run}"], "is the folder of a run, whose figures would be overwritten"),
    ],
)
def test_wrong_arguments(toy: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *(word.format(run=runs(toy)[0], toy=toy) for word in argv)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_jobs_must_be_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "x.toml", "--jobs", "0"]) == 2
    assert "'0' is not a whole number from 1" in capsys.readouterr().err
