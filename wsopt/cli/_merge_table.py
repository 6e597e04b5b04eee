"""A merge as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wsopt.report import amount

if TYPE_CHECKING:
    from wsopt.merge import Merged, Recipe

_POLICIES = {"combine": "combined", "constant": "constant", "not floating": "not floating", "batchnorm": "BatchNorm"}


def summary_lines(merged: Merged, planned: bool) -> list[tuple[str, str]]:
    """Pairs of subject and text."""
    recipe = merged.recipe
    count = len(recipe.steps)
    lines = [
        (
            "would merge" if planned else "merged",
            f"{count} checkpoints of steps {recipe.steps[0]:,} to {recipe.steps[-1]:,} by {_label(recipe)}"
            + (f", {len(merged.reads)} of them read" if len(merged.reads) < count else ""),
        ),
        ("coefficients", _coefficients(recipe)),
        ("tensors", _tensors(merged)),
        ("memory", f"{amount(merged.peak_bytes)} at the peak: {_held(merged)}"),
    ]
    if "profile_error" in recipe.facts:
        streams = ", ".join(recipe.facts["streams"])
        lines.insert(2, ("profile", f"off by a relative {recipe.facts['profile_error']:.2g}, made of {streams}"))
    if merged.adapter is not None:
        lines.append(("adapter", _adapter(merged.adapter)))
    if merged.path is not None:
        lines.append(("would write" if planned else "wrote", f"{merged.path} ({amount(merged.nbytes)})"))
    found = merged.verification
    if found is not None:
        lines.append(
            (
                "verified",
                f"{_tensor_count(found.tensors)}; largest relative error {found.error:.2g} ({found.tensor}), "
                f"{found.tolerance:.2g} is {_explained(merged)}",
            )
        )
    return lines + [("warning", text) for text in merged.warnings]


def coefficient_lines(recipe: Recipe) -> list[str]:
    """A header and one line per checkpoint, a column per layer group."""
    groups = ["coefficient"] if len(recipe.groups) == 1 else list(recipe.groups)
    rows = [["step", *groups]]
    for index in range(len(recipe.steps)):
        rows.append([recipe.name(index), *(f"{value:.9g}" for value in recipe.values[:, index])])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _label(recipe: Recipe) -> str:
    if "run" in recipe.facts:
        return f"{recipe.facts['which']} of the run {recipe.facts['run']}"
    return recipe.label


def _held(merged: Merged) -> str:
    if merged.adapter is not None:
        return "all adapters"
    return "one checkpoint" if merged.recipe.single is not None else "one checkpoint and the sums"


def _tensor_count(number: int) -> str:
    return f"{number} tensor{'' if number == 1 else 's'}"


def _tensors(merged: Merged) -> str:
    if merged.adapter is not None:
        return f"{sum(merged.tensors.values())} adapted weights"
    if merged.recipe.single is not None:
        return f"{sum(merged.tensors.values())} copied from that checkpoint"
    return ", ".join(
        f"{merged.tensors[policy]} {word}" for policy, word in _POLICIES.items() if policy in merged.tensors
    )


def _explained(merged: Merged) -> str:
    cut = merged.adapter is not None and merged.adapter["truncation_error"]
    return "the cut and rounding" if cut else "rounding"


def _adapter(facts: Mapping[str, Any]) -> str:
    if facts["style"] is None:
        return f"rank {facts['rank']}, that checkpoint's own tensors"
    how = f"cut, losing a relative {facts['truncation_error']:.2g}" if facts["truncation_error"] else "exact"
    return f"rank {facts['rank']}, {how}, in {facts['style']} style"


def _place(recipe: Recipe, index: int) -> str:
    """The step as in the first line, with what a post-hoc EMA's snapshot is called besides."""
    step = recipe.steps[index]
    return f"{step:,}{recipe.name(index).removeprefix(str(step))}"


def _coefficients(recipe: Recipe) -> str:
    sums = sorted({f"{total:.6g}" for total in recipe.sums})
    group, index = divmod(int(abs(recipe.values).argmax()), len(recipe.steps))
    largest = f"largest {recipe.values[group, index]:.4g} at step {_place(recipe, index)}"
    groups = f"{len(recipe.groups)} layer groups, " if len(recipe.groups) > 1 else ""
    return f"{groups}sum {' to '.join(sums[:: max(1, len(sums) - 1)])}, {largest}, absolute sum {recipe.sum_abs:.4g}"
