from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsopt.errors import InputError
from wsopt.report import RunRecord

MakeRun = Callable[..., Path]


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_reads_everything(make_run: MakeRun) -> None:
    record = RunRecord.load(make_run())
    assert record.optimizer == "lcsc"
    assert record.label == "FD(digits)"
    assert record.minimize
    assert record.steps[0] == 2020
    assert record.ema_star == "train-ema-0.998"
    assert record.search_values["last"] == 4.61
    assert len(record.trace.baselines) == 16
    assert len(record.trace.candidates) == 484
    assert [trial.name for trial in record.trace.candidates[:7] if trial.value is None] == ["5"]
    assert record.provenance["wsopt"] == "0.1.0"
    assert {row.split for row in record.scores} == {"search", "report", "data"}


def test_coefficients_by_name(make_run: MakeRun) -> None:
    record = RunRecord.load(make_run(groups=3))
    best, ema = record.coefficients("best"), record.coefficients("best-ema")
    assert best is not None
    assert ema is not None
    assert best.shape == ema.shape == (3, 50)
    np.testing.assert_allclose(best.sum(axis=1), 1.0)
    assert record.coefficients("ema*") is None


def test_samples(make_run: MakeRun) -> None:
    folder = make_run()
    pairs = RunRecord.load(folder).samples()
    assert pairs is not None
    assert pairs.best.shape == (16, 1, 8, 8)
    assert pairs.baseline_name == "train-ema-0.998"
    (folder / "samples.npz").write_bytes((folder / "samples.npz").read_bytes()[:200])
    with pytest.raises(InputError, match=r"samples\.npz cannot be read"):
        RunRecord.load(folder).samples()
    (folder / "samples.npz").unlink()
    assert RunRecord.load(folder).samples() is None


def test_pickled_arrays_are_refused(make_run: MakeRun) -> None:
    folder = make_run()
    np.savez(folder / "samples.npz", baseline=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="allow_pickle=False"):
        RunRecord.load(folder).samples()


def test_unfinished_run(make_run: MakeRun) -> None:
    folder = make_run()
    (folder / "results.json").unlink()
    with pytest.raises(InputError, match=r"has no results\.json: the run is not finished; continue it") as caught:
        RunRecord.load(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["journal.jsonl", "provenance.json"])
def test_missing_file(make_run: MakeRun, name: str) -> None:
    folder = make_run()
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"has no {re.escape(name)}"):
        RunRecord.load(folder)


def test_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        RunRecord.load(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["results.json", "provenance.json"])
@pytest.mark.parametrize(("text", "said"), [('{"format": 1, "na', "cannot be read"), ("[1]", "holds a list")])
def test_torn_or_foreign_json(make_run: MakeRun, name: str, text: str, said: str) -> None:
    folder = make_run()
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=f"{re.escape(name)} {said}"):
        RunRecord.load(folder)


def test_other_format(make_run: MakeRun) -> None:
    folder = make_run()
    edit(folder, format=2)
    with pytest.raises(InputError, match="format is 2, this wsopt reads 1"):
        RunRecord.load(folder)


def test_missing_key_and_bad_score(make_run: MakeRun) -> None:
    folder = make_run()
    edit(folder, scores=[{"name": "last", "value": 1.0}])
    with pytest.raises(InputError, match=r"scores: an entry is not a score \(KeyError\('split'\)\)"):
        RunRecord.load(folder)
    (folder / "results.json").write_text('{"format": 1, "name": "x"}', encoding="utf-8")
    with pytest.raises(InputError, match="has no seed, budget"):
        RunRecord.load(folder)


def test_torn_last_line_is_left_out_and_a_bad_one_before_it_is_named(make_run: MakeRun) -> None:
    folder = make_run()
    path = folder / "journal.jsonl"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + '{"event": "told", "id"', encoding="utf-8")
    assert len(RunRecord.load(folder).trace.candidates) == 484
    path.write_text('{"event": "run"}\nnonsense\n' + whole, encoding="utf-8")
    with pytest.raises(InputError, match=r"journal\.jsonl:2: not an event"):
        RunRecord.load(folder)


def test_report_needs_no_torch(make_run: MakeRun) -> None:
    program = (
        "import sys\n"
        "from wsopt.report import RunRecord, model_card, results_markdown, write_figures\n"
        "record = RunRecord.load(sys.argv[1])\n"
        "results_markdown(record), model_card(record, '')\n"
        "assert 'matplotlib' not in sys.modules\n"
        "write_figures(sys.argv[1])\n"
        "print([name for name in ('torch', 'sklearn', 'matplotlib.pyplot') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(make_run())], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"best": None}, "best: must be"), ({"objective": {}}, "objective.name: "), ({"timing": 3}, "timing: must be"),
        ({"budget": 0}, "budget: must be greater"), ({"steps": [1, 2]}, "coefficients.best does not have one value"),
        ({"groups": ["a", "b"]}, "coefficients.best has 1 rows, but there are 2 groups"),
        ({"scores": [{"name": 3, "split": "report", "metric": "fid", "value": 1}]}, "an entry is not a score"),
        ({"coefficients": {"best": "much"}}, "coefficients.best"), ({"memory": []}, "memory: must be"),
    ],
)  # fmt: skip
def test_results_of_wrong_types_are_named(make_run: MakeRun, change: dict[str, Any], said: str) -> None:
    folder = make_run(budget=40)
    edit(folder, **change)
    with pytest.raises(InputError, match=rf"results\.json: .*{re.escape(said)}"):
        RunRecord.load(folder)


@pytest.mark.parametrize("text", ["{}", "[]", "null", "[" * 100_000])
def test_results_that_are_none(make_run: MakeRun, text: str) -> None:
    folder = make_run(budget=40)
    (folder / "results.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"results\.json"):
        RunRecord.load(folder)


def test_a_journal_value_that_is_no_number_is_named(make_run: MakeRun) -> None:
    folder = make_run(budget=40)
    path = folder / "journal.jsonl"
    path.write_text('{"event": "told", "id": 1, "value": "low"}\n' + path.read_text(), encoding="utf-8")
    with pytest.raises(InputError, match=r"journal\.jsonl:1: not an event"):
        RunRecord.load(folder)


@pytest.mark.parametrize("stderr", [0.0, -1.0, float("nan"), float("inf")])
def test_standard_errors_that_say_nothing_are_left_out(make_run: MakeRun, stderr: float) -> None:
    folder = make_run(budget=40)
    row = {"name": "last", "split": "report", "metric": "fid", "value": 1.0, "stderr": stderr, "samples": 9}
    edit(folder, scores=[row])
    assert RunRecord.load(folder).scores[0].stderr is None
