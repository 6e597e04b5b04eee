"""The plan of a run as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsopt.report import amount, duration

if TYPE_CHECKING:
    from wsopt.run import Plan


def print_plan(plan: Plan) -> None:
    """Print a plan to stdout, one subject per line."""
    for subject, text in plan_lines(plan):
        print(f"{subject:<12}{text}")


def plan_lines(plan: Plan) -> list[tuple[str, str]]:
    """Pairs of subject and text."""
    found = plan.checkpoints
    evaluations, seconds = plan.evaluations, plan.seconds
    memory = plan.memory_bytes
    parts = ", ".join(f"{name} {amount(size)}" for name, size in memory.items() if size)
    resident = sum(size for name, size in memory.items() if name != "mapped")
    lines = [
        ("run", f"{plan.folder} ({'continues' if plan.exists else 'new'})"),
        (
            "checkpoints",
            f"{found['count']} of steps {found['steps'][0]:,} to {found['steps'][1]:,}, {found['tensors']} tensors, "
            f"{found['values']:,} values each, {amount(found['bytes'])} on disk in {found['from']}",
        ),
        *(("tensors" if not at else "", text) for at, text in enumerate(_policies(plan.policy))),
        *([("groups", _listed(plan.groups, 6))] if len(plan.groups) > 1 else []),
        ("memory", f"{amount(resident)} resident ({parts})"),
        (
            "budget",
            f"{evaluations['budget']} evaluations of {evaluations['samples']:,} samples, {plan.nfe} NFE: "
            f"{evaluations['baselines']} baselines, {evaluations['search']} search",
        ),
        ("report", f"{evaluations['report']} targets of {evaluations['report_samples']:,} samples"),
        (
            "time",
            f"{duration(seconds['evaluation'])} per evaluation (one batch timed, merge not in it): "
            f"{duration(seconds['baselines and search'])} for baselines and search, "
            f"{duration(seconds['report'])} for the report",
        ),
    ]
    lines += [("passed over", text) for text in plan.passed_over]
    if found.get("to_train"):
        lines.insert(1, ("training", f"still to do: {_recipe(found['recipe'])}"))
    return lines


_DONE = {
    "combine": "combined; copied where they are equal in all checkpoints",
    "not floating": "not floating, copied",
    "batchnorm": "of batch normalisation, copied from the last checkpoint",
    "constant": "equal in all checkpoints, copied",
}


def _policies(table: Mapping[str, Any]) -> list[str]:
    """One line for each thing that is done with tensors; the names where there are few."""
    lines = []
    for policy, row in table.items():
        names = "" if policy == "combine" else f": {_listed(row['names'], 4)}"
        lines.append(f"{row['tensors']} ({row['values']:,} values) {_DONE[policy]}{names}")
    return lines


def _listed(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")


def _recipe(recipe: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_plain(value)}" for key, value in recipe.items())


def _plain(value: object) -> str:
    return " ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)
