"""Racing in a run: the same search for fewer samples, in a journal that replays."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from toy_run import StopAfter, request_for, run, write_toml
from wsopt.errors import InputError, Interrupted
from wsopt.objectives import FrechetDistance, Objective
from wsopt.run import RunFolder, make_plan
from wsopt.run._race import Races, race_warning
from wsopt.types import Outcome, Partial

RACE = ("search.race", "[20, 60]")
SAVINGS = Path(__file__).parents[3] / "benchmarks" / "race_savings.py"

pytestmark = pytest.mark.usefixtures("undrawn")


def events(folder: RunFolder, kind: str | None = None) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in folder.journal.read_text().splitlines()]
    return [event for event in found if kind in (None, event["event"])]


def results(folder: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(folder.results.read_text())
    return found


def given_up(folder: RunFolder) -> list[dict[str, Any]]:
    return [event for event in events(folder, "told") if "given_up" in event]


def test_a_race_asks_the_same_candidates_and_finds_the_same_for_fewer_samples(toy: Path) -> None:
    write_toml(toy, budget=60)
    plain, raced = run(toy), run(toy, ("search.race", "[60, 90]"))
    assert not any("partials" in event or "given_up" in event for event in events(plain))
    assert results(plain).get("race") is None
    out = given_up(raced)
    assert len(out) > 10
    for one, two in zip(events(plain, "told"), events(raced, "told"), strict=True):
        assert one["id"] == two["id"]
        if "given_up" not in two:
            assert two["value"] == pytest.approx(one["value"], rel=1e-6)
    np.testing.assert_allclose(
        [x for event in events(plain, "asked") for x in event["x"]],
        [x for event in events(raced, "asked") for x in event["x"]],
    )
    assert results(raced)["best"] == results(plain)["best"]
    assert results(raced)["evaluations"] == results(plain)["evaluations"] == 60
    assert results(raced)["failed"] == 0
    saved = sum(120 - event["given_up"] for event in out) / (120 * 60)
    assert results(raced)["race"] == {"given_up": len(out), "samples_saved": pytest.approx(saved)}


def test_what_was_given_up_has_an_estimate_and_no_score(toy: Path) -> None:
    write_toml(toy, budget=40)
    folder = run(toy, RACE)
    scored = {e["value"] for e in events(folder) if e["event"] in ("baseline", "told") and "value" in e}
    for event in given_up(folder):
        assert list(event) == ["event", "id", "loss", "given_up", "partials"]
        assert event["given_up"] in (20, 60)
        assert [row[0] for row in event["partials"]] == [n for n in (20, 60) if n <= event["given_up"]]
        bars = [value for value in scored if value < event["loss"]]
        assert bars
    for event in events(folder, "baseline"):
        assert [row[0] for row in event["partials"]] == [20, 60]
        assert "value" in event


@pytest.mark.parametrize("stop", [9, 15, 23])
def test_stopped_anywhere_and_continued_the_journal_is_the_undisturbed_one(toy: Path, stop: int) -> None:
    folder = run(toy, RACE)
    assert given_up(folder)
    undisturbed = folder.journal.read_bytes()
    write_toml(toy, output="other")
    with pytest.raises(Interrupted):
        run(toy, RACE, progress=StopAfter(stop))
    assert run(toy, RACE).journal.read_bytes() == undisturbed


def test_the_search_ends_alike_with_more_budget_at_once_or_later(toy: Path) -> None:
    write_toml(toy, budget=35)
    at_once = run(toy, RACE)
    write_toml(toy, budget=20, output="other")
    run(toy, RACE)
    write_toml(toy, budget=35, output="other")
    later = run(toy, RACE)
    assert events(later, "told") == events(at_once, "told")
    assert len(given_up(later)) > 0


def test_candidates_that_were_given_up_are_no_failures(toy: Path) -> None:
    folder = run(toy, RACE, ("search.max_failures", "1"), ("search.race_margin", "0.1"))
    kinds = ["given_up" in event for event in events(folder, "told")]
    assert any(first and second for first, second in itertools.pairwise(kinds))


def test_a_validated_run_never_validates_what_was_given_up(toy: Path) -> None:
    folder = run(toy, RACE, ("validation.samples", "100"), ("budget", "40"))
    out = {f"trial {event['id']}" for event in given_up(folder)}
    assert out
    assert not out & {event["name"] for event in events(folder, "validated")}
    assert results(folder)["best"]["name"] not in out


def test_one_plus_one_races_against_its_parent(toy: Path) -> None:
    folder = run(toy, RACE, ("optimizer", '{name = "one-plus-one", step = 1.0}'))
    best = min(event["value"] for event in events(folder, "baseline") if event["name"].startswith("ema"))
    assert given_up(folder)
    for event in events(folder, "told"):
        if "given_up" in event:
            assert event["loss"] > best
        else:
            best = min(best, event["value"])


def test_an_optimizer_without_a_bar_gives_nothing_up(toy: Path) -> None:
    folder = run(toy, RACE, ("optimizer", '{name = "cmaes", step = 1.0}'))
    assert not given_up(folder)
    assert results(folder)["race"] == {"given_up": 0, "samples_saved": 0.0}


@pytest.mark.parametrize(
    ("optimizer", "warned"),
    [
        ('{name = "cmaes", step = 1.0}', True),
        ('{name = "one-plus-one", slope = true}', True),
        ('{name = "one-plus-one"}', False),
        ('{name = "lcsc"}', False),
    ],
)
def test_a_race_that_can_spare_nobody_is_told(toy: Path, optimizer: str, warned: bool) -> None:
    request = request_for(toy, RACE, ("optimizer", optimizer))
    found = race_warning(request.config, request.registry.get("optimizer", request.config.optimizer.name).load())
    assert (found is not None) == warned
    assert found is None or found.startswith("search.race gives nobody up: to optimizer ")


def test_the_plan_refuses_what_the_run_would(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrechetDistance, "replicates", Objective.replicates)
    request = request_for(toy, RACE)
    with pytest.raises(InputError, match="objective fid has no replicates"):
        make_plan(request.config, request.registry)


def test_without_replicates_the_race_is_refused_before_anything_is_scored(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FrechetDistance, "replicates", Objective.replicates)
    with pytest.raises(InputError, match="objective fid has no replicates"):
        run(toy, RACE)
    assert not RunFolder(request_for(toy, RACE).config.run_folder).journal.exists()


def test_replicates_that_never_come_are_told_before_the_first_candidate(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FrechetDistance, "replicates", lambda self, acc: None)
    with pytest.raises(InputError, match="gave no replicates for any baseline"):
        run(toy, RACE)
    assert not events(RunFolder(request_for(toy, RACE).config.run_folder), "asked")


def test_what_a_race_would_give_up_is_read_off_a_recorded_run(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("race_savings", SAVINGS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "race_savings", module)
    spec.loader.exec_module(module)
    recorded, raced = run(toy, RACE, ("search.race_margin", "1e9")), run(toy, RACE)
    assert not given_up(recorded)
    monkeypatch.setattr(sys, "argv", ["race_savings.py", str(recorded.path), "--margins", "3"])
    module.main()
    last = capsys.readouterr().out.splitlines()[-1]
    cells = [cell.strip() for cell in last.strip("|").split("|")]
    share = len(given_up(raced)) / len(events(raced, "told"))
    assert cells[:4] == ["20, 60", "3", f"{share:.1%}", "0"]
    assert cells[5] == f"{results(raced)['race']['samples_saved']:.1%}"


def partial(value: float) -> Partial:
    return Partial(20, value, (value, value))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_estimate_is_the_rivals_loss_plus_how_far_it_was_behind(toy: Path, sign: float) -> None:
    races = Races(request_for(toy, RACE).config, sign)
    rows = [[20, sign * 5.0, [sign * 5.0, sign * 5.0]]]
    races.learn({"event": "baseline", "value": sign * 3.0, "partials": rows})
    race = races.against(3.0)
    assert race is not None
    assert race.rival == (partial(sign * 5.0),)
    told = races.told(Outcome(7, (), partials=(partial(sign * 7.5),), given_up=True), 3.0)
    assert told["loss"] == 5.5
    level = races.told(Outcome(7, (), partials=(partial(sign * 5.0),), given_up=True), 3.0)
    assert level["loss"] == math.nextafter(3.0, math.inf)
    unknown = races.against(2.0)
    assert unknown is not None
    assert unknown.rival == ()
