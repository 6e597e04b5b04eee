"""The plan of a run as text."""

from __future__ import annotations

from collections.abc import Mapping
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
    parts = ", ".join(f"{name} {amount(size)}" for name, size in memory.items())
    lines = [
        ("run", f"{plan.folder} ({'continues' if plan.exists else 'new'})"),
        (
            "checkpoints",
            f"{found['count']} of steps {found['steps'][0]:,} to {found['steps'][1]:,}, {found['tensors']} tensors, "
            f"{found['values']:,} values each, {amount(found['bytes'])} on disk in {found['from']}",
        ),
        ("tensors", ", ".join(f"{count} {name}" for name, count in plan.policy.items())),
        ("memory", f"{amount(sum(memory.values()))} resident ({parts})"),
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
    if found.get("to_train"):
        lines.insert(1, ("training", f"still to do: {_recipe(found['recipe'])}"))
    return lines


def _recipe(recipe: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_plain(value)}" for key, value in recipe.items())


def _plain(value: object) -> str:
    return " ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)
