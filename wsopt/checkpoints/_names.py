"""What a file's name tells: the stream and the training step, in the conventions of public training scripts.

Steps are compared as numbers: a width of six digits grows to seven from step 1,000,000
(openai/consistency_models, cm/train_util.py).
"""

from __future__ import annotations

import re
from pathlib import Path

from wsopt.checkpoints._base import Stream
from wsopt.errors import CheckpointError

_STEP_DIGITS = 15
_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?"
_TRAILING_NUMBER = re.compile(r"([0-9]+)(?!.*[0-9])")
_EMA = re.compile(rf"ema[-_]({_NUMBER})(?:[-_]([0-9]+))?")  # openai: ema_0.9999_050000; wsopt: ema-0.999
_TARGET = re.compile(r"target_model[-_]?([0-9]+)")  # openai
_POWER_EMA = re.compile(r"network-snapshot-([0-9]+)-(0\.[0-9]+)")  # EDM2: thousands of images, relative width
_EDM = re.compile(r"network-snapshot-([0-9]+)")  # EDM: thousands of images; holds an EMA of unsaid half-life


def identify(path: Path) -> tuple[Stream, int | None]:
    """Stream and training step as the name of `path` tells them; a raw stream and None where it tells neither.

    Raises:
        CheckpointError: where the step has more than 15 digits.
    """
    stem = path.stem if path.suffix and not path.suffix[1:].isdigit() else path.name
    if match := _EMA.fullmatch(stem):
        rate = float(match.group(1))
        if 0 < rate < 1:
            return Stream("ema", rate), _step(path, match.group(2))
    if match := _TARGET.fullmatch(stem):
        return Stream("target"), _step(path, match.group(1))
    if match := _POWER_EMA.fullmatch(stem):
        return Stream("ema", width=float(match.group(2))), _step(path, match.group(1))
    if match := _EDM.fullmatch(stem):
        return Stream("ema"), _step(path, match.group(1))
    trailing = _TRAILING_NUMBER.search(stem)
    return Stream(), _step(path, trailing.group(1) if trailing else None)


def _step(path: Path, digits: str | None) -> int | None:
    if digits is None:
        return None
    if len(digits) > _STEP_DIGITS:
        raise CheckpointError(
            f"{path}: the last number in its name has {len(digits)} digits; a training step has at most "
            f"{_STEP_DIGITS}. Rename it like step-001000{path.suffix}."
        )
    return int(digits)
