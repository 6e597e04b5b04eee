"""`wsopt run`: the whole job, or its plan."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsopt.errors import ExitCode, InputError, Interrupted, ResumeError

if TYPE_CHECKING:
    from wsopt.config import Config, LeftOut
    from wsopt.plugin_manager import LoadedPlugins


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    """Add the subcommand."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "run",
        help="train what is missing, search, report",
        description="Run a config to its end, or go on with it where it stopped: the same command resumes, a larger "
        "--budget continues a finished run. Results go to stdout, everything else to stderr.",
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="config in TOML")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override one key, such as optimizer.mutation_scale=0.1 (repeatable)",
    )
    parser.add_argument("--budget", metavar="N", help="total number of evaluations; short for --set budget=N")
    parser.add_argument("--plugin", action="append", default=[], type=Path, metavar="FILE", help="a single-file plugin")
    parser.add_argument("--dry-run", action="store_true", help="print the plan (files, memory, time) and stop")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="continue this run folder; FILE may be left out")
    parser.add_argument("--json", action="store_true", help="print results (or the plan) as JSON")


def main(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    left_out: list[LeftOut] = []
    loaded, config, source = _load(args, left_out.append)
    settings = [_setting(text, left_out) for text in _echo(args)]
    if args.dry_run:
        print(*settings, sep="\n", end="\n" * bool(settings), file=sys.stderr)
        return _dry_run(args, config, loaded)

    from wsopt.cli._progress import RichProgress
    from wsopt.cli._signals import StopSignals
    from wsopt.run import Request, execute

    request = Request(config, source, loaded.registry, loaded.events, _command(args), args.resume)
    with StopSignals() as signals, RichProgress(should_stop=signals.should_stop) as progress:
        for text in settings:
            progress.line(text)
        try:
            folder = execute(request, progress)
        except (Interrupted, KeyboardInterrupt) as error:
            print(f"{str(error) or 'stopped at once'}\ncontinue with:  {_command(args)}", file=sys.stderr)
            return ExitCode.INTERRUPTED
    _show(folder.path, args.json)
    return ExitCode.OK


def _load(args: argparse.Namespace, left_out: Callable[[LeftOut], object]) -> tuple[LoadedPlugins, Config, str]:
    from wsopt.config import load_config
    from wsopt.plugin_manager import load_plugins
    from wsopt.registry import Registry

    loaded: list[LoadedPlugins] = []

    def registry(files: Sequence[Path]) -> Registry:
        loaded.append(load_plugins(files))
        return loaded[-1].registry

    file = args.file
    if file is None:
        if args.resume is None:
            raise InputError("give a config: wsopt run FILE, or a run to continue: wsopt run --resume RUN.")
        if not args.resume.is_dir():
            raise ResumeError(f"{args.resume} is not a folder. Give the folder of a run, runs/NAME-HASH.")
        file = args.resume / "resolved.json"
        if not file.exists():
            raise ResumeError(f"{args.resume} is no run folder: it has no resolved.json. Give runs/NAME-HASH.")
    overrides = _overrides(args)
    if args.resume is not None:
        # What the run trained lies beside it, wherever the command is given now.
        overrides.append(("output", json.dumps(str(args.resume.resolve().parent))))
    config, source = load_config(file, overrides, registry, args.plugin, left_out)
    return loaded[-1], config, source


def _overrides(args: argparse.Namespace) -> list[tuple[str, str]]:
    pairs = []
    for text in _echo(args):
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {text}: expected KEY=VALUE, such as --set optimizer.mutation_scale=0.1.")
        pairs.append((key.strip(), value.strip()))
    return pairs


def _echo(args: argparse.Namespace) -> list[str]:
    return [*args.overrides, *([f"budget={args.budget}"] if args.budget is not None else [])]


def _setting(text: str, left_out: Sequence[LeftOut]) -> str:
    """An override, with what it leaves out of the file."""
    about = [f" ({one})" for one in left_out if one.override == text.partition("=")[0].strip()]
    return f"set     {text}{''.join(about)}"


def _command(args: argparse.Namespace) -> str:
    """The command that continues this run."""
    parts = ["wsopt", "run", *([str(args.file)] if args.file is not None else [])]
    for text in args.overrides:
        parts += ["--set", text]
    for plugin in args.plugin:
        parts += ["--plugin", str(plugin)]
    if args.budget is not None:
        parts += ["--budget", args.budget]
    if args.resume is not None:
        parts += ["--resume", str(args.resume)]
    return shlex.join(parts)


def _dry_run(args: argparse.Namespace, config: Config, loaded: LoadedPlugins) -> int:
    from wsopt.cli._plan import print_plan
    from wsopt.run import make_plan

    plan = make_plan(config, loaded.registry)
    if args.json:
        print(json.dumps(plan.as_json(), indent=2))
    else:
        print_plan(plan, config)
    return ExitCode.OK


def _show(folder: Path, as_json: bool) -> None:
    from wsopt.cli._report import show

    show(folder, as_json=as_json, full=False)
