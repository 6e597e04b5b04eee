"""The lines below the final table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wsopt.report._chosen import validation_notes
from wsopt.report._labels import amount, duration, kind_of, metric_label, row_label
from wsopt.report._record import RunRecord, ScoreRow, standard_error

HIDDEN = ("fresh",)
"""Rows of the report split that stand in a line and not in the table."""
Column = tuple[str, str | None, str | None]
"""Metric, features and reference."""
_CLEAR = 2.0


def notes(record: RunRecord, names: Sequence[str], shown: Sequence[str]) -> Iterable[str]:
    """The lines, one after another.

    Args:
        record: the run.
        names: rows of the table that there could be.
        shown: those that it has.
    """
    results = record.results
    reported = [row for row in record.scores if row.split == "report" and row.name not in HIDDEN]
    samples = sorted({row.samples for row in reported if row.samples > 0})
    facts = []
    if samples:
        facts.append(f"{' or '.join(f'{count:,}' for count in samples)} samples per row, on noise the search never saw")
    if any(row.stderr for row in reported):
        facts.append("± is one standard error")
    if any(row.difference_stderr for row in reported):
        facts.append("that of a change is of the difference on the same noise")
    if facts:
        yield f"{'; '.join(facts)}."
    yield from _extrapolated(record, reported)
    yield from _undecided(record, reported)
    yield from _intervals(record, reported)
    scored = {row.name for row in reported}
    failed = {name: reason for name, reason in record.trace.failures.items() if name not in scored}
    if failed:
        step = (results["coefficients"].get("best-single") or {}).get("step")
        labels = [row_label(name, record.optimizer, record.ema_star, step) for name in failed]
        reason = " ".join(next(iter(failed.values())).split()).rstrip(".")
        first = f"{'the first: ' if len(failed) > 1 else ''}{reason}"
        yield f"Could not be scored: {', '.join(labels)} ({first})."
    counts = [sum(kind_of(name) == kind for name in names) for kind in ("ema", "train-ema")]
    if len(shown) < len(names):
        kinds = [f"{n} {kind}" for n, kind in zip(counts, ("over the window", "from training"), strict=True) if n]
        yield (
            f"EMA rates tried: {' and '.join(kinds)}; of each kind the best by search score is shown "
            f"(wsopt report {record.path} --full has all)."
        )
    optimism = results.get("optimism")
    # Runs that were made before left it in for an objective of the weights alone, which has no noise to be fresh.
    if optimism and optimism.get("samples") != 0:
        stderr = standard_error(optimism.get("stderr"))
        error = f" ± {stderr:.2g}" if stderr else ""
        scores = f"{optimism['search']:.4g} in the search and {optimism['fresh']:.4g}{error} on fresh noise"
        both = f", both on {optimism['samples']:,} samples" if optimism.get("samples") else ""
        yield f"Optimism: the winner scored {scores}{both}; gap {signed(optimism['gap'], '.3g')}."
    yield from validation_notes(record)
    timing = results.get("timing") or {}
    split = timing.get("split") or {}
    if split and timing.get("seconds_per_evaluation") is not None:
        parts = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in split.items() if seconds)
        yield f"One evaluation took {duration(timing['seconds_per_evaluation'])}: {parts}."
    if timing.get("remembered"):
        yield f"{timing['remembered']:,} scores were taken from other runs on the same checkpoints, not measured again."
    yield _effort(record)


def _extrapolated(record: RunRecord, reported: Sequence[ScoreRow]) -> Iterable[str]:
    """What the first column would be with infinitely many samples: a Frechet distance falls with their number."""
    columns = [row.column for row in reported if row.debiased is not None]
    if columns:
        found = {row.name: row.debiased for row in reported if row.column == columns[0] and row.debiased is not None}
        shown = [
            f"{row_label(name, record.optimizer, record.ema_star, baseline=record.winner_baseline(name))} "
            f"{found[name]:.3g}"
            for name in ("ema*", record.exported)
            if name in found
        ]
        if shown:
            metric, features, reference = columns[0]
            to = f" to {reference}" if reference else ""
            yield f"Extrapolated to infinitely many samples, {metric_label(metric, features)}{to}: {', '.join(shown)}."


def _undecided(record: RunRecord, reported: Sequence[ScoreRow]) -> Iterable[str]:
    """The columns in which the winner and EMA* are not told apart by the samples."""
    close = [
        column_header(row.column, "").replace("\n", " ")
        for row in reported
        if row.name == record.exported
        and row.difference is not None
        and row.difference_stderr is not None
        and 0 < abs(row.difference) < _CLEAR * row.difference_stderr
    ]
    if close:
        yield (
            f"Within the noise floor of these samples ({_CLEAR:g} standard errors of the difference), the winner and "
            f"EMA* are alike in {', '.join(close)}."
        )


def _intervals(record: RunRecord, reported: Sequence[ScoreRow]) -> Iterable[str]:
    """The 95 % intervals of the winner and EMA*, where a metric has one (a share of wins)."""
    for column in dict.fromkeys(row.column for row in reported if row.interval is not None):
        found = {row.name: row for row in reported if row.column == column}
        shown = [
            f"{row_label(name, record.optimizer, record.ema_star, baseline=record.winner_baseline(name))} "
            f"{row.value:.3g} [{row.interval[0]:.3g}, {row.interval[1]:.3g}]"
            for name in ("ema*", record.exported)
            if (row := found.get(name)) is not None and row.interval is not None
        ]
        if shown:
            yield f"95 % interval of {column_header(column, '').replace(chr(10), ' ')}: {', '.join(shown)}."


def _effort(record: RunRecord) -> str:
    """Evaluations, time and memory in one line."""
    results = record.results
    baselines = len(record.trace.baselines)
    parts = [f"{results['evaluations']:,} of {results['budget']:,} evaluations, {baselines} of them baselines"]
    if results.get("failed"):
        parts[0] += f", {results['failed']} failed"
    if record.given_up:
        parts[0] += f", {record.given_up} given up early ({results['race']['samples_saved']:.0%} of all samples saved)"
    seconds = {key: value for key, value in (results.get("seconds") or {}).items() if value is not None}
    if seconds:
        parts.append("time: " + ", ".join(f"{key} {duration(value)}" for key, value in seconds.items()))
    memory = results.get("memory") or {}
    peaks = {key.removesuffix("_peak_bytes"): value for key, value in memory.items() if value is not None}
    if peaks:
        parts.append("peak memory: " + ", ".join(f"{key} {amount(value)}" for key, value in peaks.items()))
    return "; ".join(parts) + "."


def column_header(column: Column, arrow: str) -> str:
    """What a column is called: ``FD(digits) ↓`` above ``to digits/train``."""
    metric, features, reference = column
    return f"{metric_label(metric, features)} {arrow}".rstrip() + (f"\nto {reference}" if reference else "")


def signed(value: float, form: str) -> str:
    """A difference with its sign; none where it is written as 0."""
    text = f"{value:+{form}}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")
