"""Parsing of the command line, and what errors look like: one message, an exit code, no traceback."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, Protocol

import wsopt
from wsopt.cli import _compare, _inspect, _merge, _plugins, _reference, _report, _run, _schema, _validate
from wsopt.errors import ConfigError, ExitCode, Interrupted, PluginError, WsoptError

_BROKEN_PIPE: Final = 128 + 13  # what a shell reports for a program that SIGPIPE ended


class Command(Protocol):
    """A subcommand: one of this folder's modules, or an instance of a plugin's class."""

    def add_parser(self, subparsers: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
        """Add one parser."""

    def main(self, args: argparse.Namespace) -> int:
        """Do it, and return the exit code."""


_COMMANDS: Final[dict[str, Command]] = {
    "run": _run,
    "report": _report,
    "compare": _compare,
    "inspect": _inspect,
    "merge": _merge,
    "reference": _reference,
    "validate": _validate,
    "plugins": _plugins,
    "schema": _schema,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `wsopt` command.

    Args:
        argv: arguments after the program's name; None takes the process's own.

    Returns:
        An `ExitCode`, or the code of a plugin's command.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe that is not UTF-8 gets ? for what it cannot show.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse: usage errors, --help, --version
        return stop.code if isinstance(stop.code, int) else int(ExitCode.USAGE if stop.code else ExitCode.OK)
    except WsoptError as error:
        _complain(str(error) if isinstance(error, ConfigError | Interrupted) else f"error: {error}")
        return int(error.exit_code)
    except KeyboardInterrupt:
        _complain("interrupted")
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Python flushes stdout once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        _complain(f"error: {error}")
        return int(ExitCode.FAILED)


def _dispatch(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="wsopt",
        description="Search the linear combination of saved checkpoints that scores best on an objective.",
        epilog="Exit codes: 0 done, 1 the run failed, 2 the input is wrong, 3 a package or plugin is missing, "
        "4 a resume was refused, 130 stopped and resumable.",
    )
    parser.add_argument("--version", action="version", version=f"wsopt {wsopt.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands = dict(_COMMANDS)
    for command in commands.values():
        command.add_parser(subparsers)
    wanted = next((word for word in argv if not word.startswith("-")), None)
    if wanted not in commands and "--version" not in argv:
        commands |= _from_plugins(subparsers, wanted)
    args = parser.parse_args(argv)
    return commands[args.command].main(args)


def _from_plugins(subparsers: Any, wanted: str | None) -> dict[str, Command]:  # noqa: ANN401
    """Add the plugins' commands: the `wanted` one in full, the others by name only, for the help."""
    from wsopt.plugin_manager import load_plugins

    found: dict[str, Command] = {}
    for component in load_plugins().registry.all("command"):
        if component.address in _COMMANDS:
            continue
        if component.address != wanted:
            subparsers.add_parser(component.address, help=f"(from plugin {component.plugin!r})")
            continue
        command: Command = component.load()()
        command.add_parser(subparsers)
        if wanted not in subparsers.choices:
            raise PluginError(
                f"the command {wanted!r} of {component.source} added no parser of that name. Ask the plugin's author."
            )
        found[wanted] = command
    return found


def _complain(text: str) -> None:
    print(text, file=sys.stderr)
