"""Former runs as baselines and starts, and the other starts that can be named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toy_run import request_for, run, write_checkpoints, write_toml
from wsopt.errors import InputError, ResumeError
from wsopt.progress import SilentProgress
from wsopt.run import RunFolder, execute
from wsopt.run._final import curve_points
from wsopt.run._former import FormerRun
from wsopt.run._tally import Tally, Trial
from wsopt.types import Coefficients, WeightsFile

DIFFERENCE = ("parameterization.coordinates", "difference")
FORMER = FormerRun(Path("runs/old"), (10, 20, 30), ("in", "out"), np.array([[0.5, 0.0, 0.5], [0.25, 0.0, 0.75]]))


def test_coefficients_are_matched_by_step_and_group() -> None:
    found = FORMER.onto((5, 10, 30, 40), ("out", "in"))
    np.testing.assert_array_equal(found, [[0, 0.25, 0.75, 0], [0, 0.5, 0.5, 0]])
    shared = FormerRun(Path("old"), (10, 20), ("all",), np.array([[0.5, 0.5]]))
    np.testing.assert_array_equal(shared.onto((10, 20), ("a", "b", "c")), [[0.5, 0.5]] * 3)
    assert FORMER.onto((10, 30), None).shape == (2, 2)
    assert FORMER.name == "run-old"


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(
        InputError, match=r"runs/old combines checkpoints of steps 30, which this run's window does not"
    ):
        FORMER.onto((10, 20), ("in", "out"))
    with pytest.raises(InputError, match=r"each of 2 layer groups \(in, out\), this run has all"):
        FORMER.onto((10, 30), ("all",))


def test_the_curve_passes_over_what_is_no_combination_and_over_failures() -> None:
    def trial(number: int, value: float | None, weights: bool = False) -> Trial:
        target = WeightsFile(Path("ema")) if weights else Coefficients(np.full((1, 2), float(number)))
        return Trial(f"t{number}", target, value, None, number, number)

    tally = Tally(1.0, [trial(1, 0.1, weights=True), trial(2, None), trial(3, 3.0), trial(4, 2.0), trial(5, 2.5)])
    found = curve_points((0.1, 0.3, 0.2, 0.5, 1.0), 10, tally)
    assert [(point.evaluation, point.trial.name) for point in found] == [(3, "t3"), (5, "t4")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("former")
    write_checkpoints(folder / "checkpoints")
    text = write_toml(folder).read_text()
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("iter", "m_cp", "mutation_scale")))
    (folder / "toy.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def former(home: Path) -> RunFolder:
    """A finished run whose winner was searched, not a baseline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wsopt.run._execute.write_figures", lambda folder: [])
        folder = run(home, ("name", "old"), ("optimizer.name", "one-plus-one"), ("optimizer.step", "0.03"), DIFFERENCE)
    assert results(folder)["best"]["from"] == "search"
    return folder


def results(folder: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(folder.results.read_text())
    return found


def named(former: RunFolder) -> tuple[str, str]:
    return "baselines.runs", json.dumps([str(former.path)])


@pytest.mark.parametrize("name", ["lcsc", "one-plus-one", "cmaes"])
@pytest.mark.usefixtures("undrawn")
def test_every_search_goes_on_from_a_former_winner(name: str, home: Path, former: RunFolder) -> None:
    step = ("optimizer.mutation_scale" if name == "lcsc" else "optimizer.step", "0.001")
    extra = [("optimizer.m_cp", "1")] if name == "lcsc" else []
    folder = run(home, named(former), ("optimizer.name", name), step, *extra, DIFFERENCE, ("budget", "16"))
    found, before = results(folder), results(former)
    label = f"run-{former.path.name}"
    (row,) = [r for r in found["scores"] if r["name"] == label and r["split"] == "search"]
    (best,) = [r for r in before["scores"] if r["name"] == "best" and r["split"] == "search"]
    assert row["value"] == pytest.approx(best["value"], rel=1e-6)
    assert [r["reference"] for r in found["scores"] if r["name"] == label][1:] == ["digits/train", "digits/test"]
    events = [json.loads(line) for line in folder.journal.read_text().splitlines()]
    assert len(events[0]["former"]) == 1
    winner = np.array(before["coefficients"]["best"][0][1:])
    asked = np.array(next(event["x"] for event in events if event["event"] == "asked"))
    ema = np.array(before["coefficients"]["best-ema"]["values"][0][1:])
    assert np.linalg.norm(asked - winner, axis=1).max() < 0.25 * np.linalg.norm(ema - winner)


@pytest.mark.usefixtures("undrawn")
def test_another_former_winner_is_no_resume(home: Path, former: RunFolder) -> None:
    keys = (named(former), ("optimizer.name", "random"), ("budget", "14"), ("name", "changed"))
    folder = run(home, *keys)
    path, text = former.results, former.results.read_text()
    document = json.loads(text)
    document["coefficients"]["best"][0][3] += 0.125
    path.write_text(json.dumps(document))
    folder.results.unlink()
    try:
        with pytest.raises(ResumeError, match="former of this 'run' event differs"):
            run(home, *keys)
    finally:
        path.write_text(text)


def test_former_runs_are_looked_at_before_anything_happens(home: Path, former: RunFolder) -> None:
    cases = {
        "is not a folder": str(home / "nothing"),
        "has no journal.jsonl": str(home / "checkpoints"),
    }
    for text, path in cases.items():
        request = request_for(home, ("baselines.runs", json.dumps([path])), ("name", "refused"))
        with pytest.raises(InputError, match=f"baselines.runs: .*{text}"):
            execute(request, SilentProgress())
        assert not request.config.run_folder.exists()
    twice = json.dumps([str(former.path), str(former.path)])
    with pytest.raises(InputError, match="names two folders called"):
        run(home, ("baselines.runs", twice), ("name", "refused"))
    with pytest.raises(InputError, match=r"combines checkpoints of steps 10, 20, .*Widen \[checkpoints\]"):
        run(home, named(former), ("checkpoints.window", "[30, 80]"), ("name", "narrow"))


@pytest.mark.parametrize(
    ("pattern", "kinds"),
    [('["single-*"]', {"single"}), ('["uniform", "last", "power-*"]', {"uniform", "last", "power"})],
)
@pytest.mark.usefixtures("undrawn")
def test_any_baseline_given_by_coefficients_can_be_a_start(home: Path, pattern: str, kinds: set[str]) -> None:
    """The search begins from the best of those that are named."""
    keys = (("optimizer.name", "one-plus-one"), ("optimizer.step", "0.0001"), ("budget", "12"))
    folder = run(home, ("search.starts", pattern), *keys)
    events = [json.loads(line) for line in folder.journal.read_text().splitlines()]
    known = [event for event in events if event["event"] == "baseline"]
    chosen = [event for event in known if event["name"].partition("-")[0] in kinds]
    best = min(chosen, key=lambda event: float(event["value"]))
    told = next(event for event in events if event["event"] == "told")
    assert told["value"] == pytest.approx(best["value"], rel=0.01)


@pytest.mark.usefixtures("undrawn")
def test_common_scores_are_measured_once_and_the_journal_is_the_same(home: Path) -> None:
    keys = (("optimizer.name", "random"), ("budget", "14"), ("name", "second"))
    alone = run(home, *keys, ("output", str(home / "alone")))
    run(home, ("optimizer.name", "one-plus-one"), ("budget", "14"), ("name", "first"), ("output", str(home / "beside")))
    folder = run(home, *keys, ("output", str(home / "beside")))
    assert folder.journal.read_bytes() == alone.journal.read_bytes()
    timing, before = results(folder)["timing"], results(alone)["timing"]
    assert before["remembered"] == 0
    # 8 to 10 baselines on the search split, and at least those of them but the singles on the report split
    assert timing["remembered"] >= 14
    lines = [json.loads(line) for line in folder.timings.read_text().splitlines()]
    measured = [line["seconds"] for line in lines if line.get("stage") in ("baselines", "search") and line["seconds"]]
    assert len(measured) < results(folder)["evaluations"]
    parts = ("merge", "sample", "features", "distance")
    mean = sum(sum(seconds.get(part, 0.0) for part in parts) for seconds in measured) / len(measured)
    assert sum(timing["split"][part] for part in parts) == pytest.approx(mean)
    assert f"{timing['remembered']} scores were taken from other runs" in folder.card.read_text()
