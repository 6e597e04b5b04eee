"""The tables of a comparison that have one row per method."""

from __future__ import annotations

from collections.abc import Sequence

from wsopt.compare._base import Column, Comparison, CostRow, GapRow, Quartiles
from wsopt.compare._show_facts import (
    EMA_STAR,
    baseline_names,
    ema_star_search,
    final,
    record,
    reference_target,
    shared_budget,
    speed_up,
    target_names,
    target_row,
)
from wsopt.compare._show_grid import Entry, Grid, mark_best
from wsopt.compare._show_notes import OPTIMISM
from wsopt.compare._show_numbers import (
    NONE,
    Digits,
    column_label,
    evaluations,
    medians,
    minimizes,
    share,
    signed_percent,
    whole,
)
from wsopt.report import duration

_Row = tuple[str, tuple[Entry, ...]]


def scores(comparison: Comparison, columns: Sequence[Column] | None = None) -> Grid:
    """Final scores as median [quartiles]: the search split, then `columns` of the report split (None: all)."""
    shown: list[Column | None] = [None] if comparison.search_comparable else []
    shown += list(comparison.columns if columns is None else columns)
    names = baseline_names(comparison)
    found: dict[tuple[str, Column | None], Quartiles | None] = {
        (method, column): final(comparison, method, column) for method in comparison.methods for column in shown
    }
    for name, label in names:
        for column in shown:
            own = comparison.baselines.get((name, column)) if column is not None else None
            found[label, column] = ema_star_search(comparison) if column is None and name == "ema*" else own
    digits = {column: Digits(medians(q for key, q in found.items() if key[1] == column)) for column in shown}

    def row(name: str) -> _Row:
        cells = [(column, found[name, column]) for column in shown]
        return name, tuple(Entry(digits[c].spread(q), None if q is None else q.median) for c, q in cells)

    count = len(comparison.instances)
    instances = "1 instance" if count == 1 else f"{count} instances, median [quartiles]"
    grid = Grid(
        "scores",
        f"Final scores over {instances}",
        ("method", *(column_label(comparison, column, "\n").replace("search ", "search\n") for column in shown)),
        tuple(row(method) for method in comparison.methods),
        tuple(row(label) for _, label in names if any(found[label, column] for column in shown)),
    )
    return mark_best(grid, [minimizes(comparison, column) for column in shown])


def against(comparison: Comparison, columns: Sequence[Column] | None = None) -> Grid | None:
    """Each method against the reference: change and wins-losses-ties, evaluations to its final score, speed-up.

    None where there is no reference.
    """
    reference = comparison.reference
    if reference is None:
        return None
    shown: list[Column | None] = [None] if comparison.search_comparable else []
    shown += list(comparison.columns if columns is None else columns)
    target = reference_target(comparison)
    headers, directions = ["method"], list[bool | None]()
    for column in shown:
        label = column_label(comparison, column, "\n").replace("search ", "search\n")
        headers += [f"{label}\nchange", "W-L-T"]
        directions += [minimizes(comparison, column), None]
        if column is None and target is not None:
            headers += ["evaluations\nto its final", "speed-up"]
            directions += [True, False]
    rows = []
    for method in comparison.methods:
        entries: list[Entry] = []
        for column in shown:
            entries += _paired(comparison, method, reference, column)
            if column is None and target is not None:
                entries += [_to_target(comparison, method, target), _speed_up(comparison, method)]
        rows.append((method, tuple(entries)))
    notes = ["change: of the medians in the table of scores; W-L-T: instances won, lost and tied"]
    if target is not None:
        notes.append(
            f"evaluations: median to the final search score of {reference}, baselines included; speed-up: the budget "
            f"of {shared_budget(comparison):,} by the expected running time to that score, failures charged"
        )
    grid = Grid(
        "against", f"Compared with {reference}", tuple(headers), tuple(rows), notes=(f"{_sentence('; '.join(notes))}",)
    )
    return mark_best(grid, directions)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _paired(comparison: Comparison, method: str, reference: str, column: Column | None) -> list[Entry]:
    if method == reference:
        return [Entry("reference", 0.0), Entry("")]
    own, other = final(comparison, method, column), final(comparison, reference, column)
    counted = record(comparison, method, reference, column)
    change = share(own, other)
    wins = Entry(NONE) if counted is None else Entry("-".join(map(str, counted)), float(counted[0] - counted[1]))
    return [Entry(signed_percent(change), change), wins]


def _to_target(comparison: Comparison, method: str, target: str) -> Entry:
    row = target_row(comparison, method, target)
    if row is None or not row.attempts:
        return Entry(NONE)
    return Entry(evaluations(row.median, shared_budget(comparison)), row.median)


def _speed_up(comparison: Comparison, method: str) -> Entry:
    factor = speed_up(comparison, method)
    return Entry(NONE) if factor is None else Entry(f"{factor:.1f}×", factor)


def effort(comparison: Comparison) -> Grid:
    """Area under the ECDF, evaluations to EMA*, optimism, and what an evaluation costs."""
    costs = {cost.method: cost for cost in comparison.costs}
    gaps = {gap.method: gap for gap in comparison.gaps}
    has_star = EMA_STAR in target_names(comparison)
    optimism = Digits(medians(gap.optimism for gap in comparison.gaps), 1)
    headers = ["method"]
    headers += ["area under\nthe ECDF"] if comparison.ecdf else []
    headers += ["evaluations\nto EMA*"] if has_star else []
    headers += ["optimism\n(gap)", "time per\nevaluation", "optimizer per\ncandidate", *_spent(comparison)]
    directions: list[bool | None] = [*[False] * bool(comparison.ecdf), *[True] * has_star]
    rows = []
    for method in comparison.methods:
        entries = []
        if comparison.ecdf:
            area = comparison.ecdf[method].area if method in comparison.ecdf else None
            entries.append(Entry(NONE if area is None else f"{area:.3f}", area))
        if has_star:
            entries.append(_to_target(comparison, method, EMA_STAR))
        entries += [_optimism(gaps.get(method), optimism), *_cost(costs.get(method), len(_spent(comparison)))]
        rows.append((method, tuple(entries)))
    title = "Effort, costs and the generalisation gap"
    grid = Grid("effort", title, tuple(headers), tuple(rows), notes=(OPTIMISM,))
    return mark_best(grid, [*directions, None, True, True, *[None] * len(_spent(comparison))])


def _optimism(gap: GapRow | None, digits: Digits) -> Entry:
    if gap is None or gap.optimism is None:
        return Entry(NONE)
    return Entry(digits(gap.optimism.median), gap.optimism.median)


def _spent(comparison: Comparison) -> list[str]:
    """Headers of what was generated; network evaluations only where they are not the images again."""
    same = all(cost.images == cost.network_evaluations for cost in comparison.costs)
    return ["images\nin all"] if same else ["images\nin all", "images\n× NFE"]


def _cost(cost: CostRow | None, spent: int) -> list[Entry]:
    if cost is None:
        return [Entry(NONE)] * (2 + spent)
    seconds = NONE if cost.seconds is None else duration(cost.seconds)
    own = duration(cost.optimizer_seconds) if cost.optimizer_seconds else "0 ms"
    amounts = [Entry(whole(value), value) for value in (cost.images, cost.network_evaluations)]
    return [Entry(seconds, cost.seconds), Entry(own, cost.optimizer_seconds), *amounts[:spent]]
