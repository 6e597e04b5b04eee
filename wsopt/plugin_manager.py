"""Finding and loading plugins, one by one, so that a broken one costs a warning and nothing else.

Order: the built-ins, the entry points of wsopt's own distribution, those of others by name, single files. The first to
register a name keeps it.

Environment: ``WSOPT_PLUGINS=a,b`` loads only these entry points (empty: none); ``WSOPT_STRICT_PLUGINS=1`` makes a
broken plugin an error.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import pluggy

import wsopt
from wsopt import hookspecs
from wsopt.errors import InputError, PluginError
from wsopt.registry import (
    HOOKS,
    BrokenPlugin,
    Component,
    Kind,
    Registry,
    describe,
    did_you_mean,
    import_file,
    plugin_source,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

Status = Literal["ok", "broken", "blocked"]
Warn = Callable[[str], None]


@dataclass(frozen=True)
class PluginInfo:
    """One plugin, as `wsopt plugins` shows it.

    Args:
        name: of its entry point, or the stem of its file.
        distribution: the installed distribution, or the path of a single file.
        version: the distribution's; empty for a single file.
        status: ``ok``; ``broken`` (failed to load, nothing of it is registered); ``blocked`` (by WSOPT_PLUGINS).
        error: why it is broken.
        components: what it registered.
        sha256: digest of a single file, hexadecimal; None for installed plugins.
    """

    name: str
    distribution: str
    version: str
    status: Status
    error: str | None = None
    components: tuple[Component, ...] = ()
    sha256: str | None = None


@dataclass(frozen=True)
class LoadedPlugins:
    """The result of `load_plugins`."""

    registry: Registry
    plugins: list[PluginInfo]
    events: Events


@dataclass(frozen=True)
class _Source:
    """Where a plugin comes from and how its module is imported."""

    name: str
    distribution: str
    version: str
    load: Callable[[], object]
    sha256: str | None = None


class Events:
    """Tells plugins what happens in a run. They get copies, and one that raises is reported once and then muted."""

    def __init__(self, manager: pluggy.PluginManager, warn: Warn) -> None:
        self._manager = manager
        self._warn = warn
        self._muted: set[str] = set()

    def run_started(self, run: Mapping[str, Any]) -> None:
        """See `wsopt.hookspecs.run_started`."""
        self._tell("run_started", run=run)

    def trial_finished(self, run: Mapping[str, Any], trial: Mapping[str, Any]) -> None:
        """See `wsopt.hookspecs.trial_finished`."""
        self._tell("trial_finished", run=run, trial=trial)

    def run_finished(self, run: Mapping[str, Any]) -> None:
        """See `wsopt.hookspecs.run_finished`."""
        self._tell("run_finished", run=run)

    def _tell(self, event: str, **facts: Mapping[str, Any]) -> None:
        for hook in getattr(self._manager.hook, event).get_hookimpls():
            if hook.plugin_name in self._muted:
                continue
            try:
                hook.function(*(deepcopy(dict(facts[name])) for name in hook.argnames))
            except Exception as error:
                self._muted.add(hook.plugin_name)
                self._warn(
                    f"warning: plugin {hook.plugin_name!r} failed in {event} and hears no more of this run: "
                    f"{describe(error)}"
                )


def load_plugins(files: Sequence[str | Path] = (), warn: Warn | None = None) -> LoadedPlugins:
    """Load the built-ins, the installed plugins and `files`.

    Args:
        files: single-file plugins, in this order.
        warn: takes one line per broken plugin; None prints it to stderr.

    Raises:
        InputError: for a file that is not there.
        PluginError: for a broken plugin, only where WSOPT_STRICT_PLUGINS is 1.
    """
    loader = _Loader(warn or _print_warning)
    loader.load(_Source("builtin", "wsopt", wsopt.__version__, _builtin))
    wanted = os.environ.get("WSOPT_PLUGINS")
    names = None if wanted is None else {name.strip() for name in wanted.split(",")}
    for point in _entry_points():
        distribution, version = _distribution(point)
        if names is None or point.name in names:
            loader.load(_Source(point.name, distribution, version, point.load))
        else:
            loader.infos.append(PluginInfo(point.name, distribution, version, "blocked"))
            loader.registry.blocked.append(point.name)
    for source in _file_sources(files):
        loader.load(source)
    return LoadedPlugins(loader.registry, loader.infos, Events(loader.manager, loader.warn))


@dataclass
class _Loader:
    """Loads plugin after plugin into one registry."""

    warn: Warn
    registry: Registry = field(default_factory=Registry)
    infos: list[PluginInfo] = field(default_factory=list)
    manager: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager(hookspecs.PROJECT))

    def __post_init__(self) -> None:
        self.manager.add_hookspecs(hookspecs)

    def load(self, source: _Source) -> None:
        """Load one plugin: all of it, or nothing."""
        try:
            components = self._components(source)
        except (Exception, SystemExit) as error:
            self._skip(source, error)
            return
        kept = tuple(self.registry.add(component) for component in components)
        self.infos.append(PluginInfo(source.name, source.distribution, source.version, "ok", None, kept, source.sha256))

    def _components(self, source: _Source) -> list[Component]:
        taken = next((info for info in self.infos if info.name == source.name and info.status == "ok"), None)
        if taken is not None:
            raise ValueError(f"{taken.distribution} has a plugin of the same name: uninstall or rename one of the two")
        plugin = source.load()
        try:
            self.manager.register(plugin, source.name)
        except pluggy.PluginValidationError as error:
            raise LookupError(": ".join(str(error).splitlines())) from error
        try:
            self._check_hooks(plugin)
            return list(self._collect(source, plugin))
        except BaseException:
            self.manager.unregister(plugin)
            raise

    def _check_hooks(self, plugin: object) -> None:
        known = [name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "wsopt_spec")]
        callers = self.manager.get_hookcallers(plugin) or []
        for caller in callers:
            if not caller.has_spec():
                near = did_you_mean(caller.name, known, limit=1) or f"known: {', '.join(known)}"
                raise LookupError(f"there is no hook {caller.name!r}; {near.rstrip()}")
            if any(hook.plugin is plugin and (hook.wrapper or hook.hookwrapper) for hook in caller.get_hookimpls()):
                raise LookupError(
                    f"its hook {caller.name} is a wrapper, which wsopt does not call: use plain @hookimpl"
                )
        self.manager.check_pending()
        unmarked = [name for name in known if callable(getattr(plugin, name, None))]
        missed = [name for name in unmarked if name not in {caller.name for caller in callers}]
        if missed:
            raise LookupError(f"its function {missed[0]} is not marked with @hookimpl")

    def _collect(self, source: _Source, plugin: object) -> Iterator[Component]:
        staged = Registry()
        for hook_name, kind in HOOKS.items():
            for hook in getattr(self.manager.hook, hook_name).get_hookimpls():
                if hook.plugin is plugin:
                    found: list[Component] = []
                    hook.function(*(_register(source, kind, found) for _ in hook.argnames))
                    yield from (staged.add(component) for component in found)

    def _skip(self, source: _Source, error: BaseException) -> None:
        broken = BrokenPlugin(source.name, source.distribution, source.version, describe(error))
        if os.environ.get("WSOPT_STRICT_PLUGINS") == "1":
            raise PluginError(f"{broken}. Unset WSOPT_STRICT_PLUGINS to go on without it.") from error
        self.registry.broken.append(broken)
        self.infos.append(
            PluginInfo(source.name, source.distribution, source.version, "broken", broken.error, (), source.sha256)
        )
        where = plugin_source(source.name, source.distribution, source.version)
        self.warn(f"warning: {where} is not used: {broken.error}")


def _register(source: _Source, kind: Kind, found: list[Component]) -> hookspecs.Register:
    def register(
        name: str,
        target: str,
        *,
        params: type[BaseModel] | None = None,
        recipe: type[BaseModel] | None = None,
    ) -> None:
        found.append(Component(kind, name, target, params, recipe, source.name, source.distribution, source.version))

    return register


def _print_warning(text: str) -> None:
    print(text, file=sys.stderr)


def _builtin() -> ModuleType:
    from wsopt import _builtin

    return _builtin


def _entry_points() -> list[EntryPoint]:
    def order(point: EntryPoint) -> tuple[bool, str, str]:
        distribution, _ = _distribution(point)
        return distribution != "wsopt", point.name, distribution

    return sorted(entry_points(group=hookspecs.PROJECT), key=order)


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist is not None else ("unknown distribution", "")


def _file_sources(files: Iterable[str | Path]) -> Iterator[_Source]:
    for path in dict.fromkeys(Path(file) for file in files):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(
                f"the plugin file {path} cannot be read ({error.strerror}). Give the path of a Python file."
            ) from error
        digest = hashlib.sha256(content).hexdigest()
        yield _Source(path.stem, str(path), "", partial(_load_file, path, digest), digest)


def _load_file(path: Path, digest: str) -> ModuleType:
    # In sys.modules, so that the targets it registers can be imported by name; the digest keeps versions apart.
    address = f"{path.resolve()}\n{digest}"
    name = f"wsopt_file_{hashlib.sha256(address.encode()).hexdigest()[:12]}"
    return import_file(path, name)
