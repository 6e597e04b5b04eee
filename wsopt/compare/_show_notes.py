"""The sentences that go with every form of a comparison: what was forced, what is missing, how much there is."""

from __future__ import annotations

from collections import defaultdict

from wsopt.compare._base import Comparison
from wsopt.compare._show_facts import missing_runs

OPTIMISM = (
    "Optimism: the winner on fresh noise minus its search score, as a loss; positive: the search was too hopeful."
)


def warnings(comparison: Comparison) -> list[str]:
    """What a reader must know before any number: differences that were forced, runs that are missing."""
    found = [f"Forced: {text if text.endswith('.') else text + '.'}" for text in comparison.forced]
    if not comparison.search_comparable:
        found.append("Search scores were made differently and are not compared; only the report split is.")
    missing = defaultdict(list)
    for method, instance in missing_runs(comparison):
        missing[method].append(instance)
    found += [f"Missing: no finished run of {method} on {', '.join(names)}." for method, names in missing.items()]
    return found


def extent(comparison: Comparison) -> str:
    """How many methods, instances and evaluations were compared."""
    budgets = [f"{budget:,}" for budget in comparison.budgets]
    words = [
        _count(len(comparison.methods), "method"),
        _count(len(comparison.instances), "instance"),
        _count(len(comparison.cells), "finished run"),
        f"{_counts({cell.baselines for cell in comparison.cells})} of {' or '.join(budgets)} evaluations are baselines",
    ]
    samples = {cell.samples for cell in comparison.cells if cell.samples}
    if samples:
        words.append(f"{_counts(samples)} samples per evaluation")
    return f"{'; '.join(words)}."


def split_note(comparison: Comparison) -> str | None:
    """What the columns of the report split are computed from."""
    rows = [row for cell in comparison.cells for row in cell.rows if row.split == "report" and row.samples > 0]
    if not rows:
        return None
    return (
        f"Report split: {_counts({row.samples for row in rows})} samples per score, on noise the search never saw; the "
        "winner was chosen without it."
    )


def manifest_notes(comparison: Comparison) -> list[str]:
    """What the analysis has to say to the reader."""
    return [str(note) for note in comparison.manifest.get("notes", ())]


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _counts(values: set[int]) -> str:
    return " or ".join(f"{value:,}" for value in sorted(values)) or "0"
