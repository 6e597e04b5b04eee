"""Short names of methods and instances, from what differs between the configs of finished runs."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wsopt.compare._settings import COMPONENTS, Settings, has_recipe, settings, text_of, varies_for, varying

INSTANCE_KEYS = ("seed", "train.seed", "checkpoints.path", "checkpoints.ema_path")
"""What tells instances apart; all else makes a method."""
_NO_METHOD = (
    *INSTANCE_KEYS, "name", "budget", "output", "threads", "device", "weightspace.width", "weightspace.memory",
    "weightspace.cache", "weightspace.devices", "search.batch_size", "search.timeout", "report.figure_pairs",
    "report.curve", "checkpoints.include", "checkpoints.exclude", "checkpoints.unreadable",
)  # fmt: skip
"""Keys that change where and how fast a run was made, but not what it finds."""
_WORDS = ("coordinates",)
"""Keys whose value says enough without them."""
_MANY = 3
"""Entries of a list that are spelt out."""


def method_names(resolved: Sequence[Mapping[str, Any]]) -> list[str]:
    """The method of each run: what differs between the runs' configs, names first, other keys as ``key value``.

    Left out is what makes an instance, and what cannot change a result (folders, threads, batch sizes). Runs that agree
    in all the rest have the same name; runs that do not have different ones.

    Args:
        resolved: resolved.json of each run.

    Returns:
        One name per run, such as ``one-plus-one, sqrt-whitened, step 0.03``. Where nothing differs, the optimizer's.
    """
    known = [settings(one) for one in resolved]
    keys = varying(known, _NO_METHOD)
    names = [f"{section}.name" for section in reversed(COMPONENTS)]
    keys = [key for key in names if key in keys] + [key for key in keys if key not in names]
    shown = [[key for key in keys if key in one and varies_for(key, one, known)] for one in known]
    short = [_phrase(one, used, keys, brief=True) for one, used in zip(known, shown, strict=True)]
    identities = [tuple((key, text_of(one[key])) for key in used) for one, used in zip(known, shown, strict=True)]
    if not _one_to_one(identities, short):
        short = [_phrase(one, used, keys, brief=False) for one, used in zip(known, shown, strict=True)]
    return short


def instance_names(resolved: Sequence[Mapping[str, Any]], fingerprints: Sequence[str]) -> list[str]:
    """The instance of each run: its checkpoints and the seed of its noise, by the keys that tell instances apart.

    The checkpoints are the same where their fingerprints are, or where they were trained with the same ``train.seed``
    (so that runs over other windows of one training are paired; `wsopt.compare.differences` says so).

    Args:
        resolved: resolved.json of each run.
        fingerprints: of the content of its checkpoints.

    Returns:
        One name per run, such as ``train.seed=4`` or ``train.seed=4, seed=1``.
    """
    trainings = _trainings(resolved, fingerprints)
    seeds = [int(one.get("seed", 0)) for one in resolved]
    checkpoints = _checkpoint_names(resolved, fingerprints, trainings)
    show_training, show_seed = len(set(trainings)) > 1, len(set(seeds)) > 1
    if not show_training and not show_seed:
        show_training = has_recipe(resolved[0])
        show_seed = not show_training
    names = []
    for checkpoint, seed in zip(checkpoints, seeds, strict=True):
        parts = [checkpoint] if show_training else []
        names.append(", ".join([*parts, *([f"seed={seed}"] if show_seed else [])]))
    return names


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """A key to sort names by, numbers in them by their value: ``seed=9`` before ``seed=10``."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part)


def _phrase(one: Settings, used: Sequence[str], keys: Sequence[str], *, brief: bool) -> str:
    words = [_word(key, one[key], keys, brief) for key in used]
    return ", ".join(words) or str(one.get("optimizer.name", "search"))


def _word(key: str, value: object, keys: Sequence[str], brief: bool) -> str:
    """A setting in a word or two: ``sqrt-whitened``, ``step 0.03``, ``keep-sum off``."""
    last = key.rpartition(".")[2]
    if last == "name":
        return str(value)
    twice = sum(other.rpartition(".")[2] == last for other in keys) > 1
    if last in _WORDS and not twice:
        return str(value)
    return f"{(key if twice else last).replace('_', '-')} {_value(value, brief)}"


def _value(value: object, brief: bool) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list):
        if not brief:
            return text_of(value)
        if len(value) > _MANY:
            return f"{_value(value[0], brief)}..{_value(value[-1], brief)} ({len(value)})"
        return "-".join(_value(one, brief) for one in value) or "none"
    return str(value) if isinstance(value, str | int) else text_of(value)


def _one_to_one(identities: Sequence[Hashable], names: Sequence[str]) -> bool:
    """True where equal names mean equal identities, and the other way round."""
    return len(set(identities)) == len(set(names)) == len(set(zip(identities, names, strict=True)))


def _trainings(resolved: Sequence[Mapping[str, Any]], fingerprints: Sequence[str]) -> list[int]:
    """A number per run, the same for runs whose checkpoints are the same."""
    numbers = list(range(len(resolved)))
    first: dict[Hashable, int] = {}
    for run, (one, fingerprint) in enumerate(zip(resolved, fingerprints, strict=True)):
        for mark in _marks(one, fingerprint):
            other = first.setdefault(mark, run)
            joined, kept = numbers[run], numbers[other]
            numbers = [kept if number == joined else number for number in numbers]
    return numbers


def _marks(resolved: Mapping[str, Any], fingerprint: str) -> Iterator[Hashable]:
    yield "fingerprint", fingerprint
    if has_recipe(resolved):
        yield "train.seed", resolved["train"].get("seed")


def _checkpoint_names(
    resolved: Sequence[Mapping[str, Any]], fingerprints: Sequence[str], trainings: Sequence[int]
) -> list[str]:
    """``train.seed=4`` where the training is a recipe's, else ``checkpoints=FOLDER``, with a digest where two agree."""
    names: dict[int, str] = {}
    for one, training in zip(resolved, trainings, strict=True):
        if has_recipe(one):
            names[training] = f"train.seed={one['train'].get('seed')}"
        else:
            folder = Path(str((one.get("checkpoints") or {}).get("path"))).name
            names.setdefault(training, f"checkpoints={folder}")
    digests = {training: print_[:8] for training, print_ in zip(trainings, fingerprints, strict=True)}
    alike = {name for name in names.values() if list(names.values()).count(name) > 1}
    return [f"{names[t]} ({digests[t]})" if names[t] in alike else names[t] for t in trainings]
