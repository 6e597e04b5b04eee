from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from wsopt.report import RunRecord, amount, duration, metric_label, results_markdown, results_table

MakeRun = Callable[..., Path]


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> RunRecord:
    path = folder / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    change(results)
    path.write_text(json.dumps(results), encoding="utf-8")
    return RunRecord.load(folder)


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:2] == "| "]


@pytest.mark.parametrize(
    ("metric", "features", "label"),
    [
        ("fid", "inception", "FID"), ("fid", "inception-legacy", "FID"), ("fid", "digits", "FD(digits)"),
        ("fid", "inceptionless", "FD(inceptionless)"), ("fid", None, "FD"), ("kid", "inception", "KID"),
        ("kid", "digits", "KD(digits)"), ("fcd", "clip", "FCD"), ("fcd", "digits", "FD(digits)"),
        ("pickscore", None, "PickScore"), ("mine", "digits", "mine(digits)"),
    ],
)  # fmt: skip
def test_metric_label(metric: str, features: str | None, label: str) -> None:
    assert metric_label(metric, features) == label


def test_row_order_and_collapsing(make_run: MakeRun) -> None:
    record = RunRecord.load(make_run())
    text = results_markdown(record)
    assert [row[0] for row in rows(text)[1:]] == [
        "last checkpoint", "best single checkpoint (step 2,940)", "uniform average", "power EMA 0.05", "power EMA 0.1",
        "EMA 0.995 over the window", "EMA 0.998 from training", "EMA\\* (training 0.998)",
        "LCSC (best)", "LCSC (recommended)", "real images (floor)",
    ]  # fmt: skip
    assert "EMA rates tried: 6 over the window and 3 from training" in text


def test_full_lists_every_rate_ascending(make_run: MakeRun) -> None:
    text = results_markdown(RunRecord.load(make_run()), full=True)
    found = [row[0] for row in rows(text) if row[0].startswith("EMA 0")]
    window = [f"EMA {rate} over the window" for rate in ("0.9", "0.95", "0.98", "0.99", "0.995", "0.998")]
    assert found == window + [f"EMA {rate} from training" for rate in ("0.99", "0.998", "0.999")]
    assert "EMA rates tried" not in text


def test_cells_columns_and_change(make_run: MakeRun) -> None:
    text = results_markdown(RunRecord.load(make_run()))
    table = {row[0]: row[1:] for row in rows(text)}
    assert table["weights"] == [
        "FD(digits) ↓ to digits/train", "change to EMA\\*", "FD(digits) ↓ to digits/test",
        "FD(digits-mlp) ↓ to digits/train",
    ]  # fmt: skip
    assert table["last checkpoint"] == ["4.61 ± 0.04", "+36.4 %", "5.51 ± 0.04", "2.87 ± 0.02"]
    assert table["LCSC (best)"] == ["3.02 ± 0.04", "−10.7 %", "3.92 ± 0.04", "1.91 ± 0.02"]
    assert table["LCSC (recommended)"][0] == "**2.97 ± 0.04**"
    assert table["EMA\\* (training 0.998)"][1] == "0 %"
    assert table["real images (floor)"] == ["1.23", "", "—", "0.84"]
    assert text.count("**") == 6


def test_lines_below(make_run: MakeRun) -> None:
    text = results_markdown(RunRecord.load(make_run()))
    assert "2.91 in the search and 3.08 ± 0.062 on fresh noise, both on 1,000 samples; gap +0.17" in text
    assert "500 of 500 evaluations, 16 of them baselines, 5 failed; time:" in text
    assert "search 3 min 5 s" in text
    assert "peak memory: search 512 MiB" in text
    assert "fresh" not in {row[0] for row in rows(text)}


def test_maximised_objective(make_run: MakeRun) -> None:
    def change(results: dict[str, Any]) -> None:
        results["objective"] |= {"name": "pickscore", "direction": "maximize", "features": None, "label": "PickScore"}
        results["scores"] = [row for row in results["scores"] if row["features"] == "digits"]
        for row in results["scores"]:
            row |= {"metric": "pickscore", "features": None}

    record = edited(make_run(), change)
    text = results_markdown(record)
    assert "PickScore ↑" in text
    assert "**4.61 ± 0.04**" in text
    assert "EMA 0.9 over the window" in text


def test_recommended_is_left_out_where_it_is_the_best(make_run: MakeRun) -> None:
    def change(results: dict[str, Any]) -> None:
        rows = results["scores"]
        best = {
            (r["features"], r["reference"]): r["value"] for r in rows if (r["name"], r["split"]) == ("best", "report")
        }
        for row in rows:
            if row["name"] == "recommended":
                row["value"] = best[row["features"], row["reference"]]

    text = results_markdown(edited(make_run(), change))
    assert "(recommended)" not in text
    assert "**3.02 ± 0.04**" in text


def test_parts_that_a_run_may_lack(make_run: MakeRun) -> None:
    def change(results: dict[str, Any]) -> None:
        results["scores"] = [row for row in results["scores"] if row["name"] != "ema*"]
        for row in results["scores"]:
            row["stderr"] = None
        results |= dict.fromkeys(("optimism", "timing", "memory", "seconds", "ema_star", "optimizer"))
        results["coefficients"]["best-single"] = None

    text = results_markdown(edited(make_run(), change))
    assert "| search (best) " in text
    assert "| best single checkpoint " in text
    assert "change" not in text
    assert "Optimism" not in text
    assert text.endswith("500 of 500 evaluations, 16 of them baselines, 5 failed.\n")
    assert "±" not in text


@pytest.mark.parametrize("full", [False, True])
def test_terminal_table_holds_what_markdown_holds(make_run: MakeRun, full: bool) -> None:
    record = RunRecord.load(make_run())
    console = Console(width=160, record=True, file=(record.path / "out.txt").open("w", encoding="utf-8"))
    with console.file:
        console.print(results_table(record, full))
    drawn = console.export_text()
    for row in rows(results_markdown(record, full))[1:]:
        for cell in row:
            assert cell.replace("*", "").replace("\\", "") in drawn.replace("*", "")


def test_terminal_table_marks_the_winner(make_run: MakeRun) -> None:
    record = RunRecord.load(make_run())
    with (record.path / "out.txt").open("w", encoding="utf-8") as file:
        console = Console(width=160, record=True, file=file, force_terminal=True, color_system="standard")
        console.print(results_table(record))
    drawn = console.export_text(styles=True)
    bold = {found.strip() for found in re.findall(r"\x1b\[1m([^\x1b]+)\x1b", drawn)}
    assert bold >= {"2.97 ± 0.04", "3.87 ± 0.04", "1.88 ± 0.02"}
    assert "3.02 ± 0.04" not in bold


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.00086, "0.86 ms"),
        (0.0994, "99 ms"),
        (0.0996, "0.1 s"),
        (0.171, "0.17 s"),
        (9.5, "9.5 s"),
        (41.2, "41 s"),
        (125, "2 min 5 s"),
        (11520, "3 h 12 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(5, "5 B"), (1536, "1.5 KiB"), (512 << 20, "512 MiB"), (3 << 40, "3 TiB")])
def test_amount(count: int, text: str) -> None:
    assert amount(count) == text


def test_an_objective_of_the_weights_alone(make_run: MakeRun) -> None:
    def change(results: dict[str, Any]) -> None:
        for row in results["scores"]:
            row |= {"samples": 0, "features": None, "reference": None, "stderr": None}
        results["optimism"] |= {"samples": 0, "gap": -0.0}  # written by former versions
        results["timing"]["split"] |= {"sample": 0.0, "features": 0.0}

    text = results_markdown(edited(make_run(), change))
    assert "sample" not in text
    assert "None" not in text
    assert "Optimism" not in text
    assert "One evaluation took 0.17 s: merge 10 ms." in text


def test_a_gap_of_nothing_has_no_sign(make_run: MakeRun) -> None:
    assert "gap 0." in results_markdown(edited(make_run(), lambda results: results["optimism"].update(gap=-0.0)))


def test_numbers_that_are_far_from_one_or_equal_when_rounded(make_run: MakeRun) -> None:
    def change(results: dict[str, Any]) -> None:
        results["scores"] = [row for row in results["scores"] if row["reference"] == "digits/train"]
        values = {"last": 1.5e9, "uniform": 2e-7, "best": 3.37999, "floor": 0.0}
        for row in results["scores"]:
            row["value"] = values.get(row["name"], row["value"])

    table = {row[0]: row[1:] for row in rows(results_markdown(edited(make_run(), change)))}
    assert table["last checkpoint"][0] == "1.5e+09 ± 0.04"
    assert table["uniform average"][0] == "**2e-07 ± 0.04**"
    assert table["real images (floor)"][0] == "0.00"
    assert table["LCSC (best)"][1] == "0.0 %"


def test_a_winning_single_checkpoint_and_rows_that_failed(make_run: MakeRun) -> None:
    folder = make_run()
    with (folder / "journal.jsonl").open("a", encoding="utf-8") as file:
        for name in ("ema-0.31", "power-0.2"):
            event: dict[str, Any] = {"event": "report", "name": name, "scores": [], "failure": f"{name} made NaN."}
            file.write(json.dumps(event) + "\n")

    def change(results: dict[str, Any]) -> None:
        results["best"]["from"] = "single-50"

    text = results_markdown(edited(folder, change))
    assert "best (checkpoint of step 50, nothing better found)" in text
    assert "- Could not be scored: EMA 0.31 over the window, power EMA 0.2 (the first: ema-0.31 made NaN).\n" in text
