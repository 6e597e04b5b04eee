"""`wsopt inspect`: what checkpoints there are, and what is wrong with them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wsopt.cli._shared import add_plugin_argument
from wsopt.errors import ExitCode

if TYPE_CHECKING:
    from wsopt.checkpoints import DeepFacts, Inspection

_UNFOLDED: Final = 10_000


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add the parser of `wsopt inspect`."""
    parser = subparsers.add_parser(
        "inspect",
        help="show what checkpoints are in files and folders",
        description="Show what is in checkpoint files and folders: streams (raw weights, EMAs, targets, LoRA), steps "
        "and gaps, tensors, dtypes, copies, torn and foreign files. Reads headers only, where the format has them. "
        "Exit code 2 where nothing could be read.",
    )
    parser.add_argument("paths", metavar="PATH", type=Path, nargs="+", help="checkpoint file or folder")
    parser.add_argument("--tensors", action="store_true", help="list every tensor; done for a single file anyway")
    parser.add_argument(
        "--deep",
        action="store_true",
        help="read all tensors: NaNs, tensors that never change, checkpoints that hardly differ",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_plugin_argument(parser)


def main(args: argparse.Namespace) -> int:
    """Print what there is; torn and foreign files are part of it and fail the command only where there is no other."""
    from wsopt.checkpoints import as_json, inspect
    from wsopt.plugin_manager import load_plugins

    readers = load_plugins(args.plugin).registry.make_all("reader")
    found = inspect(args.paths, readers)
    deep = _deep(found) if args.deep else None
    tensors = args.tensors or len({snapshot.path for snapshot in found.snapshots}) == 1
    if args.json:
        print(json.dumps(as_json(found, deep, tensors=tensors), indent=2, allow_nan=False))
    else:
        _show(found, deep, tensors=tensors)
    return int(ExitCode.OK if found.streams else ExitCode.USAGE)


def _deep(found: Inspection) -> list[DeepFacts]:
    from wsopt.checkpoints import look_deep
    from wsopt.cli._progress import RichProgress

    facts = []
    with RichProgress() as progress, progress.stage("reading", len(found.snapshots)) as stage:
        finished = 0

        def done(snapshot: object) -> None:
            nonlocal finished
            finished += 1
            stage.update(finished)

        for stream in found.streams:
            facts.append(look_deep(stream, done))
    return facts


def _show(found: Inspection, deep: Sequence[DeepFacts] | None, *, tensors: bool) -> None:
    from rich.console import Console

    from wsopt.cli._inspect_view import view

    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        console.print(view(found, deep, tensors=tensors, width=console.width))
        return
    # A pipe or file has no width: nothing is folded there, and nothing filled up with spaces.
    console = Console(width=_UNFOLDED, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(view(found, deep, tensors=tensors, width=_UNFOLDED))
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))
