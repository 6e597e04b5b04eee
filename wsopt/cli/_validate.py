"""`wsopt validate`: check a config without running it."""

from __future__ import annotations

import argparse
from typing import Any

from wsopt.cli._shared import add_config_arguments, load


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add the parser of `wsopt validate`."""
    parser = subparsers.add_parser(
        "validate",
        help="check a config file",
        description="Check keys, values and names of a config file, with all problems at once. Neither checkpoints nor "
        "data are opened.",
    )
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Print ``ok: FILE (...)``, or fail with the problems."""
    config = load(args).config
    facts = {
        "budget": config.budget,
        "family": config.family.name,
        "parameterization": config.parameterization.name,
        "optimizer": config.optimizer.name,
        "objective": config.objective.name,
        "hash": config.run_hash(),
    }
    print(f"ok: {args.file} ({', '.join(f'{key} {value}' for key, value in facts.items())})")
    return 0
