"""Recipes from files: aligned with the chosen checkpoints, with the layer groups of the run that found them."""

from __future__ import annotations

from pathlib import Path

from wsopt.checkpoints import CheckpointSet
from wsopt.config import Config
from wsopt.errors import InputError
from wsopt.merge._recipe import Recipe
from wsopt.merge._tables import Table
from wsopt.parameterizations import Parameterization
from wsopt.registry import Registry
from wsopt.weightspace import Grouping


def results_file(path: Path) -> Path:
    """The coefficient file that `path` means: itself, or the results of a run folder.

    Raises:
        InputError: where `path` is a folder without results.
    """
    if not path.is_dir():
        return path
    if (path / "results.json").is_file():
        return path / "results.json"
    what = "a run that is not finished" if (path / "resolved.json").is_file() else "not a run folder"
    raise InputError(
        f"--coefficients {path}: it is {what}, it has no results.json. Give a coefficient file, or finish the run with "
        f"wsopt run --resume."
    )


def run_config(path: Path) -> Path | None:
    """The resolved config beside a run's results, or None where there is none."""
    folder = path if path.is_dir() else path.parent
    found = folder / "resolved.json"
    return found if found.is_file() and (folder / "results.json").is_file() else None


def run_grouping(config: Config, registry: Registry) -> Grouping:
    """The layer groups of a config's parameterization."""
    parameterization: Parameterization = registry.make("parameterization", config.parameterization)
    return parameterization.grouping


def table_recipe(table: Table, checkpoints: CheckpointSet, grouping: Grouping | None = None) -> Recipe:
    """The coefficients of a file for the chosen checkpoints.

    Args:
        table: the file.
        checkpoints: what was chosen.
        grouping: of the run that found them; the file's own patterns go first.

    Raises:
        InputError: where steps or number differ, or a coefficient is not finite.
    """
    own = table.grouping if table.patterns else grouping
    label = str(table.facts.get("profile_of_file", table.path.name))
    facts = {key: value for key, value in table.facts.items() if key != "profile_of_file"}
    values = table.aligned(checkpoints.steps)
    return Recipe(label, checkpoints.steps, values, table.groups, own, facts, partial=not table.patterns)
