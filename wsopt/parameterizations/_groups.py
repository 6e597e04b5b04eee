"""Groupings: which layers share their coefficients."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from wsopt.errors import InputError
from wsopt.parameterizations._depth import block_of

REST = "rest"
"""Group of the tensors that no pattern matches."""


class Groups(ABC):
    """Gives every tensor a layer group."""

    shared: bool = False
    """Whether all layers share one vector of coefficients."""

    @abstractmethod
    def assign(self, tensors: Mapping[str, tuple[int, ...]]) -> Mapping[str, str] | None:
        """Group by tensor name, for every tensor; None where all share their coefficients.

        Raises:
            InputError: where tensors and patterns do not fit each other.
        """


class SharedGroups(Groups):
    """One group of all layers."""

    shared = True

    def assign(self, tensors: Mapping[str, tuple[int, ...]]) -> Mapping[str, str] | None:
        """See `Groups.assign`."""
        return None


class NamedGroups(Groups):
    """Groups by a function of the tensor's name: its block, or the tensor itself."""

    def __init__(self, group_of: Callable[[str], str]) -> None:
        self._group_of = group_of

    def assign(self, tensors: Mapping[str, tuple[int, ...]]) -> Mapping[str, str] | None:
        """See `Groups.assign`."""
        return {name: self._group_of(name) for name in tensors}


def by_depth() -> Groups:
    """A group for every block of the network (`block_of`)."""
    return NamedGroups(block_of)


def by_tensor() -> Groups:
    """A group for every tensor."""
    return NamedGroups(str)


class PatternGroups(Groups):
    """Groups by regular expressions; the first that is found anywhere in a tensor's name decides.

    Args:
        patterns: pairs of group name and regular expression; two may name the same group.
        strict: whether a tensor that none matches is an error; otherwise it goes to the group ``rest``.
        idle: whether a pattern that no tensor is left for is fine; otherwise it is an error.
        name: where the patterns are written, as messages say it.
        remedy: what puts the tensors that none matches into a group.
    """

    def __init__(
        self,
        patterns: Sequence[tuple[str, str]],
        strict: bool,
        *,
        idle: bool = False,
        name: str = "parameterization.patterns",
        remedy: str = "Add a pattern, or set unmatched = 'group' to put them into a group of their own.",
    ) -> None:
        self._patterns = [(group, re.compile(pattern)) for group, pattern in patterns]
        self._strict, self._idle = strict, idle
        self._name, self._remedy = name, remedy

    def assign(self, tensors: Mapping[str, tuple[int, ...]]) -> Mapping[str, str] | None:
        """See `Groups.assign`."""
        found: dict[str, str] = {}
        used: set[int] = set()
        unmatched: list[str] = []
        for name in tensors:
            at = next((i for i, (_, pattern) in enumerate(self._patterns) if pattern.search(name)), None)
            if at is None:
                unmatched.append(name)
                found[name] = REST
            else:
                used.add(at)
                found[name] = self._patterns[at][0]
        if unmatched and self._strict:
            raise InputError(f"{self._name}: none matches {_some(unmatched)}. {self._remedy}")
        idle = [pattern.pattern for at, (_, pattern) in enumerate(self._patterns) if at not in used]
        if idle and tensors and not self._idle:
            raise InputError(
                f"{self._name}: no tensor is left for the pattern {idle[0]!r}: it matches none, or the "
                f"patterns above it take them all. The checkpoints have {_some(list(tensors))}. Mend or remove it."
            )
        return found


def _some(names: Sequence[str]) -> str:
    """``3 tensors: a, b, c`` with four names at most."""
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return f"{len(names)} tensor{'s' * (len(names) != 1)}: {shown}"
