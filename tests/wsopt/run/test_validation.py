"""Validation, shrinkage, early stop and the curve, on real runs of the analytic family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from toy_run import run, write_checkpoints, write_toml
from wsopt.errors import InputError, ResumeError
from wsopt.objectives import FrechetDistance
from wsopt.progress import SilentProgress
from wsopt.run import RunFolder
from wsopt.seeding import SampleNoise
from wsopt.testing.analytic import AnalyticFamily

ON = (
    ("optimizer.mutation_scale", "0.02"),
    ("validation.samples", "90"),
    ("validation.reference", "test"),
    ("report.curve", "[0.1, 0.5, 0.75, 1.0]"),
)


class Lines(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def line(self, text: str) -> None:
        self.said.append(text)


def events(folder: RunFolder, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in folder.journal.read_text().splitlines()]
    return [event for event in found if event["event"] == kind]


def results(folder: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(folder.results.read_text())
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    write_checkpoints(folder / "checkpoints")
    write_toml(folder, budget=40)
    return folder


@pytest.fixture(scope="module")
def whole(home: Path) -> RunFolder:
    """An undisturbed run with everything on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wsopt.run._execute.write_figures", lambda folder: [])
        return run(home, *ON)


pytestmark = pytest.mark.usefixtures("undrawn")


def test_every_improvement_is_validated_in_order(whole: RunFolder) -> None:
    lines = [json.loads(line) for line in whole.journal.read_text().splitlines()]
    best, expected = float("inf"), []
    baselines = [event for event in lines if event["event"] == "baseline"]
    first = min(baselines, key=lambda event: float(event["value"]))
    expected.append((first["name"], 1 + baselines.index(first)))
    best = first["value"]
    told = [event for event in lines if event["event"] == "told"]
    for number, event in enumerate(told, start=len(baselines) + 1):
        if event["value"] < best:
            best = event["value"]
            expected.append((f"trial {event['id']}", number))
    found = [(event["name"], event["evaluation"]) for event in events(whole, "validated")]
    assert len(expected) >= 3
    assert found[: len(expected)] == expected
    after = {name for name, _ in found[len(expected) :]}
    assert after <= {"recommended", "shrink-0.25", "shrink-0.5", "shrink-0.75"}
    assert {"shrink-0.25", "shrink-0.5", "shrink-0.75"} <= after
    assert all(event["samples"] == 90 and "stderr" not in event for event in events(whole, "validated"))


def test_the_best_on_validation_is_exported_and_reported(whole: RunFolder) -> None:
    found = results(whole)
    validation, alpha = found["validation"], found["coefficients"]["validated"][0]
    assert found["exported"] == "validated"
    assert found["evaluations"] == 40  # nothing of it is charged
    assert validation["reference"] == "digits/test"
    assert validation["evaluations"] == len(events(whole, "validated"))
    values = {point["name"]: point["validation"] for point in validation["trace"]}
    lowest = min(values, key=lambda name: values[name])
    chosen = validation["chosen"]
    if lowest.startswith("shrink-"):
        assert chosen["shrinkage"] == float(lowest.removeprefix("shrink-"))
        plain = {name: value for name, value in values.items() if not name.startswith("shrink-")}
        assert chosen["name"] == min(plain, key=lambda name: plain[name])
    else:
        assert (chosen["name"], chosen["shrinkage"]) == (lowest, 0.0)
    files = [load_file(path) for path in sorted((whole.path.parents[1] / "checkpoints").iterdir())]
    expected = sum((a * file["mean"].double() for a, file in zip(alpha, files, strict=True)), torch.zeros(()))
    torch.testing.assert_close(load_file(whole.merged)["mean"].double(), expected, rtol=0, atol=1e-5)
    with safe_open(whole.merged, "pt") as file:
        facts = json.loads(file.metadata()["wsopt"])
    assert facts["validated"] == chosen
    assert facts["coefficients"] == [alpha]
    rows = [row for row in found["scores"] if row["name"] == "validated"]
    assert [row["reference"] for row in rows] == ["digits/train", "digits/test"]
    assert f"chosen by their score on other noise (validation): {chosen['name']}" in whole.card.read_text()


def test_shrunken_coefficients_lie_between_the_best_ema_and_the_winner(home: Path) -> None:
    """On the search's own reference and with the worst of starts shut out, a mix wins."""
    found = results(run(home, *ON, ("validation.shrinkage", "[0.999]"), ("budget", "16"), ("name", "mix")))
    event = next(e for e in found["validation"]["trace"] if e["name"] == "shrink-0.999")
    (ema,) = [row for row in found["scores"] if row["name"] == found["coefficients"]["best-ema"]["name"]][:1]
    assert ema["split"] == "search"
    # 99.9 % EMA: on validation noise it scores within a hair of the EMA itself, far from nothing at all.
    assert abs(event["validation"] - ema["value"]) < 0.5 * ema["value"]
    if found["validation"]["chosen"]["shrinkage"]:
        mean = torch.tensor(found["coefficients"]["validated"]) - torch.tensor(
            found["coefficients"]["best-ema"]["values"]
        )
        assert mean.abs().max() < 0.01


@pytest.mark.parametrize("where", ["validated", "told", "report"])
def test_cut_and_continued_it_is_the_undisturbed_run(whole: RunFolder, home: Path, where: str) -> None:
    """What a kill leaves: a prefix of the journal, and no final files."""
    undisturbed, final = whole.journal.read_bytes(), whole.results.read_bytes()
    at = [n for n, line in enumerate(undisturbed.splitlines()) if f'"event":"{where}"'.encode() in line]
    for number in (at[0], at[len(at) // 2], at[-1]):
        lines = undisturbed.splitlines(keepends=True)
        whole.journal.write_bytes(b"".join(lines[:number]) + lines[number][: len(lines[number]) // 2])
        whole.results.unlink()
        run(home, *ON)
        assert whole.journal.read_bytes() == undisturbed
    keys = ("validation", "curve", "coefficients", "scores", "exported", "optimizer_facts")
    assert {key: results(whole)[key] for key in keys} == {key: json.loads(final)[key] for key in keys}


def test_a_larger_budget_continues_and_equals_a_straight_run(home: Path) -> None:
    shorter = (("budget", "24"), ("name", "longer"))
    run(home, *ON, *shorter)
    folder = run(home, *ON, ("name", "longer"))
    straight = run(home, *ON, ("name", "longer"), ("output", str(home / "straight")))
    assert events(folder, "told") == events(straight, "told")
    assert results(folder)["validation"] == results(straight)["validation"]
    assert results(folder)["curve"] == results(straight)["curve"]


def test_patience_ends_the_search_and_a_larger_budget_does_not_go_on(home: Path) -> None:
    keys = (*ON, ("validation.patience", "7"), ("name", "patient"), ("budget", "200"))
    folder = run(home, *keys)
    found = results(folder)
    assert found["validation"]["stopped"]
    best, since = float("inf"), len(events(folder, "baseline"))
    for event in events(folder, "validated"):
        if event["name"].startswith(("trial", "ema", "uniform", "power", "last")) and event["value"] < best:
            best, since = event["value"], max(since, event["evaluation"])
    assert found["evaluations"] == since + 7 < 200
    folder.figures.mkdir()
    for name in ("convergence", "coefficients"):
        (folder.figures / f"{name}.png").touch()
    before, lines = folder.journal.read_bytes(), Lines()
    again = run(home, *keys[:-1], ("budget", "300"), progress=lines)
    assert again.journal.read_bytes() == before
    assert results(again)["budget"] == 200
    assert lines.said[-1].startswith(f"done    the search ended after {found['evaluations']} evaluations: no better")
    folder.results.unlink()  # made again, for the larger budget: its curve is at the same last evaluation
    again = run(home, *keys[:-1], ("budget", "300"))
    assert results(again)["budget"] == 300
    assert results(again)["evaluations"] == found["evaluations"]
    final = again.journal.read_bytes()
    again.results.unlink()
    assert run(home, *keys[:-1], ("budget", "300")).journal.read_bytes() == final


@pytest.mark.parametrize("failing", ["some", "all"])
def test_a_failed_validation_is_recorded_and_never_chosen(
    home: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    original, count = AnalyticFamily.sample, iter(range(1000))

    def sample(self: AnalyticFamily, model: Any, indices: Any, noise: SampleNoise, size: int) -> Any:
        if noise.split == "validation" and (failing == "all" or next(count) > 0):
            raise RuntimeError("no room")
        return original(self, model, indices, noise, size)

    monkeypatch.setattr(AnalyticFamily, "sample", sample)
    lines = Lines()
    folder = run(home, *ON, ("name", f"failing-{failing}"), ("output", str(home / failing)), progress=lines)
    found, validated = results(folder), events(folder, "validated")
    assert any(event.get("failure") == "RuntimeError: no room" for event in validated)
    if failing == "all":
        assert (found["exported"], found["validation"]["chosen"]) == ("best", None)
        assert found["coefficients"]["validated"] is None
        assert "warning: every score on the validation split failed; best is what is exported" in lines.said
    else:
        assert found["validation"]["chosen"]["name"] == validated[0]["name"]
        assert found["validation"]["chosen"]["shrinkage"] == 0.0


def test_the_search_is_the_same_without_validation(whole: RunFolder, home: Path) -> None:
    plain = run(home, ON[0], ("name", "unvalidated"))
    for kind in ("baseline", "asked", "told"):
        assert events(plain, kind) == events(whole, kind)


def test_without_validation_there_is_nothing_of_it(home: Path) -> None:
    folder = run(home, ("name", "plain"), ("budget", "14"))
    found = results(folder)
    assert (found["validation"], found["curve"], found["exported"]) == (None, [], "best")
    assert found["coefficients"]["validated"] is None
    assert events(folder, "validated") == []
    assert "validation" not in found["seconds"]
    assert found["objective"]["version"] == FrechetDistance.version


def test_patience_without_validation_is_refused(home: Path) -> None:
    with pytest.raises(InputError, match=r"validation\.samples = 0 scores none\. Set validation\.samples, or leave"):
        run(home, ("validation.patience", "5"))


def test_the_curve_is_the_best_so_far_on_the_report_split(whole: RunFolder) -> None:
    found = results(whole)
    lines = [json.loads(line) for line in whole.journal.read_text().splitlines()]
    values = [event["value"] for event in lines if event["event"] in ("baseline", "told")]
    assert [point["evaluation"] for point in found["curve"]] == [4, 20, 30, 40]
    for point in found["curve"]:
        best = min(values[: point["evaluation"]])
        number = values.index(best)
        told = [event for event in lines if event["event"] in ("baseline", "told")][number]
        assert point["name"] == told.get("name", f"trial {told.get('id')}")
        assert {row["name"] for row in point["scores"]} == {f"curve-{point['evaluation']}"}
        assert [row["reference"] for row in point["scores"]] == ["digits/train", "digits/test"]
    best = [row["value"] for row in found["scores"] if row["name"] == "best" and row["split"] == "report"]
    assert [row["value"] for row in found["curve"][-1]["scores"]] == best
    names = [event["name"] for event in events(whole, "report")]
    assert "curve-40" not in names  # the best, scored as such
    assert len(names) == len(set(names))


def test_a_journal_with_a_bad_validation_is_refused(whole: RunFolder, home: Path) -> None:
    text = whole.journal.read_text()
    (bad, *_) = [line for line in text.splitlines() if '"validated"' in line]
    whole.journal.write_text(text.replace(bad, '{"event":"validated","name":"x","evaluation":3}'))
    try:
        with pytest.raises(ResumeError, match=r"'validated' without a valid value"):
            run(home, *ON)
    finally:
        whole.journal.write_text(text)
