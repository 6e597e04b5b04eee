"""The manifest of a comparison: what was run with what, so that the reader sees what the numbers stand on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wsopt.compare._base import CellRecord
from wsopt.compare._names import INSTANCE_KEYS, natural
from wsopt.compare._read import fingerprint
from wsopt.compare._series import Runs
from wsopt.compare._settings import settings, varying

_PLACES = (*INSTANCE_KEYS, "output")


def manifest(
    runs: Mapping[str, Runs],
    instances: Sequence[str],
    comparisons: Sequence[tuple[str, str]],
    targets: str,
    tuning: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """`Comparison.manifest`.

    Args:
        runs: method -> its runs by instance.
        instances: all, in order.
        comparisons: that are tested.
        targets: how the ten targets were made, a sentence.
        tuning: how each method's settings were chosen, as the comparison's file tells it.
    """
    cells = [cell for of_method in runs.values() for cell in of_method.values()]
    packages = _packages(cells)
    return {
        "packages": packages,
        "differing": [name for name, versions in packages.items() if len(versions) > 1],
        "instances": {name: _instance([cell for cell in cells if cell.instance == name]) for name in instances},
        "methods": {method: _method(list(of_method.values())) for method, of_method in runs.items()},
        "comparisons": [list(pair) for pair in comparisons],
        "targets": targets,
        "runs": [str(cell.path) for cell in cells],
        "notes": list(_notes(runs, instances, cells, packages)),
        **({} if tuning is None else {"tuning": dict(tuning)}),
    }


def _packages(cells: Sequence[CellRecord]) -> dict[str, list[str]]:
    """Package -> the versions of it that runs were made with; python, device and threads among them."""
    met: dict[str, set[str]] = {}
    for cell in cells:
        facts = {key: cell.provenance.get(key) for key in ("python", "machine", "device", "threads")}
        for name, version in {**facts, **(cell.provenance.get("packages") or {})}.items():
            if version is not None:
                met.setdefault(name, set()).add(str(version))
    return {name: sorted(versions, key=natural) for name, versions in met.items()}


def _instance(cells: Sequence[CellRecord]) -> dict[str, Any]:
    provenances = [cell.provenance for cell in cells]
    return {
        "checkpoints": sorted({fingerprint(one) for one in provenances}),
        "seed": sorted({int(cell.resolved.get("seed", 0)) for cell in cells}),
        "train_seed": sorted({int(one["train_seed"]) for one in provenances if one.get("train_seed") is not None}),
    }


def _method(cells: Sequence[CellRecord]) -> dict[str, Any]:
    known = [settings(cell.resolved) for cell in cells]
    config = {key: value for key, value in known[0].items() if key not in _PLACES}
    return {
        "runs": len(cells),
        "instances": [cell.instance for cell in cells],
        "config": config,
        "varied": varying(known, _PLACES),
        "optimizer": cells[0].results.get("optimizer_facts") or {},
    }


def _notes(
    runs: Mapping[str, Runs],
    instances: Sequence[str],
    cells: Sequence[CellRecord],
    packages: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    for method, of_method in runs.items():
        missing = [name for name in instances if name not in of_method]
        if missing:
            yield (
                f"{method} has no run on {', '.join(missing)}: its quartiles and targets are over "
                f"{len(of_method)} of {len(instances)} instances, its wins over the instances that both methods have."
            )
    budgets = sorted({cell.budget for cell in cells})
    if len(budgets) > 1:
        yield (
            f"The runs had budgets of {', '.join(map(str, budgets))} evaluations; they are compared at {budgets[0]}. "
            f"A longer run counts on the report split where report.curve scored it after {budgets[0]} evaluations."
        )
    early = [cell for cell in cells if len(cell.losses) < cell.budget]
    if early:
        ended = "run ended" if len(early) == 1 else "runs ended"
        yield f"{len(early)} {ended} before the budget was spent; a target that was missed is charged with all of it."
    failed = sum(int((cell.losses != cell.losses).sum()) - cell.given_up for cell in cells)
    if failed:
        yield f"{failed:,} of {sum(len(cell.losses) for cell in cells):,} evaluations failed; they are charged."
    if any(len({cell.baselines for cell in cells if cell.instance == name}) > 1 for name in instances):
        yield "The methods were charged for different numbers of baselines on one instance."
    former = [cell for cell in cells if (cell.resolved.get("baselines") or {}).get("runs")]
    if former:
        began = "run began" if len(former) == 1 else "runs began"
        yield f"{len(former)} {began} from the results of former runs, whose evaluations are not charged."
    for name, versions in packages.items():
        if len(versions) > 1:
            yield f"{name} was {' and '.join(versions)}: the last digits of scores may differ for it."
    for method, of_method in runs.items():
        varied = varying([settings(cell.resolved) for cell in of_method.values()], (*_PLACES, "name"))
        if varied:
            yield f"Not all runs of {method} have the same {', '.join(varied)}."
