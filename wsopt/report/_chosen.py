"""What the validation split chose, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wsopt.report._labels import kind_of, row_label
from wsopt.report._record import RunRecord


def winner_text(record: RunRecord) -> str:
    """The combination that validation chose: ``trial 57 mixed with 25 % of EMA 0.99 over the window``.

    Args:
        record: a run whose `exported` is ``validated``.
    """
    chosen = record.results["validation"]["chosen"]
    text = point_label(str(chosen["name"]))
    share = float(chosen["shrinkage"])
    if share:
        ema = (record.results["coefficients"].get("best-ema") or {}).get("name", "EMA")
        text += f" mixed with {100 * share:g} % of {row_label(str(ema))}"
    return text


def point_label(name: str) -> str:
    """How a point of the validation split is called: a trial by its number, a baseline as in the table."""
    return "what the optimizer recommends" if name == "recommended" else row_label(name)


def validation_notes(record: RunRecord) -> Iterable[str]:
    """The lines on validation below the table; none for a run without it."""
    found: dict[str, Any] | None = record.results.get("validation")
    if not found:
        return
    reference = f" to {found['reference']}" if found.get("reference") else ""
    noise = f"{found['samples']:,} samples of other noise{reference}"
    scored = [point for point in found["trace"] if point.get("validation") is not None]
    plural = "" if found["evaluations"] == 1 else "s"
    counts = f"{found['evaluations']:,} score{plural} on {noise}, not charged"
    failed = len(found["trace"]) - len(scored)
    counts += f", {failed} failed" if failed else ""
    if record.exported != "validated" or not scored:
        yield f"Validation: {counts}; merged.safetensors holds the search's best."
    else:
        value = (min if record.minimize else max)(float(point["validation"]) for point in scored)
        best = [point for point in scored if point["name"] == record.results["best"].get("name")]
        own = found["chosen"]["name"] == record.results["best"].get("name") and not found["chosen"]["shrinkage"]
        other = "" if not best or own else f" (the search's best: {best[0]['validation']:.4g})"
        yield (
            f"Validation: {counts}; merged.safetensors holds the best of them, {winner_text(record)}, with "
            f"{value:.4g}{other}."
        )
    if found.get("stopped"):
        yield (
            f"The search ended by itself after {record.results['evaluations']:,} of {record.results['budget']:,} "
            f"evaluations: no better validation score came."
        )


def origin_text(record: RunRecord) -> str:
    """Where the exported weights come from, as a sentence of the model card."""
    results = record.results
    step = (results["coefficients"].get("best-single") or {}).get("step")
    baseline = record.exported_baseline
    if baseline is not None:
        name = row_label(baseline, step=step).replace("*", "")
        where = " on the validation split" if record.exported == "validated" else ""
        return f"No candidate of the search was better than a baseline{where}: these weights are the baseline *{name}*."
    if record.exported != "validated":
        return f"They were found at evaluation {results['best']['evaluation']:,}."
    chosen = results["validation"]["chosen"]
    found = f", found at evaluation {chosen['evaluation']:,}" if kind_of(str(chosen["name"])) != "recommended" else ""
    return (
        f"Among all that improved the search they were chosen by their score on other noise (validation): "
        f"{winner_text(record)}{found}."
    )
