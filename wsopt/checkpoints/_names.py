"""What a file's name tells: the stream and the training step, in the conventions of public training scripts.

Steps are compared as numbers: a width of six digits grows to seven from step 1,000,000
(openai/consistency_models, cm/train_util.py).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from wsopt.checkpoints._base import Stream
from wsopt.errors import CheckpointError

_STEP_DIGITS = 15
_RATE = r"0?\.[0-9]+(?:[eE][+-]?[0-9]+)?"
_EXTENSION = re.compile(r"\.(?!(?:step|steps|iter|epoch)[-_=]?[0-9])[A-Za-z][A-Za-z0-9]*$")
# What else has digits: precisions, shards, versions, sizes in pixels.
_NOISE = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:b?f|fp)(?:16|32|64)|b?float(?:16|32|64)|int8|v[0-9]+(?:[.-][0-9]+)*|[0-9]+-of-[0-9]+"
    r"|[0-9]+x[0-9]+)(?![A-Za-z0-9])"
)
_UNITS: Final = {"": 1, "k": 1_000, "m": 1_000_000}
_NAMED_STEP = re.compile(
    r"(?:^|[^A-Za-z])(?:global_?)?(?:steps?|iter(?:ation)?s?)[-_= ]?([0-9]+)([kKmM]?)(?![A-Za-z0-9])"
)
_TRAILING_NUMBER = re.compile(r"([0-9]+)([kKmM](?![A-Za-z]))?(?!.*[0-9])", re.DOTALL)
_EMA_WORD = re.compile(r"(?:^|[^A-Za-z])ema(?![A-Za-z])", re.IGNORECASE)
_EMA_RATE = re.compile(rf"(?:^|[^A-Za-z])ema(?:[-_]?(?:rate|decay))?[-_=]?({_RATE})(?![0-9])", re.IGNORECASE)
_TARGET = re.compile(r"target_model[-_]?([0-9]+)")  # openai
_POWER_EMA = re.compile(r"network-snapshot-([0-9]+)-(0\.[0-9]+)")  # EDM2: thousands of images, relative width
_EDM = re.compile(r"network-snapshot-([0-9]+)")  # EDM: thousands of images; holds an EMA of unsaid half-life


def identify(path: Path) -> tuple[Stream, int | None]:
    """Stream and training step as the name of `path` tells them; a raw stream and None where it tells neither.

    The step is the number after the word step or iter, otherwise the last number of the name without its extension;
    precisions (``fp16``), versions (``v2``), shards (``00001-of-00003``) and sizes (``64x64``) are no steps, and
    ``500k`` is 500,000. An EMA is told by the word ``ema``, its rate by a number below 1 behind that word.

    Raises:
        CheckpointError: where the step has more than 15 digits.
    """
    stem = _stem(path.name)
    if match := _TARGET.fullmatch(stem):
        return Stream("target"), _step(path, match.group(1))
    if match := _POWER_EMA.fullmatch(stem):
        return Stream("ema", width=float(match.group(2))), _step(path, match.group(1))
    if match := _EDM.fullmatch(stem):
        return Stream("ema"), _step(path, match.group(1))
    stream = Stream()
    if _EMA_WORD.search(stem):
        rate = _EMA_RATE.search(stem)
        value = float(rate.group(1)) if rate else 0.0
        stream = Stream("ema", value if 0 < value < 1 else None)
        if rate:
            stem = f"{stem[: rate.start(1)]}~{stem[rate.end(1) :]}"
    stem = _NOISE.sub("~", stem)
    found = _NAMED_STEP.search(stem) or _TRAILING_NUMBER.search(stem)
    return stream, _step(path, *found.groups()) if found else None


def natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key that orders runs of digits as numbers: ``model900000`` before ``model1000000``."""
    pieces = re.findall(r"([0-9]+)|([^0-9]+)", text)
    return [(0, int(digits), digits) if digits else (1, 0, other) for digits, other in pieces]


def _stem(name: str) -> str:
    """`name` without its extensions; what begins with a digit is none (``ema-0.999``)."""
    while (shorter := _EXTENSION.sub("", name)) not in (name, ""):
        name = shorter
    return name


def _step(path: Path, digits: str, unit: str | None = None) -> int:
    if len(digits) > _STEP_DIGITS:
        raise CheckpointError(
            f"{path}: the last number in its name has {len(digits)} digits; a training step has at most "
            f"{_STEP_DIGITS}. Rename it like step-001000{path.suffix}."
        )
    return int(digits) * _UNITS[(unit or "").lower()]
