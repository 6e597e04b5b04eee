"""`wsopt compare`: run what a file compares and show the comparison, or compare finished runs."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsopt.cli._shared import add_plugin_argument, add_set_argument, positive, print_subjects
from wsopt.errors import ExitCode, InputError, Interrupted

if TYPE_CHECKING:
    from wsopt.compare import Cell, Cells, Comparison, Failure


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    """Add the subcommand."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "compare",
        help="compare optimizers, or any settings, on the same checkpoints",
        description="Run every method of a comparison file on every instance (finished runs are kept, interrupted ones "
        "go on) and compare them; or compare the folders of finished runs, which needs no torch.",
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="FILE|RUN", help="one comparison in TOML, or folders of finished runs"
    )
    add_set_argument(parser, "override one key of every run's config, such as budget=100 (repeatable; with FILE)")
    add_plugin_argument(parser)
    parser.add_argument("--jobs", type=positive, metavar="N", help="runs at a time (with FILE)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of the comparison's own files")
    parser.add_argument("--reference", metavar="METHOD", help="method that the others are compared with (with RUNs)")
    parser.add_argument("--dry-run", action="store_true", help="print the runs and their commands and stop (with FILE)")
    parser.add_argument("--force", action="store_true", help="compare runs that differ in what they should share")
    parser.add_argument("--json", action="store_true", help="print the comparison (or the runs of --dry-run) as JSON")


def main(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    if all(path.is_dir() for path in args.paths):
        return _compare_runs(args)
    if len(args.paths) == 1:
        return _compare_file(args)
    wrong = next(path for path in args.paths if not path.is_dir())
    raise InputError(f"{wrong} is not a folder. Give one comparison in TOML, or the folders of finished runs.")


# ---- a file


def _compare_file(args: argparse.Namespace) -> int:
    from wsopt.cli._compare_view import CompareView
    from wsopt.cli._signals import StopSignals
    from wsopt.compare import check_before, load_cells, read_file, run_cells

    if args.reference is not None:
        raise InputError(f"--reference is for run folders; in {args.paths[0]} it is the key reference.")
    written = read_file(args.paths[0])
    cells = load_cells(written, args.overrides, args.plugin)
    if args.jobs is not None:
        cells = replace(cells, jobs=args.jobs)
    folder = cells.folder if args.output is None else args.output
    _check_output(folder)
    check_before(cells, _forced(args, cells.forced))
    if args.dry_run:
        return _dry_run(cells, folder, args.json)
    with StopSignals() as signals, CompareView(signals.should_stop) as view:
        try:
            failures = run_cells(cells, folder, args.paths[0], _command(args), view)
        except (Interrupted, KeyboardInterrupt) as error:
            print(f"{str(error) or 'stopped at once'}\ncontinue with:  {_command(args)}", file=sys.stderr)
            return ExitCode.INTERRUPTED
    _conclude(args, cells, folder)
    for failure in failures:
        _complain(failure, folder)
    return ExitCode.FAILED if failures else ExitCode.OK


def _conclude(args: argparse.Namespace, cells: Cells, folder: Path) -> None:
    """Compare what is finished, as long as every method has something to compare."""
    from wsopt.compare import analyse, finished_cells, read_runs

    finished = finished_cells(cells)
    for method in cells.methods:
        lacking = [cell.instance for cell in cells.cells if cell.method == method and cell not in finished]
        if len(lacking) == len(cells.instances):
            print(f"no comparison is written: {method} has no finished run.", file=sys.stderr)
            return
        if lacking:
            print(f"missing: {method} on {', '.join(lacking)}; the comparison is of the other runs.", file=sys.stderr)
    comparison = analyse(
        read_runs({cell.folder: (cell.method, cell.instance) for cell in finished}),
        name=cells.name,
        reference=cells.reference,
        comparisons=cells.comparisons,
        forced=_forced(args, cells.forced),
        tuning=cells.tuning,
    )
    _show(args, comparison, folder)


def _complain(failure: Failure, folder: Path) -> None:
    cell = failure.cell
    print(
        f"error: {cell.method} ({cell.instance}) failed with exit code {failure.code}: {failure.message}\n"
        f"  its output is in {folder / 'logs'}; alone it runs with:  {cell.command}",
        file=sys.stderr,
    )


def _command(args: argparse.Namespace) -> str:
    """The command that goes on with this comparison."""
    parts = ["wsopt", "compare", str(args.paths[0])]
    for key, value in args.overrides:
        parts += ["--set", f"{key}={value}"]
    for plugin in args.plugin:
        parts += ["--plugin", str(plugin)]
    if args.jobs is not None:
        parts += ["--jobs", str(args.jobs)]
    if args.output is not None:
        parts += ["--output", str(args.output)]
    return shlex.join(parts + ["--force"] * args.force + ["--json"] * args.json)


# ---- the plan


def _dry_run(cells: Cells, folder: Path, as_json: bool) -> int:
    states = {cell: _state(cell) for cell in cells.cells}
    if as_json:
        print(json.dumps(_plan(cells, folder, states), indent=2))
        return ExitCode.OK
    budgets = sum(cell.config.budget for cell in cells.cells)
    left = sum(max(0, cell.config.budget - count) for cell, (_, count) in states.items())
    trainings = {cell.training for cell in cells.cells} - {None}
    lines = [
        ("comparison", f"{cells.name}, into {folder}"),
        ("methods", f"{len(cells.methods)}: {'; '.join(cells.methods)}"),
        ("instances", f"{len(cells.instances)}: {'; '.join(cells.instances)}"),
        ("reference", cells.reference or "none"),
        ("runs", f"{len(cells.cells)}, {cells.jobs} at a time"),
        ("evaluations", f"{budgets:,} in all, {left:,} of them still to do; and the reports"),
        ("trainings", f"{len(trainings)}"),
    ]
    print_subjects(lines, 14)
    for cell, (state, _) in states.items():
        print(f"\n{cell.method} ({cell.instance}): {state}, {cell.folder}\n  {cell.command}")
    return ExitCode.OK


def _state(cell: Cell) -> tuple[str, int]:
    """Whether a cell is new, begun or finished, and how many of its evaluations are done."""
    from wsopt.compare import Watched, is_finished

    if is_finished(cell.folder, cell.config.budget):
        return "finished", cell.config.budget
    watched = Watched(cell.folder)
    watched.look()
    if not watched.begun:
        return "new", 0
    more = watched.evaluations > cell.config.budget
    excess = f", more than its budget of {cell.config.budget}, which is refused" if more else ""
    return f"{watched.evaluations} evaluations done{excess}", watched.evaluations


def _plan(cells: Cells, folder: Path, states: Mapping[Cell, tuple[str, int]]) -> dict[str, object]:
    return {
        "name": cells.name,
        "folder": str(folder),
        "jobs": cells.jobs,
        "methods": list(cells.methods),
        "instances": list(cells.instances),
        "reference": cells.reference,
        "runs": [
            {
                "method": cell.method,
                "instance": cell.instance,
                "run": str(cell.folder),
                "budget": cell.config.budget,
                "evaluations": done,
                "finished": state == "finished",
                "command": cell.command,
            }
            for cell, (state, done) in states.items()
        ],
    }


# ---- finished runs


def _compare_runs(args: argparse.Namespace) -> int:
    from wsopt.compare import analyse, read_runs

    given = {"--set": args.overrides, "--plugin": args.plugin, "--jobs": args.jobs, "--dry-run": args.dry_run}
    for option, value in given.items():
        if value:
            raise InputError(f"{option} is for a comparison FILE; finished runs are only read.")
    _check_unlike(args.paths)
    if args.output is not None:
        _check_output(args.output)
    comparison = analyse(
        read_runs(args.paths),
        name="comparison" if args.output is None else args.output.resolve().name or "comparison",
        reference=args.reference,
        comparisons=None,
        forced=_forced(args, ()),
    )
    _show(args, comparison, args.output)
    return ExitCode.OK


def _check_unlike(paths: Sequence[Path]) -> None:
    real = [path.resolve() for path in paths]
    for path, one in zip(paths, real, strict=True):
        if real.count(one) > 1:
            raise InputError(f"{path} is given twice. Give each run once.")


def _check_output(folder: Path) -> None:
    """Nothing may be in the way of a comparison's files, and they may not replace those of a run."""
    place = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not place.is_dir():
        raise InputError(f"{place} is not a folder. Give another one for the comparison with --output.")
    if (folder / "journal.jsonl").exists():
        raise InputError(
            f"{folder} is the folder of a run, whose figures would be overwritten. Give another one for the comparison "
            f"with --output."
        )


def _show(args: argparse.Namespace, comparison: Comparison, folder: Path | None) -> None:
    """Write the comparison's files where there is a folder for them, and print it."""
    from rich.console import Console

    from wsopt.compare import comparison_json, terminal_view, write_comparison

    files = [] if folder is None else write_comparison(comparison, folder)
    if args.json:
        print(json.dumps(comparison_json(comparison), indent=2))
        return
    console = Console()
    # A pipe has no width; the tables must not be folded to 80 columns there.
    console = console if console.is_terminal else Console(width=160)
    console.print(terminal_view(comparison))
    if files:
        inside = ", ".join(str(path.relative_to(folder)) for path in files if folder and path.is_relative_to(folder))
        print(f"files   {folder}: {inside}")


def _forced(args: argparse.Namespace, kinds: Sequence[str]) -> Sequence[str]:
    return ("all",) if args.force else kinds
