"""`wsopt merge`: combine checkpoints by given coefficients, without a search."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from wsopt.cli._shared import add_plugin_argument, load_file, print_subjects
from wsopt.errors import CheckpointError, ExitCode, InputError, Interrupted

if TYPE_CHECKING:
    from wsopt.checkpoints import CheckpointSet
    from wsopt.config import Config
    from wsopt.merge import Merged, MergeRequest, Recipe, Source
    from wsopt.registry import Registry

_SELECTION: Final = ("window", "interval", "steps", "include", "exclude", "kind", "rate", "width", "part", "unreadable")
_EPILOG: Final = """\
profiles:
  last              the last checkpoint
  single:STEP       the checkpoint of that step
  uniform           the plain average
  ema:RATE          exponential moving average, rate per training step, as in ema:0.9999
  ema-from-first:RATE
                    the same begun at the first checkpoint, which keeps the remaining weight
  power:WIDTH       power-function EMA of that relative width, as in power:0.1

examples:
  wsopt merge checkpoints --profile ema:0.999 --out ema.safetensors
  wsopt merge checkpoints --profile uniform --window 8000 10000 --out mean.safetensors --verify
  wsopt merge checkpoints --profile power:0.1 --from-emas --out posthoc.safetensors
  wsopt merge --coefficients runs/NAME-HASH --out best.safetensors
"""


def add_parser(subparsers: Any) -> None:  # noqa: ANN401 - argparse does not export the type
    """Add the subcommand."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "merge",
        help="combine checkpoints by given coefficients, without a search",
        description="Combine checkpoints linearly by a profile or given coefficients and write one\nsafetensors file. "
        "One checkpoint is in memory at a time, and the sums. The file\nis there whole or not at all.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        nargs="?",
        type=Path,
        metavar="SOURCE",
        help="folder of checkpoints, or a config in TOML; may be left out where --coefficients is a run",
    )
    recipe = parser.add_mutually_exclusive_group(required=True)
    recipe.add_argument("--profile", metavar="SPEC", help="coefficients by a rule, see below")
    recipe.add_argument(
        "--coefficients", type=Path, metavar="FILE", help="coefficients from JSON, CSV, results.json or a run's folder"
    )
    parser.add_argument(
        "--which",
        metavar="NAME",
        help="of a run's coefficients: best, validated, recommended, ema*, best-ema or best-single; not given: "
        "those of its merged.safetensors",
    )
    parser.add_argument(
        "--from-emas",
        action="store_true",
        help="with ema:RATE or power:WIDTH: make that EMA of all EMA snapshots in the folder, whatever their rates",
    )
    _add_output(parser)
    _add_selection(parser)
    add_plugin_argument(parser)


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--out", type=Path, metavar="FILE", help="the safetensors file to write")
    group.add_argument("--force", action="store_true", help="replace the file where it is there")
    group.add_argument(
        "--dtype",
        choices=("float16", "bfloat16", "float32", "keep"),
        default="keep",
        help="of floating tensors; default: each tensor's own",
    )
    group.add_argument(
        "--keep-prefix", action="store_true", help="keep wrapper prefixes of names (module., _orig_mod., model.)"
    )
    group.add_argument("--verify", action="store_true", help="compare the file with a second computation")
    group.add_argument(
        "--full-digests", action="store_true", help="put a digest of every source file's whole content in the metadata"
    )
    group.add_argument("--rank", type=int, metavar="R", help="LoRA: rank to cut the merged adapter down to")
    group.add_argument(
        "--style", choices=("peft", "kohya", "diffusers"), help="LoRA: names of the tensors; default: diffusers"
    )
    group.add_argument("--dry-run", action="store_true", help="print what would be done and stop; reads headers only")
    group.add_argument("--print-coefficients", action="store_true", help="print steps and coefficients")
    group.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which checkpoints")
    group.add_argument("--window", nargs=2, type=int, metavar=("A", "B"), help="first and last step")
    group.add_argument("--interval", type=int, metavar="N", help="least number of steps between two")
    group.add_argument("--steps", nargs="+", type=int, metavar="STEP", help="exactly these")
    group.add_argument("--include", action="append", metavar="GLOB", help="file names to take (repeatable)")
    group.add_argument("--exclude", action="append", metavar="GLOB", help="file names to leave out (repeatable)")
    group.add_argument("--kind", choices=("raw", "ema", "target", "lora"), help="stream, where there are several")
    group.add_argument("--rate", type=float, metavar="R", help="rate of the EMA stream")
    group.add_argument("--width", type=float, metavar="W", help="relative width of the power-function EMA stream")
    group.add_argument("--part", metavar="NAME", help="component, where files hold several")
    group.add_argument("--unreadable", choices=("error", "skip"), help="torn and foreign files; default: error")
    group.add_argument(
        "--copy-from", choices=("first", "last"), help="checkpoint that differing integer tensors are copied from"
    )
    group.add_argument(
        "--batchnorm",
        choices=("combine", "copy"),
        help="running statistics of BatchNorm: combined, or copied from the last checkpoint",
    )


def main(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    _check(args)
    found = _open(args)
    from wsopt.cli._progress import RichProgress
    from wsopt.merge import merge, plan_merge

    request = _request(args, found)
    if args.dry_run:
        merged = plan_merge(request, args.out)
    else:
        try:
            with _stopped_by_sigterm(), RichProgress() as progress:
                merged = merge(request, args.out, progress)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted: {args.out} was not written") from None
    _show(merged, args)
    return ExitCode.OK


@dataclass(frozen=True)
class _Opened:
    """The source, and the config that it comes from where there is one."""

    source: Source
    registry: Registry
    config: Config | None


def _check(args: argparse.Namespace) -> None:
    if args.out is None and not args.dry_run:
        raise InputError("give the file to write: --out merged.safetensors (or --dry-run).")
    if args.source is None and args.profile is not None:
        raise InputError("give the folder of the checkpoints, or a config: wsopt merge SOURCE --profile SPEC.")
    if args.from_emas and args.profile is None:
        raise InputError("--from-emas makes a profile: give --profile ema:RATE or power:WIDTH with it.")
    if args.which is not None and args.coefficients is None:
        raise InputError("--which chooses among a run's coefficients: give --coefficients RUN with it.")
    if args.rank is not None and args.rank < 1:
        raise InputError(f"--rank {args.rank}: give a rank of at least 1.")


def _open(args: argparse.Namespace) -> _Opened:
    from wsopt.merge import open_config, open_folder, run_config
    from wsopt.plugin_manager import load_plugins

    chosen = _chosen(args)
    file = args.source
    if file is None:
        file = run_config(args.coefficients)
        if file is None:
            raise InputError(
                f"--coefficients {args.coefficients} is not a finished run, so SOURCE cannot be left out: "
                f"wsopt merge SOURCE --coefficients FILE."
            )
    elif file.is_dir() and run_config(file) is not None:
        file = run_config(file)
    if file.is_dir() or file.suffix not in (".toml", ".json"):
        registry = load_plugins(args.plugin).registry
        with _own_words():
            return _Opened(open_folder(file, registry, chosen), registry, None)
    config, registry = _load(file, args.plugin)
    return _Opened(open_config(config, registry, chosen), registry, config)


def _load(file: Path, plugins: Sequence[Path]) -> tuple[Config, Registry]:
    # What a run trained lies beside it, wherever the command is given.
    beside = [("output", json.dumps(str(file.resolve().parent.parent)))] if file.suffix == ".json" else []
    loaded = load_file(file, beside, plugins)
    return loaded.config, loaded.plugins.registry


def _chosen(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of the selection that the command line gives, checked as a config's."""
    from pydantic import ValidationError

    from wsopt.config.sections import CheckpointsSection

    given = {key: getattr(args, key) for key in _SELECTION if getattr(args, key) is not None}
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    try:
        CheckpointsSection(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"--{first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}.") from error
    return given


@contextmanager
def _own_words() -> Iterator[None]:
    """Say after a message about checkpoints that names config keys how this command says it."""
    try:
        yield
    except CheckpointError as error:
        if "checkpoints." not in str(error):
            raise
        raise CheckpointError(f"{error} (Here: checkpoints.KEY is --KEY, checkpoints.path is SOURCE.)") from error


def _request(args: argparse.Namespace, found: _Opened) -> MergeRequest:
    from wsopt.merge import MergeRequest, MergeSettings

    config = found.config
    copy_from = args.copy_from or (config.weightspace.copy_from if config else None)
    batchnorm = args.batchnorm or (config.weightspace.batchnorm if config else "combine")
    if batchnorm == "recalculate":
        raise InputError(
            'the config has weightspace.batchnorm = "recalculate", which takes a network and data. Give --batchnorm '
            "combine or copy."
        )
    with _own_words():
        checkpoints, recipe = _recipe(args, found)
    return MergeRequest(
        checkpoints=checkpoints,
        recipe=recipe,
        settings=MergeSettings(args.dtype, copy_from, batchnorm),
        folder=found.source.folder,
        keep_prefix=args.keep_prefix,
        verify=args.verify,
        force=args.force,
        full_digests=args.full_digests,
        rank=args.rank,
        style=args.style,
    )


def _recipe(args: argparse.Namespace, found: _Opened) -> tuple[CheckpointSet, Recipe]:
    from wsopt.merge import parse_profile, posthoc_recipe, profile_recipe

    if args.profile is None:
        checkpoints = found.source.checkpoints()
        return checkpoints, _from_file(args, found, checkpoints)
    profile = parse_profile(args.profile)
    if args.from_emas:
        return posthoc_recipe(profile, found.source)
    checkpoints = found.source.checkpoints()
    return checkpoints, profile_recipe(profile, checkpoints.steps)


def _from_file(args: argparse.Namespace, found: _Opened, checkpoints: CheckpointSet) -> Recipe:
    from wsopt.merge import read_table, results_file, run_config, run_grouping, table_recipe

    file = results_file(args.coefficients)
    table = read_table(file, args.which)
    if len(table.groups) == 1 or table.patterns:
        return table_recipe(table, checkpoints)
    config, registry = found.config, found.registry
    beside = run_config(file)
    if beside is not None:
        config, registry = _load(beside, args.plugin)
    grouping = None if config is None else run_grouping(config, registry)
    return table_recipe(table, checkpoints, grouping)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the merge like Ctrl-C does, so that nothing is left half-written."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        former = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread, where Python allows no handlers
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _show(merged: Merged, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(merged.as_json(), indent=2))
        return
    from wsopt.cli._merge_table import coefficient_lines, summary_lines

    print_subjects(summary_lines(merged, args.dry_run), 14)
    if args.print_coefficients:
        print()
        print("\n".join(coefficient_lines(merged.recipe)))
