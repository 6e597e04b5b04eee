"""What is shown of a run whose winner was chosen on a validation split."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from wsopt.errors import InputError
from wsopt.report import RunRecord, model_card, results_markdown
from wsopt.report._figure_coefficients import coefficients_figure
from wsopt.report._figure_convergence import convergence_figure

MakeRun = Callable[..., Path]


def point(evaluation: int, name: str, search: float | None, validation: float | None) -> dict[str, Any]:
    return {"evaluation": evaluation, "name": name, "search": search, "validation": validation}


TRACE = [
    point(11, "ema-0.995", 3.4, 3.9), point(40, "trial 20", 3.2, None), point(428, "trial 412", 2.91, 3.45),
    point(500, "recommended", None, 3.5), point(428, "shrink-0.25", None, 3.31),
]  # fmt: skip


def validated(folder: Path, **changes: Any) -> RunRecord:
    path = folder / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    coefficients = results["coefficients"]
    mix = 0.25 * np.array(coefficients["best-ema"]["values"]) + 0.75 * np.array(coefficients["best"])
    coefficients["validated"] = mix.tolist()
    results["best"] |= {"name": "trial 412"}
    results["exported"] = "validated"
    results["scores"] += [
        row | {"name": "validated", "value": 0.99 * row["value"]}
        for row in results["scores"]
        if row["name"] == "best" and row["split"] == "report"
    ]
    results["validation"] = {
        "samples": 500, "reference": "digits/test", "evaluations": 5, "trace": TRACE,
        "chosen": {"name": "trial 412", "evaluation": 428, "shrinkage": 0.25}, "stopped": False,
    } | changes  # fmt: skip
    results["timing"]["remembered"] = 24
    path.write_text(json.dumps(results), encoding="utf-8")
    return RunRecord.load(folder)


def test_the_table_names_what_was_chosen(make_run: MakeRun) -> None:
    text = results_markdown(validated(make_run()))
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert rows[-4:] == ["LCSC (best)", "LCSC (recommended)", "LCSC (validated)", "real images (floor)"]
    assert (
        "- Validation: 5 scores on 500 samples of other noise to digits/test, not charged, 1 failed; "
        "merged.safetensors holds the best of them, trial 412 mixed with 25 % of EMA 0.995 over the window, with 3.31 "
        "(the search's best: 3.45).\n"
    ) in text
    assert "- 24 scores were taken from other runs on the same checkpoints, not measured again.\n" in text
    assert "ended by itself" not in text


def test_an_early_stop_a_baseline_and_nothing_chosen_are_said(make_run: MakeRun) -> None:
    chosen = {"name": "ema-0.995", "evaluation": 11, "shrinkage": 0.0}
    record = validated(make_run("a"), trace=TRACE[:1], chosen=chosen, stopped=True)
    text = results_markdown(record)
    assert "| validated (EMA 0.995 over the window, nothing better found) " in text
    assert "The search ended by itself after 500 of 500 evaluations: no better validation score came." in text
    assert "these weights are the baseline *EMA 0.995 over the window*." in model_card(record, "")
    folder = make_run("b")
    document = json.loads((folder / "results.json").read_text())
    failed = {"samples": 9, "evaluations": 1, "trace": [point(3, "last", 4.6, None)], "chosen": None, "stopped": False}
    (folder / "results.json").write_text(json.dumps(document | {"validation": failed}))
    record = RunRecord.load(folder)
    assert (
        "1 score on 9 samples of other noise, not charged, 1 failed; merged.safetensors holds the search's best."
        in (results_markdown(record))
    )
    assert "They were found at evaluation 428." in model_card(record, "")


def test_card_and_figures_show_the_exported_coefficients(make_run: MakeRun) -> None:
    record = validated(make_run())
    card = model_card(record, "")
    assert "chosen by their score on other noise (validation): trial 412 mixed with 25 % of EMA 0.995" in card
    assert "| step | validated | ema-0.995 |" in card
    shown = record.coefficients("validated")
    assert shown is not None
    assert f"| {record.steps[7]} | {shown[0, 7]:.6g} |" in card
    axes = coefficients_figure(record).axes[0]
    assert axes.get_title(loc="left") == "Coefficients of LCSC's validated combination"
    dots = [np.asarray(found.get_offsets()) for found in axes.collections if isinstance(found, PathCollection)]
    heights = np.concatenate(dots)
    assert set(np.round(heights[:, 1], 9)) >= set(np.round(shown[0], 9))


@pytest.mark.parametrize("late", [True, False])
def test_convergence_draws_the_validation_scores_and_rings_what_is_exported(make_run: MakeRun, late: bool) -> None:
    chosen = {"name": "trial 412", "evaluation": 428, "shrinkage": 0.25 if late else 0.0}
    record = validated(make_run(), chosen=chosen, trace=TRACE if late else TRACE[:3])
    axes = convergence_figure(record).axes[0]
    line, ring = [found for found in axes.lines if found.get_marker() == "o"]
    np.testing.assert_allclose(np.asarray(line.get_xydata()), [(11, 3.9), (428, 3.45)])
    np.testing.assert_allclose(np.asarray(ring.get_xydata()), [(500, 3.31) if late else (428, 3.45)])
    low, high = axes.get_ylim()
    assert low < 3.31 < 3.9 < high
    texts = " ".join(text.get_text() for text in axes.texts)
    assert ("validated 3.31" if late else "validated 3.45") in texts
    assert "which is exported" in texts


def test_a_file_that_says_validated_and_has_none_is_refused(make_run: MakeRun) -> None:
    folder = make_run()
    document = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(document | {"exported": "validated"}))
    with pytest.raises(InputError, match=r"results\.json: exported is 'validated', but .* Restore the file"):
        RunRecord.load(folder)
