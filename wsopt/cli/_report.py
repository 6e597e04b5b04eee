"""`wsopt report`: the results of a finished run, from its folder alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from wsopt.errors import ExitCode


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    """Add the subcommand."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "report",
        help="show the results of a finished run",
        description="Print the table of a finished run folder; with --figures, draw its figures again. Needs no torch.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--full", action="store_true", help="every EMA rate, not only the best of each kind")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--figures", action="store_true", help="write figures/ again")
    parser.add_argument("--json", action="store_true", help="print results.json")


def main(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    from wsopt.report import write_figures

    show(args.run, as_json=args.json, full=args.full, markdown=args.markdown)
    if args.figures:
        write_figures(args.run)
    return ExitCode.OK


def show(folder: Path, *, as_json: bool, full: bool, markdown: bool = False) -> None:
    """Print a finished run to stdout."""
    from rich.console import Console

    from wsopt.report import RunRecord, results_markdown, results_table

    record = RunRecord.load(folder)
    if as_json:
        print(json.dumps(record.results, indent=2))
    elif markdown:
        print(results_markdown(record, full=full))
    else:
        console = Console()
        # A pipe has no width; the table must not be folded to 80 columns there.
        console = console if console.is_terminal else Console(width=160)
        console.print(results_table(record, full=full))
        print(f"files   {folder}: merged.safetensors, README.md, results.json, figures/")
