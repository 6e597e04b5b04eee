"""`wsopt schema`: the JSON Schema of the config file."""

from __future__ import annotations

import argparse
import json
from typing import Any

from wsopt.cli._shared import add_plugin_argument


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add the parser of `wsopt schema`."""
    parser = subparsers.add_parser(
        "schema",
        help="print the JSON Schema of the config file",
        description="Print the JSON Schema (draft 2020-12) of the config file, with the keys of every plugin.",
    )
    add_plugin_argument(parser)


def main(args: argparse.Namespace) -> int:
    """Print the schema."""
    from wsopt.config import json_schema
    from wsopt.plugin_manager import load_plugins

    print(json.dumps(json_schema(load_plugins(args.plugin).registry), indent=2))
    return 0
