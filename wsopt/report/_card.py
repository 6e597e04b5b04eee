"""The model card of the merged weights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import numpy as np

from wsopt.report._chosen import origin_text
from wsopt.report._figures import FOLDER
from wsopt.report._labels import optimizer_label
from wsopt.report._record import RunRecord
from wsopt.report._table import results_markdown

_CELLS = 2000
_FIGURES = {
    "convergence": "Search score against evaluations",
    "coefficients": "Coefficients by training step",
    "samples": "Samples from the same noise, before and after",
}


def model_card(record: RunRecord, config_text: str) -> str:
    """The README.md of a run folder.

    Figures are linked where they exist already, so call `write_figures` first.

    Args:
        record: the finished run.
        config_text: its config.toml, quoted word for word where the folder has no resolved.json.

    Returns:
        Markdown with a YAML head.
    """
    parts = [
        _head(record),
        _introduction(record),
        _loading(record),
        f"## Results\n\n{results_markdown(record, full=True)}",
        *_pictures(record),
        _coefficients(record),
        _provenance(record),
        _reproduction(record, config_text),
    ]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _head(record: RunRecord) -> str:
    tags = ["wsopt", "checkpoint-merging", "model-merging", *([record.optimizer] if record.optimizer else [])]
    lines = ["---", "library_name: wsopt", "tags:", *(f"- {json.dumps(tag)}" for tag in tags), "---"]
    return "\n".join(lines) + "\n"


def _introduction(record: RunRecord) -> str:
    results = record.results
    steps = record.steps
    groups = len(_best(record))
    name = optimizer_label(record.optimizer)
    apart = f", with coefficients of its own for each of {groups} layer groups" if groups > 1 else ""
    lines = [
        f"# {results['name']}\n",
        f"The weights in `merged.safetensors` are a linear combination of {len(steps)} checkpoints of one training "
        f"run, saved from step {steps[0]:,} to step {steps[-1]:,}{apart}.",
        f"The coefficients were searched without gradients by {name}, which "
        f"{'minimised' if record.minimize else 'maximised'} {record.label} "
        f"over {results['evaluations']:,} evaluations.",
    ]
    if record.optimizer == "lcsc":
        lines.append(
            "The method is LCSC (*Linear Combination of Saved Checkpoints Makes Consistency and Diffusion Models "
            "Better*, ICLR 2025)."
        )
    lines.append(origin_text(record))
    return "\n".join(lines) + "\n"


def _loading(record: RunRecord) -> str:
    return (
        "## Loading\n\n"
        "```python\nfrom safetensors.torch import load_file\n\n"
        'weights = load_file("merged.safetensors")\nmodel.load_state_dict(weights)\n```\n\n'
        "Names and shapes are those of the checkpoints; `model` is the network that `family` in the config below "
        "describes.\n"
    )


def _pictures(record: RunRecord) -> Iterator[str]:
    for name, text in _FIGURES.items():
        if (record.path / FOLDER / f"{name}.png").is_file():
            yield f"![{text}]({FOLDER}/{name}.png)\n"


def _best(record: RunRecord) -> np.ndarray:
    best = record.coefficients(record.exported)
    assert best is not None
    return best


def _coefficients(record: RunRecord) -> str:
    best, ema = _best(record), record.coefficients("best-ema")
    groups = len(best)
    if best.size > _CELLS:
        text = f"{groups} layer groups of {best.shape[1]} checkpoints each: `coefficients.{record.exported}` of "
        return f"## Coefficients\n\n{text}`results.json`.\n"
    header = ["step", *([record.exported] if groups == 1 else [_cell(name) for name in record.groups])]
    columns = [*best]
    if ema is not None:
        header.append(str(record.results["coefficients"]["best-ema"].get("name", "EMA")))
        columns.append(ema[0])
    lines = ["| " + " | ".join(header) + " |", "|" + "---:|" * len(header)]
    for step, *values in zip(record.steps, *columns, strict=True):
        lines.append("| " + " | ".join([str(step), *(f"{value:.6g}" for value in values)]) + " |")
    apart = "" if groups == 1 else f" for each of {groups} groups"
    facts = f"{best.shape[1]} coefficients{apart}, sum {', '.join(f'{total:.6g}' for total in best.sum(axis=1)[:6])}"
    facts += ", …" if groups > 6 else ""
    table = "\n".join(lines)
    return (
        f"## Coefficients\n\n<details>\n<summary>{facts}</summary>\n\n{table}\n\n</details>\n\n"
        "Full precision: `coefficients` of `results.json`.\n"
    )


def _provenance(record: RunRecord) -> str:
    results = record.results
    objective = results["objective"]
    label = record.label
    label += f" to {objective['reference']}" if objective.get("reference") else ""
    # An objective of the weights alone generates nothing, whatever search.samples says.
    generated = any(row.samples > 0 for row in record.scores if row.split == "report")
    label += f", {objective['samples']:,} samples" if generated and objective.get("samples") else ""
    facts: dict[str, object] = {"seed": results["seed"], "objective": label}
    # The command stands under Reproduction.
    facts |= dict(_flat({key: value for key, value in record.provenance.items() if key != "command"}))
    rows = [f"| {key} | {_cell(str(value))} |" for key, value in facts.items() if value is not None]
    return "\n".join(["## Provenance\n", "| | |", "|---|---|", *rows]) + "\n"


def _cell(text: str) -> str:
    """Text that may stand in a cell of a Markdown table."""
    return text.replace("|", "&#124;")


def _flat(facts: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Nested objects as dotted keys."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            short = f"{value:.6g}" if isinstance(value, float) else value
            yield f"{prefix}{key}", short if isinstance(short, str | int | None) else json.dumps(short)


def _reproduction(record: RunRecord, config_text: str) -> str:
    """The command and the config as written, which name no folder that the user did not."""
    command = record.provenance.get("command")
    given = f"{_fenced('sh', command)}\n\n" if isinstance(command, str) and command else ""
    return (
        "## Reproduction\n\n"
        f"{given}"
        "With the config below (`config.toml`), the overrides and plugin files of the command, a total budget of "
        f"{record.results['budget']:,} evaluations, the same versions and number of threads, this gives the same "
        "results. `resolved.json` has every setting, with defaults and overrides filled in.\n\n"
        f"{_fenced('toml', config_text.rstrip())}\n"
    )


def _fenced(language: str, text: str) -> str:
    # A fence has to be longer than any run of backticks that it holds.
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
