"""Arguments that several subcommands have, and loading of the config they name."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsopt.config import Config
    from wsopt.plugin_manager import LoadedPlugins
    from wsopt.registry import Registry


@dataclass(frozen=True)
class Loaded:
    """A config with the text it came from and the plugins that its names were looked up in."""

    config: Config
    text: str
    plugins: LoadedPlugins


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add FILE, ``--set`` and ``--plugin``."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the TOML config of a run")
    add_set_argument(parser, "override one key of the file, as in --set optimizer.iter=10; may be repeated")
    add_plugin_argument(parser)


def add_set_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--set KEY=VALUE``: pairs of texts in ``overrides``, in the order given; `what` is its help."""
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        type=_override,
        action="append",
        default=[],
        help=what,
    )


def positive(text: str) -> int:
    """The whole number, at least 1, that an argument is; argparse's error where it is none."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def add_plugin_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--plugin``."""
    parser.add_argument(
        "--plugin",
        dest="plugin",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="load a single-file plugin; may be repeated",
    )


def load(args: argparse.Namespace) -> Loaded:
    """Load the config that the arguments of `add_config_arguments` name. See `load_file`."""
    return load_file(args.file, args.overrides, args.plugin)


def load_file(file: Path, overrides: Sequence[tuple[str, str]], plugin_files: Sequence[Path]) -> Loaded:
    """Load a config and the plugins that it and the command line name.

    Raises:
        InputError, ConfigError, PluginError: see `wsopt.config.load_config`.
    """
    from wsopt.config import load_config
    from wsopt.plugin_manager import load_plugins

    kept: list[LoadedPlugins] = []

    def loader(files: Sequence[Path]) -> Registry:
        kept.append(load_plugins(files))
        return kept[0].registry

    config, text = load_config(file, overrides, loader, plugin_files)
    return Loaded(config, text, kept[0])


def print_subjects(lines: Sequence[tuple[str, str]], indent: int) -> None:
    """Print pairs of subject and text, one below the other; in a terminal, text is folded to its width.

    Args:
        lines: the pairs; an empty subject goes on with the one before.
        indent: column that all texts begin in.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for subject, text in lines:
        print(folded(subject, text, indent, width))


def folded(subject: str, text: str, indent: int, width: int | None) -> str:
    """One pair as lines of at most `width` characters; None, or a width that leaves no room, folds nothing."""
    whole = f"{subject:<{indent}}{text}"
    if width is None or width < indent + 20:
        return whole
    return "\n".join(
        textwrap.wrap(whole, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    )


def _override(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key.strip(), value
