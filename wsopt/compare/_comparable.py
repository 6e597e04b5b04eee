"""What differs between runs that must not, so that scores are only compared where they mean the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wsopt.compare._base import CellRecord
from wsopt.compare._read import fingerprint
from wsopt.compare._settings import plugin_files, settings, text_of, varying
from wsopt.errors import InputError

Spoiled = tuple[Literal["search", "report"], ...]

_WINDOW = ("checkpoints.window", "checkpoints.interval", "checkpoints.steps")
_STREAM = ("checkpoints.kind", "checkpoints.rate", "checkpoints.width", "checkpoints.part")
_SECTIONS = ("data.", "family.", "train.", "features.", "objective.")
_KEYS = (*_STREAM, "search.samples", "report.samples", "report.features", "report.references", "report.metrics")
_SEARCH_ONLY = ("search.samples", "objective.features", "objective.reference")
"""Settings of the search split alone: the report split is scored in its own features against its own references."""
_BOTH: Spoiled = ("search", "report")
_ROUNDING = 1e-3
"""Relative difference of equal weights' scores that devices, threads and versions may make."""
_ABSENT = "not set"
_LONG = 60


@dataclass(frozen=True)
class Difference:
    """One thing that runs of a comparison should share and do not.

    Args:
        kind: what it is allowed by: a dotted config key, ``seed``, ``checkpoints`` (their steps or content),
            ``instances``, ``objective.version``, ``objective.direction``, ``plugins`` or ``scores``.
        text: one sentence that names the values and runs.
        spoils: the splits on which scores were measured differently, so that numbers of the runs do not compare; none
            where the measure is the same and what was searched differs (other checkpoints).
    """

    kind: str
    text: str
    spoils: Spoiled


def differences(cells: Sequence[CellRecord]) -> tuple[Difference, ...]:
    """Everything that must agree and does not.

    Over all runs: data, family, training recipe but its seed, which checkpoints of a training are taken, objective with
    its version, content of plugin files, samples of the search, and samples, features and references of the report.
    Within an instance also the content of the checkpoints, the seed of the noise and, where all that agrees, the report
    score of the last checkpoint. Methods, starts, baselines, folders, batch sizes, threads and budgets may differ.

    Args:
        cells: the runs, in any order.

    Returns:
        In a fixed order; empty where the runs are comparable.
    """
    ordered = sorted(cells, key=lambda cell: (cell.method, cell.instance, str(cell.path)))
    found = [*_of_configs(ordered), *_of_results(ordered), *_of_plugins(ordered)]
    found += [*_of_checkpoints(ordered, {one.kind for one in found}), *_of_instances(ordered)]
    if not any("report" in one.spoils for one in found):
        found += _of_scores(ordered)
    return tuple(found)


def check_comparable(cells: Sequence[CellRecord], forced: Sequence[str]) -> tuple[Difference, ...]:
    """The differences between runs, all of which must be allowed.

    Args:
        cells: the runs.
        forced: kinds, or sentences, of the differences that are allowed; ``all`` allows every one.

    Returns:
        The differences, allowed as they are.

    Raises:
        InputError: naming every difference that is not allowed.
    """
    found = differences(cells)
    refused = [one for one in found if not {"all", one.kind, one.text} & set(forced)]
    if refused:
        kinds = ", ".join(f'"{kind}"' for kind in dict.fromkeys(one.kind for one in refused))
        lines = "\n".join(f"  {one.text}" for one in refused)
        raise InputError(
            f"the runs cannot be compared:\n{lines}\nLeave runs out, or allow it and have it said wherever the "
            f"numbers are shown: force = [{kinds}] in the comparison's file, or --force."
        )
    return found


def _of_configs(cells: Sequence[CellRecord]) -> Iterator[Difference]:
    known = [settings(cell.resolved) for cell in cells]
    # A recipe is compared between the runs that have one; the others were given checkpoints.
    recipes = varying([one for one in known if "train.seed" in one], ("train.seed",))
    steps = {_steps(cell) for cell in cells}
    # Windows that take the same checkpoints are no difference; before a run its steps are not known.
    windows = _WINDOW if len(steps) > 1 or () in steps else ()
    for key in varying(known):
        of_recipe = key.startswith("train.")
        checked = key in recipes if of_recipe else key.startswith(_SECTIONS) or key in (*_KEYS, *windows)
        if checked:
            having = [(one[key], cell) for one, cell in zip(known, cells, strict=True) if key in one]
            yield Difference(key, _sentence(key, having), _spoiled(key))


def _spoiled(key: str) -> Spoiled:
    if key.startswith(("train.", "checkpoints.")):
        return ()
    if key in _SEARCH_ONLY:
        return ("search",)
    return ("report",) if key.startswith("report.") else _BOTH


def _of_results(cells: Sequence[CellRecord]) -> Iterator[Difference]:
    """What results.json says of the objective; a run of a wsopt that did not say it yet is not accused."""
    for key in ("version", "direction"):
        said = [(objective[key], cell) for cell in cells if key in (objective := cell.results.get("objective") or {})]
        if len({text_of(value) for value, _ in said}) > 1:
            yield Difference(f"objective.{key}", _sentence(f"objective.{key}", said), _BOTH)


def _of_plugins(cells: Sequence[CellRecord]) -> Iterator[Difference]:
    contents: dict[str, list[tuple[Any, CellRecord]]] = {}
    for cell in cells:
        for name, digest in plugin_files(cell.resolved).items():
            contents.setdefault(name, []).append((digest[:12], cell))
    for name, having in sorted(contents.items()):
        if len({digest for digest, _ in having}) > 1:
            yield Difference("plugins", _sentence(f"the content of the plugin {name}", having), _BOTH)


def _of_checkpoints(cells: Sequence[CellRecord], kinds: set[str]) -> Iterator[Difference]:
    """Steps and content, where no setting that differs explains them."""
    explained = any(kind in (*_WINDOW, *_STREAM) or kind.startswith(("train.", "family.", "data.")) for kind in kinds)
    if explained:
        return
    if len({_steps(cell) for cell in cells}) > 1:
        having = [(f"{len(_steps(cell))}, of steps {list(_steps(cell))}", cell) for cell in cells]
        yield Difference("checkpoints", _sentence("the number of checkpoints", having), ())
        return
    for instance, group in _grouped(cells, lambda cell: cell.instance):
        prints = [(fingerprint(cell.provenance)[:12], cell) for cell in group]
        if len({one for one, _ in prints}) > 1:
            what = f"on {instance}, the fingerprint of the checkpoints"
            yield Difference("checkpoints", _sentence(what, prints), ())


def _of_instances(cells: Sequence[CellRecord]) -> Iterator[Difference]:
    for instance, group in _grouped(cells, lambda cell: cell.instance):
        if len({_seed(cell) for cell in group}) > 1:
            having = [(_seed(cell), cell) for cell in group]
            yield Difference("seed", _sentence(f"on {instance}, the seed of the noise", having), _BOTH)
    for method, group in _grouped(cells, lambda cell: cell.method):
        for _, same in _grouped(group, lambda cell: (fingerprint(cell.provenance), _seed(cell))):
            names = list(dict.fromkeys(cell.instance for cell in same))
            if len(names) > 1:
                text = f"{' and '.join(names)} are one: the same checkpoints and seed in the runs of {method}."
                yield Difference("instances", text, ())


def _of_scores(cells: Sequence[CellRecord]) -> Iterator[Difference]:
    """Equal weights on equal noise have equal scores: what no config says (a network, a library) shows here."""
    for (instance, _), group in _grouped(cells, lambda cell: (cell.instance, fingerprint(cell.provenance))):
        last = [(row, cell) for cell in group for row in cell.rows if row.name == "last" and row.split == "report"]
        for column in sorted({(row.column, row.samples) for row, _ in last}, key=str):
            having = [(row.value, cell) for row, cell in last if (row.column, row.samples) == column]
            low, high = min(value for value, _ in having), max(value for value, _ in having)
            if high - low > _ROUNDING * max(abs(low), abs(high)):
                what = f"on {instance}, the {column[0][0]} of the last checkpoint on the report split"
                yield Difference("scores", _sentence(what, [(f"{value:.6g}", cell) for value, cell in having]), _BOTH)
                break


def _sentence(what: str, having: Sequence[tuple[Any, CellRecord]]) -> str:
    """A sentence such as ``search.samples is 1000 in runs/a and 4 more, 500 in runs/b.``."""
    values: dict[str, list[CellRecord]] = {}
    for value, cell in having:
        text = value if isinstance(value, str) else text_of(value)
        values.setdefault(text, []).append(cell)
    parts = []
    for text, cells in values.items():
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        short = text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."
        parts.append(f"{short} in {cells[0].path}{more}")
    return f"{what} is {', '.join(parts)}."


def _grouped(cells: Sequence[CellRecord], key: Callable[[CellRecord], Hashable]) -> list[tuple[Any, list[CellRecord]]]:
    groups: dict[Hashable, list[CellRecord]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.items())


def _steps(cell: CellRecord) -> tuple[int, ...]:
    return tuple(cell.results.get("steps") or ())


def _seed(cell: CellRecord) -> int:
    return int(cell.resolved.get("seed", 0))
