from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from wsopt.report import RunRecord, model_card, results_markdown, write_figures

MakeRun = Callable[..., Path]
CONFIG = '# a comment with ``` in it\nname = "digits"\n'


@pytest.fixture
def folder(make_run: MakeRun) -> Path:
    return make_run(budget=60)


def change(folder: Path, **changes: object) -> RunRecord:
    path = folder / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    return RunRecord.load(folder)


def test_head(folder: Path) -> None:
    lines = model_card(RunRecord.load(folder), CONFIG).splitlines()
    assert lines[0] == "---"
    end = lines.index("---", 1)
    assert lines[1] == "library_name: wsopt"
    assert '- "lcsc"' in lines[3:end]
    assert lines[end + 2] == "# digits"


def test_links_to_the_figures_there_are(folder: Path) -> None:
    assert "![" not in model_card(RunRecord.load(folder), CONFIG)
    write_figures(folder)
    links = re.findall(r"!\[[^]]+\]\(([^)]+)\)", model_card(RunRecord.load(folder), CONFIG))
    assert links == ["figures/convergence.png", "figures/coefficients.png", "figures/samples.png"]
    assert all((folder / link).is_file() for link in links)


def test_results_config_and_provenance(folder: Path) -> None:
    record = RunRecord.load(folder)
    card = model_card(record, CONFIG)
    assert results_markdown(record, full=True) in card
    assert f"````toml\n{CONFIG}````" in card
    assert "`resolved.json` has every setting" in card
    assert "The command was" not in card
    assert "| checkpoints.fingerprint | ab12 |" in card
    assert "| seed | 0 |" in card
    assert 'load_file("merged.safetensors")' in card


def test_every_coefficient_is_listed(folder: Path) -> None:
    record = RunRecord.load(folder)
    best = record.coefficients("best")
    assert best is not None
    card = model_card(record, CONFIG)
    for step, value in zip(record.steps, best[0], strict=True):
        assert f"| {step} | {value:.6g} |" in card
    assert "<summary>50 coefficients, sum 1</summary>" in card


@pytest.mark.parametrize(
    ("groups", "said"), [(3, "| step | block 0 | block 1 | block 2 | ema-0.995 |"), (41, "41 layer groups of 50")]
)
def test_groups(make_run: MakeRun, groups: int, said: str) -> None:
    card = model_card(RunRecord.load(make_run(groups=groups, budget=40)), CONFIG)
    assert said in card
    assert f"each of {groups} layer groups" in card


def test_says_when_a_baseline_won(folder: Path) -> None:
    record = change(folder, best={"id": None, "evaluation": 9, "from": "ema-0.995"})
    assert "No candidate of the search was better than a baseline" in model_card(record, CONFIG)


def test_says_nothing_of_lcsc_for_another_optimizer(folder: Path) -> None:
    card = model_card(change(folder, optimizer="cmaes"), CONFIG)
    assert "CMA-ES (best)" in card
    assert "LCSC" not in card


def test_reproduction_shows_the_command_and_the_config_as_written(folder: Path) -> None:
    (folder / "resolved.json").write_text('{"seed": 5}', encoding="utf-8")
    command = "wsopt run digits.toml --set seed=5 --budget 50"
    (folder / "provenance.json").write_text(json.dumps({"command": command}), encoding="utf-8")
    record = RunRecord.load(folder)
    card = model_card(record, CONFIG)
    assert f"```sh\n{command}\n```" in card
    assert CONFIG in card
    assert f"a total budget of {record.results['budget']:,} evaluations" in card
    assert card.count(command) == 1


def test_an_objective_without_reference_and_samples(folder: Path) -> None:
    record = change(folder, objective={"name": "norm", "reference": None, "samples": 1000}, scores=[])
    card = model_card(record, CONFIG)
    assert "| objective | norm |" in card
    assert "None" not in card
