"""Wrapper prefixes: what DataParallel, torch.compile and preconditioning wrappers put before every name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, TypeVar

T = TypeVar("T")

WRAPPERS: Final = ("module.", "_orig_mod.", "model.", "state_dict.")


def shared_prefix(names: Collection[str]) -> str:
    """The wrapper prefixes, outermost first and concatenated, that every one of `names` begins with."""
    prefix = ""
    while names:
        rest = [name[len(prefix) :] for name in names]
        wrapper = next((one for one in WRAPPERS if all(name.startswith(one) and name != one for name in rest)), None)
        if wrapper is None:
            return prefix
        prefix += wrapper
    return prefix


def unwrapped(named: Mapping[str, T]) -> dict[str, T]:
    """The same values by their names without `shared_prefix`."""
    cut = len(shared_prefix(named.keys()))
    return {name[cut:]: value for name, value in named.items()}


def fitting_prefix(names: Iterable[str], wanted: Collection[str]) -> str:
    """The wrapper prefix that turns unwrapped `names` into `wanted`; empty where none does."""
    prefix = shared_prefix(wanted)
    return prefix if {prefix + name for name in names} == set(wanted) else ""
