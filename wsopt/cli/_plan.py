"""The plan of a run as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsopt.cli._shared import print_subjects
from wsopt.report import amount, duration

if TYPE_CHECKING:
    from wsopt.config import Config
    from wsopt.run import Plan


def print_plan(plan: Plan, config: Config) -> None:
    """Print a plan to stdout, one subject below the other."""
    lines = plan_lines(plan)
    after = [subject for subject, _ in lines].index("coefficients") + 1
    print_subjects([*lines[:after], ("optimizer", optimizer_text(config)), *lines[after:]], 14)


def plan_lines(plan: Plan) -> list[tuple[str, str]]:
    """Pairs of subject and text."""
    found = plan.checkpoints
    evaluations, seconds = plan.evaluations, plan.seconds
    samples, reported = evaluations["samples"], evaluations["report_samples"]
    sampled = f" of {samples:,} samples, {plan.nfe} NFE" if samples else ""
    each = f", {reported:,} samples each" if reported else ""
    lines = [
        ("run", f"{plan.folder} ({'continues' if plan.exists else 'new'})"),
        (
            "checkpoints",
            f"{found['count']} of steps {found['steps'][0]:,} to {found['steps'][1]:,}, {found['tensors']} tensors, "
            f"{found['values']:,} values each, {amount(found['bytes'])} on disk in {found['from']}",
        ),
        *(("tensors" if not at else "", text) for at, text in enumerate(_policies(plan.policy))),
        ("coefficients", _coefficients(plan)),
        ("memory", _memory(plan)),
        (
            "budget",
            f"{evaluations['budget']} evaluations{sampled}: "
            f"{evaluations['baselines']} baselines, {evaluations['search']} search",
        ),
        ("report", f"about {evaluations['report']} sets of weights{each}"),
        (
            "time",
            f"{duration(seconds['evaluation'])} per evaluation (one batch timed; merge and score not in it): "
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
    for policy, row in sorted(table.items(), key=lambda item: list(_DONE).index(item[0])):
        names = "" if policy == "combine" else f": {_listed(row['names'], 4)}"
        values = f"{row['values']:,} value{'' if row['values'] == 1 else 's'}"
        lines.append(f"{row['tensors']:,} ({values}) {_DONE[policy]}{names}")
    return lines


def _coefficients(plan: Plan) -> str:
    """The parameterization, D where it is known, and the layer groups."""
    dimension = plan.parameterization["dimension"]
    text = f"parameterization {plan.parameterization['name']}" + (f", D = {dimension:,}" if dimension else "")
    if len(plan.groups) == 1:
        return text
    return (
        f"{text}; {len(plan.groups):,} layer groups: {', '.join(plan.groups[:6])}"
        f"{', ...' if len(plan.groups) > 6 else ''}; those of tensors that are equal in all checkpoints fall away"
    )


def optimizer_text(config: Config) -> str:
    """The optimizer that is taken, with its keys and the coordinates that it searches in."""
    keys = {key: value for key, value in dict(config.optimizer.params).items() if value is not None}
    coordinates = getattr(config.parameterization.params, "coordinates", None)
    where = f", in {coordinates} coordinates" if coordinates else ""
    return f"{config.optimizer.name}{where}" + (f": {_recipe(keys)}" if keys else "")


def _memory(plan: Plan) -> str:
    """What is resident and what is mapped, each with its parts; dtype and devices where they are not the usual."""
    dtype, devices = plan.held["dtype"], plan.held["devices"]
    sizes = {name: size for name, size in plan.memory_bytes.items() if size and name != "mapped"}
    text = f"{amount(sum(sizes.values()))} resident"
    text += f" ({', '.join(f'{_part(name, dtype)} {amount(size)}' for name, size in sizes.items())})"
    if mapped := plan.memory_bytes.get("mapped"):
        text += f", and {_part('differences', dtype)} {amount(mapped)} mapped from a file in {plan.held['cache']}"
    return text + (f"; shared by {' and '.join(devices)}" if len(devices) > 1 else f"; on {devices[0]}")


def _part(name: str, dtype: str) -> str:
    return f"{name} in {dtype}" if name.endswith("differences") else name


def _listed(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")


def _recipe(recipe: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_plain(value)}" for key, value in recipe.items())


def _plain(value: object) -> str:
    return " ".join(str(item) for item in value) if isinstance(value, list | tuple) else str(value)
