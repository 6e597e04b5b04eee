"""`wsopt plugins`: what is installed, what it offers, and what is wrong with it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wsopt.cli._shared import add_plugin_argument
from wsopt.errors import ExitCode, WsoptError
from wsopt.registry import LABELS, Component

if TYPE_CHECKING:
    from wsopt.plugin_manager import PluginInfo

_HEADER = ("plugin", "version", "distribution", "status", "components")


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add the parser of `wsopt plugins`."""
    parser = subparsers.add_parser(
        "plugins",
        help="list the plugins and what they offer",
        description="List the plugins with version, distribution, status and components. Nothing heavy is imported "
        "without --check.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="import every component too; exit code 3 if any fails")
    add_plugin_argument(parser)


def main(args: argparse.Namespace) -> int:
    """Print the table or JSON."""
    from wsopt.plugin_manager import load_plugins

    plugins = load_plugins(args.plugin, warn=lambda text: None).plugins  # the table shows what is broken
    failures = _failures(plugins) if args.check else {}
    print(_as_json(plugins, failures) if args.json else _as_table(plugins))
    bad = [f"{plugin.name}: {plugin.error}" for plugin in plugins if plugin.status == "broken"]
    if args.check and not args.json:
        for text in (*bad, *failures.values()):
            print(f"failed: {text}")
        if not bad and not failures:
            print(f"checked: all {sum(len(plugin.components) for plugin in plugins)} components can be imported")
    return int(ExitCode.MISSING) if args.check and (bad or failures) else 0


def _failures(plugins: Sequence[PluginInfo]) -> dict[Component, str]:
    failures: dict[Component, str] = {}
    for component in (component for plugin in plugins for component in plugin.components):
        try:
            component.load()
        except WsoptError as error:
            failures[component] = str(error)
    return failures


def _as_json(plugins: Sequence[PluginInfo], failures: Mapping[Component, str]) -> str:
    return json.dumps([_plain(plugin, failures) for plugin in plugins], indent=2)


def _plain(plugin: PluginInfo, failures: Mapping[Component, str]) -> dict[str, Any]:
    components = [
        {
            "kind": component.kind,
            "name": component.name,
            "address": component.address,
            "target": component.target,
            "shadowed": component.shadowed,
            "failure": failures.get(component),
        }
        for component in plugin.components
    ]
    facts = {key: getattr(plugin, key) for key in ("name", "version", "distribution", "status", "error", "sha256")}
    return {**facts, "components": components}


def _as_table(plugins: Sequence[PluginInfo]) -> str:
    rows = [_HEADER, *(row for plugin in plugins for row in _rows(plugin))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _rows(plugin: PluginInfo) -> list[tuple[str, ...]]:
    """One row per kind of component, the plugin named in the first only."""
    kinds = dict.fromkeys(component.kind for component in plugin.components)
    cells = [
        f"{LABELS[kind]}: {', '.join(_shown(one) for one in plugin.components if one.kind == kind)}" for kind in kinds
    ] or [plugin.error or "none"]
    first = (plugin.name, plugin.version or "-", plugin.distribution, plugin.status)
    return [(*(first if number == 0 else ("", "", "", "")), cell) for number, cell in enumerate(cells)]


def _shown(component: Component) -> str:
    return f"{component.address} (shadowed)" if component.shadowed else component.name
