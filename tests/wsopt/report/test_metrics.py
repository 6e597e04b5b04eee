"""Reports of several metrics: directions, differences on the same noise, extrapolation, and many columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from wsopt.report import RunRecord, results_markdown, results_table

MakeRun = Callable[..., Path]
Change = Callable[[dict[str, Any]], None]


def edited(folder: Path, *changes: Change) -> RunRecord:
    path = folder / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    for change in changes:
        change(results)
    path.write_text(json.dumps(results), encoding="utf-8")
    return RunRecord.load(folder)


def table(text: str) -> dict[str, list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: row[1:] for row in found}


def reported(results: dict[str, Any], reference: str = "digits/train") -> dict[str, dict[str, Any]]:
    return {
        row["name"]: row
        for row in results["scores"]
        if row["split"] == "report" and row["features"] == "digits" and row["reference"] == reference
    }


def add(metric: str, direction: str | None, **values: float) -> Change:
    """Another metric, with these values by row."""

    def change(results: dict[str, Any]) -> None:
        for name, value in values.items():
            row: dict[str, Any] = {"name": name, "split": "report", "metric": metric, "features": "digits"}
            row |= {"value": value, "stderr": None, "samples": 5000}
            results["scores"].append(row | ({"direction": direction} if direction else {}))

    return change


def test_each_column_has_the_direction_of_its_metric(make_run: MakeRun) -> None:
    changes = [
        add("recall", "maximize", **{"last": 0.5, "ema*": 0.25, "best": 0.375}),
        add("loss", "minimize", **{"last": 0.5, "ema*": 0.25, "best": 0.375}),
        add("mine", None, **{"last": 0.5, "ema*": 0.25, "best": 0.375}),
    ]
    record = edited(make_run(), *changes)
    found = table(results_markdown(record))
    assert found["weights"][-3:] == ["recall(digits) ↑", "loss(digits) ↓", "mine(digits)"]
    assert found["last checkpoint"][-3:] == ["**0.500**", "0.500", "0.500"]
    assert found["EMA\\* (training 0.998)"][-3:] == ["0.250", "**0.250**", "0.250"]
    assert found["LCSC (best)"][-3:] == ["0.375", "0.375", "0.375"]
    assert [record.minimizes(name) for name in ("recall", "loss", "mine", "fid")] == [False, True, None, True]


def test_a_change_has_the_error_of_the_difference(make_run: MakeRun) -> None:
    def change(results: dict[str, Any]) -> None:
        best = reported(results)["best"]
        best |= {"difference": best["value"] - 3.38, "difference_stderr": 0.0338}

    text = results_markdown(edited(make_run(), change))
    assert table(text)["LCSC (best)"][:2] == ["3.02 ± 0.04", "−10.7 ± 1.0 %"]
    assert table(text)["last checkpoint"][1] == "+36.4 %"
    assert "± is one standard error; that of a change is of the difference on the same noise." in text
    assert "noise floor" not in text  # 0.36 is 10 standard errors


@pytest.mark.parametrize(("stderr", "alike"), [(0.17, False), (0.19, True), (0.0, False)])
def test_a_difference_within_the_noise_is_said_to_be_none(make_run: MakeRun, stderr: float, alike: bool) -> None:
    """The difference is -0.36, two standard errors are the limit."""

    def change(results: dict[str, Any]) -> None:
        for reference in ("digits/train", "digits/test"):
            best = reported(results, reference)["best"]
            best |= {"difference": -0.36, "difference_stderr": stderr if reference == "digits/test" else 0.01}

    text = results_markdown(edited(make_run(), change))
    line = (
        "- Within the noise floor of these samples (2 standard errors of the difference), the winner and EMA\\* are "
        "alike in FD(digits) to digits/test."
    )
    assert (line in text.splitlines()) is alike


def test_the_extrapolation_is_told_of_the_first_column_that_has_one(make_run: MakeRun) -> None:
    def change(results: dict[str, Any]) -> None:
        for reference in ("digits/train", "digits/test"):
            found = reported(results, reference)
            for name in ("ema*", "best", "last"):
                found[name]["debiased"] = found[name]["value"] - (0.5 if reference == "digits/train" else 0.7)

    text = results_markdown(edited(make_run(), change))
    line = (
        "- Extrapolated to infinitely many samples, FD(digits) to digits/train: EMA\\* (training 0.998) 2.88, "
        "LCSC (best) 2.52."
    )
    assert line in text.splitlines()
    assert "Extrapolated" not in results_markdown(RunRecord.load(make_run("plain")))


def test_a_change_across_zero_is_a_difference_and_no_share(make_run: MakeRun) -> None:
    def change(results: dict[str, Any]) -> None:
        results["scores"] = [row for row in results["scores"] if row["reference"] != "digits/test"]
        for row in results["scores"]:
            row["value"] -= 3.2
        best = reported(results)["best"]
        best |= {"difference": -0.36, "difference_stderr": 0.02}

    found = table(results_markdown(edited(make_run(), change)))
    assert found["LCSC (best)"][:2] == ["−0.180 ± 0.041", "−0.360 ± 0.020"]
    assert found["last checkpoint"][1] == "+1.230"
    assert found["EMA\\* (training 0.998)"][1] == "0"


def drawn(record: RunRecord, width: int) -> list[str]:
    with (record.path / "out.txt").open("w", encoding="utf-8") as file:
        console = Console(width=width, record=True, file=file)
        console.print(results_table(record))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_columns_that_do_not_fit_stand_below(make_run: MakeRun, width: int) -> None:
    names = ("precision", "recall", "coverage", "density")
    changes = [add(name, "maximize", **{"last": 0.5, "ema*": 0.25, "best": 0.375}) for name in names]
    record = edited(make_run(), *changes)
    lines = drawn(record, width)
    assert max(len(line) for line in lines) <= width
    assert "…" not in "".join(line for line in lines if line.startswith("│"))
    text = "\n".join(lines)
    pieces = text.count("┏")
    assert pieces > 1
    assert text.count("last checkpoint") == text.count("real images (floor)") == pieces
    for name in names:
        assert text.count(f"{name}(digits) ↑") == 1
    # The change stands beside what it is a change of, and the title above the first piece alone.
    (first,) = (line for line in lines if "change" in line)
    assert first.index("FD(digits)") < first.index("change")
    assert sum(line.strip() == "digits" for line in lines) == 1


def test_a_table_that_fits_is_one_table(make_run: MakeRun) -> None:
    assert "\n".join(drawn(RunRecord.load(make_run()), 160)).count("┏") == 1


def test_a_share_of_wins_is_told_with_its_interval(make_run: MakeRun) -> None:
    def wins(results: dict[str, Any]) -> None:
        for name, value, interval in (("ema*", 0.5, None), ("best", 0.625, [0.5, 0.75])):
            row = {"name": name, "split": "report", "metric": "win-rate", "features": None, "direction": "maximize"}
            results["scores"].append(row | {"value": value, "stderr": 0.06, "samples": 64, "interval": interval})

    text = results_markdown(edited(make_run(), wins))
    assert "95 % interval of win rate: LCSC (best) 0.625 [0.5, 0.75]." in text
