"""The tables with more detail: targets, fixed budgets, tests, gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wsopt.compare._base import Column, Comparison, TargetRow
from wsopt.compare._show_facts import ENOUGH_PAIRS, shared_budget, target_names, target_row
from wsopt.compare._show_grid import Entry, Grid, mark_best
from wsopt.compare._show_notes import OPTIMISM
from wsopt.compare._show_numbers import NONE, Digits, arrow, column_label, medians, probability, signed_percent, whole


def targets(comparison: Comparison) -> Grid | None:
    """Expected running time to each target; None where search scores do not compare."""
    names = target_names(comparison)
    if not names:
        return None
    rows = [
        (method, tuple(_running_time(comparison, target_row(comparison, method, name)) for name in names))
        for method in comparison.methods
    ]
    notes = (
        "Expected running time: all evaluations spent, failures their whole budget, by the number of successes; "
        "(2/3): reached on two of three instances; >: on none within the budget.",
        *_ladder_in_words(comparison),
    )
    grid = Grid("targets", "Evaluations to a target", ("method", *names), tuple(rows), notes=notes)
    return mark_best(grid, [True] * len(names))


def _ladder_in_words(comparison: Comparison) -> tuple[str, ...]:
    """What the numbered targets are, and that EMA* has to be beaten."""
    ladder = comparison.manifest.get("targets")
    return (f"EMA*: beaten, not only reached. 1 to 10: {ladder}.",) if ladder else ()


def _running_time(comparison: Comparison, row: TargetRow | None) -> Entry:
    if row is None or not row.attempts:
        return Entry(NONE)
    if row.ert is None:
        return Entry(f">{shared_budget(comparison):,}")
    part = "" if row.successes == row.attempts else f" ({row.successes}/{row.attempts})"
    return Entry(f"{whole(row.ert)}{part}", row.ert)


def stages(comparison: Comparison) -> Grid | None:
    """Best so far on the search split at shares of the budget; None where search scores do not compare."""
    known = [method for method in comparison.methods if comparison.fixed_budget.get(method)]
    if not known or not comparison.search_comparable:
        return None
    shares = list(dict.fromkeys(share for method in known for share, _, _ in comparison.fixed_budget[method]))
    digits = Digits(found.median for method in known for _, _, found in comparison.fixed_budget[method])
    rows = []
    for method in known:
        own = {share: found for share, _, found in comparison.fixed_budget[method]}
        entries = (
            Entry(digits.spread(own.get(share)), own[share].median if share in own else None) for share in shares
        )
        rows.append((method, tuple(entries)))
    counts = {share: n for share, n, _ in comparison.fixed_budget[known[0]]} if len(comparison.budgets) == 1 else {}
    headers = [f"{share:.0%}" + (f"\n({counts[share]:,} evaluations)" if share in counts else "") for share in shares]
    title = f"Best so far on the search split at shares of the budget, {comparison.label}{arrow(comparison.minimize)}"
    grid = Grid("stages", title, ("method", *headers), tuple(rows))
    return mark_best(grid, [comparison.minimize] * len(shares))


def declared_tests(comparison: Comparison, columns: Sequence[Column | None] | None = None) -> Grid | None:
    """The declared comparisons; p only where there are six pairs; None where none was declared.

    Args:
        comparison: the comparison.
        columns: those whose tests are shown; None for all.
    """
    found = [test for test in comparison.tests if columns is None or test.column in columns]
    if not found:
        return None
    enough = any(test.pairs >= ENOUGH_PAIRS for test in found)
    rows = []
    for test in found:
        counts = f"{test.wins}-{test.losses}-{test.ties}"
        entries = [
            Entry(column_label(comparison, test.column)),
            Entry(counts, float(test.wins - test.losses)),
            Entry(signed_percent(test.change), test.change),
        ]
        if enough:
            p, holm = (test.p, test.p_holm) if test.pairs >= ENOUGH_PAIRS else (None, None)
            entries += [Entry(probability(p), p), Entry(probability(holm), holm, holm is not None and holm < 0.05)]
        rows.append((f"{test.first} against {test.second}", tuple(entries)))
    headers = ["comparison", "score", "W-L-T", "median paired\nchange"]
    headers += ["p", "p\n(Holm)"] if enough else []
    grid = Grid("tests", "Declared comparisons, paired by instance", tuple(headers), tuple(rows))
    return replace(grid, notes=("W-L-T: instances that the first won, lost and tied.", *pair_notes(comparison)))


def pair_notes(comparison: Comparison) -> list[str]:
    """What the number of pairs allows to say."""
    few = {test.pairs: test.smallest_p for test in comparison.tests if test.pairs < ENOUGH_PAIRS}
    notes = []
    if any(test.pairs >= ENOUGH_PAIRS for test in comparison.tests):
        notes.append("p: two-sided Wilcoxon signed-rank; Holm's correction over all declared comparisons of a column.")
    if few:
        most = max(few)
        pairs = f"{' or '.join(map(str, sorted(few)))} pair{'' if most == 1 else 's'}"
        notes.append(
            f"{pairs} can show no difference at the 5 % level, whatever the scores (the smallest possible p is "
            f"{min(few[most], 1.0):.3g}): no p is given, read the counts."
        )
    return notes


def gaps(comparison: Comparison) -> Grid | None:
    """Optimism of each method's winners; None where there is no row."""
    if not comparison.gaps:
        return None
    digits = Digits(medians(gap.optimism for gap in comparison.gaps), 2)
    rows = [
        (
            gap.method,
            (
                Entry(digits.spread(gap.optimism), gap.optimism.median if gap.optimism else None),
                Entry(f"{gap.worse_than_start} of {gap.count}", float(gap.worse_than_start)),
            ),
        )
        for gap in comparison.gaps
    ]
    headers = ("method", "optimism,\nmedian [quartiles]", "winner worse than EMA*\non the report split")
    return Grid("gaps", "Generalisation gap", headers, tuple(rows), notes=(OPTIMISM,))
