"""Profiles: coefficients by a rule, given as ``last``, ``uniform``, ``single:STEP``, ``ema:RATE`` and the like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from wsopt.config.sections import WIDTHS
from wsopt.errors import InputError
from wsopt.merge._recipe import Recipe
from wsopt.parameterizations import ema, ema_from_first, power_ema, single, uniform
from wsopt.types import FloatArray

Rule: TypeAlias = Literal["last", "single", "uniform", "ema", "ema-from-first", "power"]

_KNOWN: Final = "last, single:STEP, uniform, ema:RATE, ema-from-first:RATE, power:WIDTH"


@dataclass(frozen=True)
class Profile:
    """A rule that gives coefficients to steps.

    Args:
        rule: which.
        number: step, rate or width; 0 where the rule has none.
    """

    rule: Rule
    number: float = 0.0

    def __str__(self) -> str:
        return self.rule if self.rule in ("last", "uniform") else f"{self.rule}:{self.number:.10g}"


def parse_profile(text: str) -> Profile:
    """Read a profile as the command line gives it.

    Raises:
        InputError: where it is none, or its number is out of range.
    """
    rule, colon, rest = text.partition(":")
    if rule in ("last", "uniform") and not colon:
        return Profile(rule)  # type: ignore[arg-type]
    if rule == "single":
        if not (rest.isascii() and rest.isdigit() and len(rest) <= 15):
            raise InputError(f"--profile {text}: expected a training step, as in single:8000.")
        return Profile("single", int(rest))
    if rule not in ("ema", "ema-from-first", "power"):
        raise InputError(f"--profile {text}: there is no such profile. Known: {_KNOWN}.")
    try:
        number = float(rest)
    except ValueError:
        number = float("nan")
    if rule != "power" and not 0.0 < number < 1.0:
        raise InputError(f"--profile {text}: expected a rate per training step between 0 and 1, as in {rule}:0.9999.")
    if rule == "power" and not WIDTHS[0] <= number <= WIDTHS[1]:
        raise InputError(
            f"--profile {text}: expected a relative width from {WIDTHS[0]} to {WIDTHS[1]}, as in power:0.1."
        )
    return Profile(rule, number)  # type: ignore[arg-type]


def profile_recipe(profile: Profile, steps: Sequence[int]) -> Recipe:
    """The profile over checkpoints of one stream.

    Raises:
        InputError: where the step of ``single`` is not there, or a power-function EMA has no steps to go over.
    """
    values = _values(profile, tuple(steps))
    return Recipe(str(profile), tuple(steps), values[None])


def _values(profile: Profile, steps: tuple[int, ...]) -> FloatArray:
    count = len(steps)
    if profile.rule == "uniform":
        return uniform(count)
    if profile.rule == "last":
        return single(count, count - 1)
    if profile.rule == "single":
        if profile.number not in steps:
            near = min(steps, key=lambda step: abs(step - profile.number))
            raise InputError(
                f"--profile {profile}: no checkpoint of that step is among the {count} chosen (the nearest is {near})."
            )
        return single(count, steps.index(int(profile.number)))
    if profile.rule == "ema":
        return ema(steps, profile.number)
    if profile.rule == "ema-from-first":
        return ema_from_first(steps, profile.number)
    if steps[-1] < 1:
        raise InputError(f"--profile {profile}: the last step is {steps[-1]}, and a power-function EMA begins at 1.")
    return power_ema(steps, profile.number)
