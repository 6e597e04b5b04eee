"""The hooks a plugin may implement, and the markers it uses.

A plugin is a module (or any object) that marks functions with `hookimpl`:

    from wsopt.hookspecs import hookimpl

    @hookimpl
    def register_objectives(register):
        register("brightness", "my_package.brightness:Brightness")

It is found through the entry-point group ``wsopt``, or as a single file named by ``--plugin FILE`` or by ``plugins`` in
a config file. Registration hooks name a target and import nothing heavy; event hooks watch a run and cannot change its
results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

if TYPE_CHECKING:
    from pydantic import BaseModel

PROJECT = "wsopt"
"""Name of the pluggy project and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Register(Protocol):
    """What a registration hook is given."""

    def __call__(
        self,
        name: str,
        target: str,
        *,
        params: type[BaseModel] | None = None,
        recipe: type[BaseModel] | None = None,
    ) -> None:
        """Offer a component.

        Args:
            name: what a config file calls it: letters, digits, ``.``, ``_`` and ``-``.
            target: ``"module:Class"``, imported when the component is first used. In a single-file plugin:
                ``f"{__name__}:Class"``.
            params: pydantic model of the keys its config section takes; None where it takes none. It must live in a
                module that is quick to import.
            recipe: pydantic model of the ``[train]`` section; model families that can train have one.

        Raises:
            ValueError: for a malformed name or target, or a model with fields that the section keeps for itself.
        """


@hookspec
def register_objectives(register: Register) -> None:
    """Offer objectives: classes derived from `wsopt.objectives.Objective`."""


@hookspec
def register_optimizers(register: Register) -> None:
    """Offer optimizers: classes derived from `wsopt.optimizers.Optimizer`."""


@hookspec
def register_parameterizations(register: Register) -> None:
    """Offer parameterizations: classes derived from `wsopt.parameterizations.Parameterization`."""


@hookspec
def register_model_families(register: Register) -> None:
    """Offer model families: classes derived from `wsopt.families.ModelFamily`; with a recipe where they can train."""


@hookspec
def register_checkpoint_readers(register: Register) -> None:
    """Offer readers of checkpoint formats."""


@hookspec
def register_feature_extractors(register: Register) -> None:
    """Offer feature extractors: classes derived from `wsopt.objectives.FeatureExtractor`."""


@hookspec
def register_datasets(register: Register) -> None:
    """Offer data sets: classes derived from `wsopt.datasets.Dataset`."""


@hookspec
def register_commands(register: Register) -> None:
    """Offer subcommands of ``wsopt``.

    The target is a class, made without arguments, with ``add_parser(subparsers) -> None`` (which adds one parser of the
    registered name) and ``main(args) -> int`` (which returns the exit code).
    """


@hookspec
def run_started(run: Mapping[str, Any]) -> None:
    """A run begins or is continued. `run` is a copy: name, folder, config (resolved), budget, label of the score."""


@hookspec
def trial_finished(run: Mapping[str, Any], trial: Mapping[str, Any]) -> None:
    """One evaluation on the search split was journalled.

    `trial` is a copy: trial (a baseline's name, or a candidate's id as text), value, loss, samples, failure, seconds by
    stage; value, loss and samples are None where it failed.
    """


@hookspec
def run_finished(run: Mapping[str, Any]) -> None:
    """All results of a run are written."""
