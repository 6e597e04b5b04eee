"""What the plugins offer: components by kind and name, imported when first used."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

from wsopt.errors import MissingDependencyError, PluginError, UnknownNameError, WsoptError

if TYPE_CHECKING:
    from pydantic import BaseModel

Kind = Literal["objective", "optimizer", "parameterization", "family", "reader", "extractor", "dataset", "command"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

HOOKS: Final[dict[str, Kind]] = {
    "register_objectives": "objective",
    "register_optimizers": "optimizer",
    "register_parameterizations": "parameterization",
    "register_model_families": "family",
    "register_checkpoint_readers": "reader",
    "register_feature_extractors": "extractor",
    "register_datasets": "dataset",
    "register_commands": "command",
}
"""Registration hook -> kind of component that it offers."""

LABELS: Final[dict[Kind, str]] = {
    "objective": "objective",
    "optimizer": "optimizer",
    "parameterization": "parameterization",
    "family": "model family",
    "reader": "checkpoint reader",
    "extractor": "feature extractor",
    "dataset": "data set",
    "command": "command",
}
"""What messages call a kind."""

RESERVED: Final[dict[Kind, frozenset[str]]] = {
    kind: frozenset(
        {"name", "label", "features", "reference", "preset", "quantize", "parts", "weight"}
        if kind == "objective"
        else {"name"}
    )
    for kind in KINDS
}
"""Keys of a component's config section that its params model cannot have."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class Section(Protocol):
    """A validated config section that names a component."""

    @property
    def name(self) -> str:
        """What the component is called."""

    @property
    def params(self) -> BaseModel:
        """Its parameters."""


@dataclass(frozen=True)
class Component:
    """Something a plugin offers under a name.

    Args:
        kind: what it is.
        name: what a config file calls it.
        target: ``"module:Class"``.
        params: pydantic model of its config keys, or None.
        recipe: pydantic model of a family's ``[train]`` section, or None.
        plugin: name of the plugin that offered it.
        distribution: the installed distribution the plugin came from, or the path of a single file.
        version: that distribution's version; empty for a single file.
        shadowed: True where an earlier plugin has the bare name, so that only ``plugin:name`` reaches this one.
    """

    kind: Kind
    name: str
    target: str
    params: type[BaseModel] | None
    recipe: type[BaseModel] | None
    plugin: str
    distribution: str
    version: str
    shadowed: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"{self.name!r} cannot name a component ({LABELS[self.kind]}): use letters, digits, '.', '_' and '-'"
            )
        if not _TARGET.fullmatch(self.target):
            raise ValueError(f"the target of {LABELS[self.kind]} {self.name!r} is {self.target!r}, not 'module:Class'")
        fields = self.params.model_fields if self.params is not None else {}
        taken = sorted(RESERVED[self.kind] & fields.keys())
        if taken:
            raise ValueError(
                f"the params of {LABELS[self.kind]} {self.name!r} have a field {taken[0]!r}, which every "
                f"[{self.kind}] section keeps for itself: rename the field"
            )

    @property
    def address(self) -> str:
        """The shortest name that reaches it."""
        return self.qualified if self.shadowed else self.name

    @property
    def qualified(self) -> str:
        """``plugin:name``, which reaches it always."""
        return f"{self.plugin}:{self.name}"

    @property
    def source(self) -> str:
        """Plugin, distribution and version, for messages."""
        return plugin_source(self.plugin, self.distribution, self.version)

    def load(self) -> type[Any]:
        """Import the class.

        Raises:
            MissingDependencyError: where a third-party package that it imports is not installed.
            PluginError: where the import fails otherwise, or the target is not there or not a class.
        """
        module_name, _, path = self.target.partition(":")
        what = f"{LABELS[self.kind]} {self.name!r} of {self.source}"
        try:
            found: Any = importlib.import_module(module_name)
            for part in path.split("."):
                found = getattr(found, part)
        except WsoptError:
            raise
        except ImportError as error:
            package = (error.name or "").partition(".")[0]
            if package in ("", "wsopt", module_name.partition(".")[0]):
                raise self._broken(what, error) from error
            raise MissingDependencyError(
                f"{what} needs the package {package}, which could not be imported ({describe(error)}). "
                f"Install it, or the extra of {self.distribution} that brings it."
            ) from error
        except (Exception, SystemExit) as error:
            raise self._broken(what, error) from error
        if not isinstance(found, type):
            raise PluginError(f"{what} should be a class, but {self.target} is {found!r}. Ask the plugin's author.")
        return found

    def _broken(self, what: str, error: BaseException) -> PluginError:
        return PluginError(
            f"{what} could not be imported from {self.target} ({describe(error)}). Mend or update the plugin."
        )


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that was skipped, and why."""

    name: str
    distribution: str
    version: str
    error: str

    def __str__(self) -> str:
        return f"{plugin_source(self.name, self.distribution, self.version)}: {self.error}"


class Registry:
    """Components by kind and name, in the order they were registered."""

    def __init__(self, broken: Sequence[BrokenPlugin] = (), blocked: Sequence[str] = ()) -> None:
        self._components: dict[Kind, list[Component]] = {kind: [] for kind in KINDS}
        self.broken = list(broken)
        self.blocked = list(blocked)

    def add(self, component: Component) -> Component:
        """Take a component and return it as kept: shadowed where its bare name is taken.

        Raises:
            ValueError: where the same plugin registers one name twice.
        """
        known = self._components[component.kind]
        if any(other.qualified == component.qualified for other in known):
            raise ValueError(f"{LABELS[component.kind]} {component.name!r} is registered twice")
        kept = replace(component, shadowed=any(other.name == component.name for other in known))
        known.append(kept)
        return kept

    def all(self, kind: Kind) -> list[Component]:
        """All components of a kind, shadowed ones included, in the order of registration."""
        return list(self._components[kind])

    def get(self, kind: Kind, name: str) -> Component:
        """The component called `name`, bare or as ``plugin:name``.

        Raises:
            UnknownNameError: where no plugin has it.
            PluginError: where a plugin failed to load that could have had it.
        """
        for component in self._components[kind]:
            if name in (component.address, component.qualified):
                return component
        raise self._unknown(kind, name)

    def make(self, kind: Kind, section: Section) -> Any:  # noqa: ANN401 - what class it is, the caller knows
        """The component that a config section names, made from the section's parameters.

        Raises:
            UnknownNameError, PluginError: see `get`.
            MissingDependencyError, PluginError: see `Component.load`.
        """
        return self.get(kind, section.name).load()(section.params)

    def make_all(self, kind: Kind) -> list[Any]:
        """Every component of a kind that takes no parameters, in the order of registration."""
        return [component.load()() for component in self.all(kind)]

    def _unknown(self, kind: Kind, name: str) -> UnknownNameError | PluginError:
        text = f"unknown {LABELS[kind]} {name!r}"
        plugin = name.partition(":")[0] if ":" in name else None
        suspects = [broken for broken in self.broken if broken.name == plugin] or self.broken
        if suspects:
            causes = "; ".join(str(broken) for broken in suspects)
            return PluginError(
                f"{text}; it may belong to a plugin that failed to load: {causes}. "
                f"Mend or uninstall that plugin, or use one of: {self._known(kind)}."
            )
        near = did_you_mean(name, [component.address for component in self._components[kind]])
        text += f"; {near}known: {self._known(kind)}"
        if self.blocked:
            text += f" (not loaded, because of WSOPT_PLUGINS: {', '.join(self.blocked)})"
        return UnknownNameError(text)

    def _known(self, kind: Kind) -> str:
        return ", ".join(sorted(component.address for component in self._components[kind])) or "none"


def import_file(path: Path, name: str) -> ModuleType:
    """A Python file as the module `name`, which stays in sys.modules so that what it defines can be found by name.

    Raises:
        ImportError: for a file that is no Python file, and whatever the file raises.
    """
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def did_you_mean(name: str, known: Sequence[str], limit: int = 3) -> str:
    """``"did you mean 'lcsc'? "`` for the nearest of `known`, at most `limit`, or an empty string."""
    near = difflib.get_close_matches(name, known, n=limit, cutoff=0.6)
    return f"did you mean {' or '.join(repr(one) for one in near)}? " if near else ""


def plugin_source(plugin: str, distribution: str, version: str) -> str:
    """``plugin 'x' (some-package 1.2)``."""
    return f"plugin {plugin!r} ({' '.join(part for part in (distribution, version) if part)})"


def describe(error: BaseException) -> str:
    """Kind and first line of an error, for a message of one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
