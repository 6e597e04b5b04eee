"""The errors a user can meet, and the exit code each one ends the program with.

    WsoptError                1   the run failed
    ├── InputError            2   the user's files or arguments
    │   ├── ConfigError           the TOML file, all its problems at once
    │   ├── CheckpointError       a missing, torn, foreign or non-finite checkpoint
    │   └── UnknownNameError      a name that no plugin registered
    ├── PluginError           3   a plugin that could not be loaded
    ├── MissingDependencyError 3  a package of an extra that is not installed
    ├── ResumeError           4   a run folder that does not fit the command
    └── Interrupted         130   stopped on request, resumable

Every message is a full sentence that names the file, key or tensor, says what was found and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the `wsopt` command returns to the shell."""

    OK = 0
    FAILED = 1
    USAGE = 2
    MISSING = 3
    RESUME = 4
    INTERRUPTED = 130


class WsoptError(Exception):
    """Base of all errors that are reported as one message, without a traceback."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED


class InputError(WsoptError, ValueError):
    """Something the user gave is wrong: a file, a key, a value, a name."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Problem:
    """One problem of a config file.

    Args:
        where: ``file:line``, the file alone, or the command-line option that the problem comes from.
        key: dotted key, empty for a syntax error.
        text: what is wrong and how to mend it.
    """

    where: str
    key: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.text) if part)


class ConfigError(InputError):
    """All problems of a config file, one per line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CheckpointError(InputError):
    """A checkpoint that is missing, torn, foreign, of another shape, or not finite."""


class UnknownNameError(InputError, LookupError):
    """A name that no loaded plugin registered; the message lists the near and the known ones."""


class PluginError(WsoptError):
    """A plugin that failed to import or to register, where something it provides was asked for."""

    exit_code = ExitCode.MISSING


class MissingDependencyError(WsoptError, ImportError):
    """A package that an extra installs is not there; the message says ``pip install 'wsopt[...]'``."""

    exit_code = ExitCode.MISSING


class ResumeError(WsoptError):
    """A run folder that this command cannot continue; nothing in it was changed."""

    exit_code = ExitCode.RESUME


class Interrupted(WsoptError):
    """The run was stopped on request and can be continued by the same command."""

    exit_code = ExitCode.INTERRUPTED
