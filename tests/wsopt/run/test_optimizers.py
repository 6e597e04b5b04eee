"""A whole run with every optimizer: interrupted, continued, and the same as one that was not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toy_run import request_for, run, write_checkpoints, write_toml
from wsopt.errors import Interrupted, ResumeError, UnknownNameError
from wsopt.progress import SilentProgress
from wsopt.run import execute

SETTINGS = {
    "lcsc": {},
    "one-plus-one": {},
    "coordinate": {},
    "cmaes": {},
    "cmaes-vkd": {"covariance": "vkd"},
    "nevergrad": {"optimizer": "CMA"},
    "random": {},
}


class Stopping(SilentProgress):
    """Asks for a stop after some evaluations."""

    def __init__(self, after: int) -> None:
        self.left = after

    def should_stop(self) -> bool:
        self.left -= 1
        return self.left < 0


def overrides(name: str, output: Path) -> list[tuple[str, str]]:
    keys = [("optimizer.name", name.partition("-v")[0]), ("output", str(output))]
    return keys + [(f"optimizer.{key}", value) for key, value in SETTINGS[name].items()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_checkpoints(tmp_path / "checkpoints")
    text = write_toml(tmp_path).read_text()
    (tmp_path / "toy.toml").write_text("\n".join(line for line in text.splitlines() if not line.startswith(_LCSC)))
    return tmp_path


_LCSC = ("iter", "m_cp", "mutation_scale")


@pytest.mark.parametrize("name", SETTINGS)
def test_an_interrupted_run_has_the_same_journal(name: str, folder: Path) -> None:
    whole = run(folder, *overrides(name, folder / "whole"))
    cut = overrides(name, folder / "cut")
    for after in (14, 5, 6):
        with pytest.raises(Interrupted):
            run(folder, *cut, progress=Stopping(after))
    again = run(folder, *cut)
    assert again.journal.read_text() == whole.journal.read_text()
    results = json.loads(whole.results.read_text())
    assert results["evaluations"] == 30
    assert results["failed"] == 0
    assert {"best", "recommended"} <= {row["name"] for row in results["scores"]}


def test_a_finished_run_of_nevergrad_cannot_be_given_a_larger_budget(folder: Path) -> None:
    keys = overrides("nevergrad", folder / "runs")
    run(folder, *keys)
    with pytest.raises(ResumeError, match="depends on the budget"):
        run(folder, *keys, ("budget", "40"))


@pytest.mark.parametrize("name", ["one-plus-one", "coordinate", "cmaes"])
def test_a_finished_run_continues_as_if_it_had_had_the_budget(name: str, folder: Path) -> None:
    keys = overrides(name, folder / "runs")
    run(folder, *keys)
    told = _told(run(folder, *keys, ("budget", "45")).journal)
    assert told == _told(run(folder, *overrides(name, folder / "whole"), ("budget", "45")).journal)


def _told(journal: Path) -> list[object]:
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    return [event for event in events if event["event"] == "told"]


def test_an_unknown_nevergrad_optimizer_is_refused_before_anything_happens(folder: Path) -> None:
    request = request_for(folder, ("optimizer.name", "nevergrad"), ("optimizer.optimizer", "CMB"))
    with pytest.raises(UnknownNameError, match="did you mean 'CM' or 'CMA'"):
        execute(request, SilentProgress())
    assert not (folder / "runs").exists()
