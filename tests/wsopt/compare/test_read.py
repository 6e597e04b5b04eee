from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import toy_run
from wsopt.compare._analyse import analyse
from wsopt.compare._comparable import differences
from wsopt.compare._read import read_runs
from wsopt.errors import InputError
from wsopt.report import RunRecord

BUDGET = 24
LCSC_ONLY = "iter = 5\nm_cp = 4\nmutation_scale = 0.1\n"
PARAMETERIZATION = '\n[parameterization]\nname = "difference"\ncoordinates = "difference"\n'


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs by what is special about them."""
    folder = tmp_path_factory.mktemp("toy")
    toy_run.write_checkpoints(folder / "checkpoints")
    toy_run.write_toml(folder, budget=BUDGET)
    overrides: dict[str, tuple[tuple[str, str], ...]] = {
        "lcsc": (),
        "lcsc other seed": (("seed", "1"),),
        "random": (("optimizer.name", '"random"'),),
        "random more samples": (("optimizer.name", '"random"'), ("search.samples", "150")),
    }
    config = folder / "toy.toml"
    config.write_text(config.read_text().replace(LCSC_ONLY, "") + PARAMETERIZATION)
    return {name: toy_run.run(folder, *pairs).path for name, pairs in overrides.items()}


@pytest.fixture
def spoil(runs: dict[str, Path], tmp_path: Path) -> Callable[[str, Callable[[str], str]], Path]:
    """Copies a run, with the text of one of its files changed."""

    def make(file: str, change: Callable[[str], str]) -> Path:
        copy = tmp_path / "copy"
        shutil.copytree(runs["lcsc"], copy)
        (copy / file).write_text(change((copy / file).read_text()))
        return copy

    return make


def edited(**entries: Any) -> Callable[[str], str]:
    """Changes entries of a JSON object; None takes one away."""

    def change(text: str) -> str:
        found = {**json.loads(text), **entries}
        return json.dumps({key: value for key, value in found.items() if value is not None})

    return change


def test_a_run_as_a_comparison_sees_it(runs: dict[str, Path]) -> None:
    (cell,) = read_runs([runs["lcsc"]])
    record = RunRecord.load(runs["lcsc"])
    assert (cell.method, cell.instance, cell.path) == ("lcsc", "seed=0", runs["lcsc"])
    assert (len(cell.losses), cell.budget, cell.sign) == (BUDGET, BUDGET, 1.0)
    assert cell.baselines == len(record.trace.baselines)
    trials = [*record.trace.baselines, *record.trace.candidates]
    assert cell.losses.tolist() == [trial.value for trial in trials]
    assert cell.combination.all()
    assert record.ema_star is not None
    assert cell.ema_star == record.search_values[record.ema_star]
    assert cell.best_so_far()[-1] == min(cell.losses)
    assert (cell.samples, cell.nfe) == (120, record.results["nfe"])
    assert cell.optimism == record.results["optimism"]["gap"]
    assert {row.split for row in cell.rows} == {"report", "data"}
    assert {"best", "ema*", "last", "uniform", "floor"} <= {row.name for row in cell.rows}
    assert cell.resolved["optimizer"]["name"] == "lcsc"
    assert cell.provenance["checkpoints"]["count"] == 8


def test_seconds_are_those_of_each_evaluation(runs: dict[str, Path]) -> None:
    (cell,) = read_runs([runs["lcsc"]])
    assert np.isfinite(cell.seconds).all()
    timing = json.loads((runs["lcsc"] / "results.json").read_text())["timing"]
    assert_allclose(cell.optimizer_seconds, BUDGET * timing["split"]["optimizer"])
    entries = [json.loads(line) for line in (runs["lcsc"] / "timings.jsonl").read_text().splitlines()]
    first = next(entry for entry in entries if entry.get("event") == "trial" and entry["trial"] == "last")
    assert_allclose(cell.seconds[0], sum(first["seconds"].values()))


def test_methods_and_instances_of_plain_folders(runs: dict[str, Path]) -> None:
    wanted = ["lcsc", "lcsc other seed", "random"]
    cells = read_runs([runs[name] for name in wanted])
    names = [(cell.method, cell.instance) for cell in cells]
    assert names == [("lcsc", "seed=0"), ("lcsc", "seed=1"), ("random", "seed=0")]
    assert differences(cells) == ()
    found = analyse(cells, name="toy")
    assert set(found.methods) == {"lcsc", "random"}
    assert found.reference == "lcsc"
    assert len(found.tests) == 3
    json.dumps(dict(found.manifest), allow_nan=False)


def test_names_that_are_given(runs: dict[str, Path]) -> None:
    cells = read_runs({runs["random"]: ("b", "one"), runs["lcsc"]: ("a", "one")})
    assert [(cell.method, cell.instance) for cell in cells] == [("b", "one"), ("a", "one")]


def test_other_samples_are_a_method_and_a_difference(runs: dict[str, Path]) -> None:
    cells = read_runs([runs["random"], runs["random more samples"]])
    assert [cell.method for cell in cells] == ["samples 120", "samples 150"]
    assert [one.kind for one in differences(cells)] == ["search.samples"]


def test_two_runs_of_one_method_and_instance(runs: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(runs["lcsc"], tmp_path / "copy")
    with pytest.raises(InputError) as caught:
        read_runs([runs["lcsc"], copy])
    assert f"{runs['lcsc']} and {copy} are both runs of 'lcsc' on 'seed=0'" in str(caught.value)
    with pytest.raises(InputError, match="is given twice"):
        read_runs([runs["lcsc"], runs["lcsc"] / "figures" / ".."])
    with pytest.raises(InputError, match="no runs to compare"):
        read_runs([])


@pytest.mark.parametrize("file", ["results.json", "journal.jsonl", "provenance.json", "resolved.json"])
def test_a_missing_file_is_named(spoil: Callable[..., Path], file: str) -> None:
    copy = spoil(file, lambda text: text)
    (copy / file).unlink()
    with pytest.raises(InputError, match=f"{copy}.* has no {file}"):
        read_runs([copy])


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("results.json", edited(format=7), "results.json: format is 7"),
        ("results.json", edited(curve=[{"evaluation": 3}]), "results.json: curve: an entry is not a point"),
        ("results.json", edited(curve=[3]), "results.json: curve: an entry is not a point"),
        ("results.json", lambda text: text[:100], "results.json cannot be read"),
        ("resolved.json", lambda text: text[:100], "resolved.json cannot be read"),
        ("resolved.json", edited(search=None), "resolved.json has no section search"),
        ("resolved.json", lambda text: "[]", "resolved.json has no section optimizer"),
        ("resolved.json", edited(plugins=[{"path": "x"}]), "resolved.json: plugins is no list"),
        ("provenance.json", edited(checkpoints=None), "provenance.json does not name the checkpoints"),
        ("provenance.json", edited(packages=["torch"]), "provenance.json: packages is \"['torch']\""),
        ("results.json", edited(nfe="q"), "results.json: nfe is 'q'"),
        ("resolved.json", edited(seed="one"), "resolved.json: seed is 'one'"),
        ("journal.jsonl", lambda text: "{\n" + text, "journal.jsonl:1: "),
    ],
)
def test_a_file_that_is_wrong_is_named(
    spoil: Callable[..., Path], file: str, change: Callable[[str], str], message: str
) -> None:
    copy = spoil(file, change)
    with pytest.raises(InputError) as caught:
        read_runs([copy])
    assert f"{copy}/{message}" in str(caught.value)


def test_all_folders_that_are_wrong_are_named_at_once(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        read_runs([tmp_path / "empty", runs["lcsc"], tmp_path / "none"])
    first, second = str(caught.value).split("\n")
    assert f"{tmp_path / 'empty'} has no journal.jsonl" in first
    assert f"{tmp_path / 'none'} is not a folder" in second


def test_runs_of_a_former_version_are_read(spoil: Callable[..., Path]) -> None:
    later = ("curve", "optimizer_facts", "validation", "exported", "nfe")
    copy = spoil("results.json", edited(**dict.fromkeys(later)))
    resolved = json.loads((copy / "resolved.json").read_text())
    for section in ("validation", "weightspace"):
        resolved.pop(section, None)
    (copy / "resolved.json").write_text(json.dumps(resolved))
    timings = [json.loads(line) for line in (copy / "timings.jsonl").read_text().splitlines()]
    without = [{key: value for key, value in entry.items() if key != "stage"} for entry in timings]
    (copy / "timings.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in without))
    (cell,) = read_runs([copy])
    assert (cell.curve, cell.nfe) == ((), 1)
    assert np.isfinite(cell.seconds).all()
    assert analyse([cell], name="toy").methods == ("lcsc",)


def test_curves_end_with_the_run(spoil: Callable[..., Path]) -> None:
    score = {"metric": "fid", "features": "pixels", "reference": "digits/train", "value": 3.5, "stderr": None}
    point = {"evaluation": 12, "name": "trial 3", "scores": [score, {**score, "value": None}]}
    (cell,) = read_runs([spoil("results.json", edited(curve=[point]))])
    assert [number for number, _ in cell.curve] == [12, BUDGET]
    assert [row.value for row in cell.curve[0][1]] == [3.5]
    assert cell.curve[1][1] == tuple(row for row in cell.rows if row.name == "best")


def test_what_was_not_measured_has_no_seconds(spoil: Callable[..., Path], runs: dict[str, Path]) -> None:
    def remembered(text: str) -> str:
        lines = [json.loads(line) for line in text.splitlines()]
        for entry in lines:
            if entry.get("stage") == "baselines":
                entry["seconds"] = {}
        broken = [{"event": "trial", "stage": "search", "trial": "0", "seconds": {"merge": "x"}}]
        again = [*broken, {"event": "optimizer", "seconds": 0.125}, {"event": "optimizer", "seconds": None}]
        return "".join(json.dumps(entry) + "\n" for entry in lines + again) + '{"event": "tri'

    (cell,) = read_runs([spoil("timings.jsonl", remembered)])
    assert np.isnan(cell.seconds[: cell.baselines]).all()
    assert np.isfinite(cell.seconds[cell.baselines :]).all()
    assert cell.optimizer_seconds == 0.125


def test_a_run_without_timings(spoil: Callable[..., Path]) -> None:
    copy = spoil("timings.jsonl", lambda text: text)
    (copy / "timings.jsonl").unlink()
    (cell,) = read_runs([copy])
    assert np.isnan(cell.seconds).all()
    assert cell.optimizer_seconds == 0.0


def test_a_training_time_ema_is_no_combination(spoil: Callable[..., Path]) -> None:
    def weights(text: str) -> str:
        lines = [json.loads(line) for line in text.splitlines()]
        first = next(event for event in lines if event["event"] == "baseline")
        first |= {"kind": "weights", "value": 0.001}
        lines.append({"event": "told", "id": 999, "failure": "NaN"})
        return "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in lines)

    (cell,) = read_runs([spoil("journal.jsonl", weights)])
    assert cell.combination.tolist() == [False] + [True] * BUDGET
    assert np.isnan(cell.losses[-1])
    assert cell.best_so_far()[-1] > 0.001


def test_a_maximised_score_is_a_negative_loss(spoil: Callable[..., Path], runs: dict[str, Path]) -> None:
    objective = json.loads((runs["lcsc"] / "results.json").read_text())["objective"]
    (usual,) = read_runs([runs["lcsc"]])
    (cell,) = read_runs([spoil("results.json", edited(objective={**objective, "direction": "maximize"}))])
    assert cell.sign == -1.0
    assert cell.losses.tolist() == (-usual.losses).tolist()
    assert cell.ema_star == -(usual.ema_star or 0)
