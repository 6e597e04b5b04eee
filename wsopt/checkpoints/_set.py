"""CheckpointSet: a window of one training run, compared by header, read lazily."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wsopt.checkpoints._base import CheckpointReader, Header, TensorSpec
from wsopt.errors import CheckpointError

_TRAILING_NUMBER = re.compile(r"([0-9]+)(?!.*[0-9])")
_STEP_DIGITS = 15


@dataclass(frozen=True)
class CheckpointSet:
    """K checkpoints of one training run, ascending by step; the first is the anchor.

    Args:
        paths: the K files.
        steps: their training steps, strictly ascending.
        tensors: what every one of them holds, by name.
    """

    paths: tuple[Path, ...]
    steps: tuple[int, ...]
    tensors: Mapping[str, TensorSpec]
    _readers: tuple[CheckpointReader, ...]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors of all checkpoints."""
        return len(self) * sum(spec.nbytes for spec in self.tensors.values())

    def load(self, index: int) -> dict[str, Tensor]:
        """The tensors of checkpoint `index`, on the CPU.

        Raises:
            CheckpointError: where a floating tensor holds a NaN or an infinity, naming file and tensor.
        """
        path = self.paths[index]
        tensors = self._readers[index].load(path)
        check_finite(path, tensors)
        return tensors

    def load_weights(self, path: Path) -> dict[str, Tensor]:
        """Another file of weights (a training-time EMA), held to the same names and shapes."""
        reader = _reader_for(path, self._readers)
        _compare(self.tensors, self.paths[0], reader.header(path), path)
        tensors = reader.load(path)
        check_finite(path, tensors)
        return tensors


def open_checkpoints(
    folder: Path,
    readers: Sequence[CheckpointReader],
    window: tuple[int, int] | None = None,
    interval: int | None = None,
) -> CheckpointSet:
    """Open the checkpoints in `folder`, reading headers only.

    Args:
        folder: a folder with one file per checkpoint; hidden files and folders are passed over.
        readers: the formats to try, in order.
        window: first and last step to take, both included; None takes all.
        interval: smallest distance in steps between two checkpoints taken, counted back from the last; None takes all.

    Raises:
        CheckpointError: nothing there, fewer than two checkpoints, a torn or foreign file, something that is neither a
            file nor a folder (a dangling link, a pipe), two files of one step, or a tensor whose name, shape or dtype
            differs between checkpoints.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a folder. Set checkpoints.path to the folder that holds the checkpoints."
        )
    files = _files(folder)
    if not files:
        raise CheckpointError(
            f"{folder} holds no checkpoint files. Set checkpoints.path to the folder that holds them."
        )
    found: dict[int, tuple[Path, CheckpointReader, Header]] = {}
    for path in files:
        reader = _reader_for(path, readers)
        header = reader.header(path)
        step = _step(path, header)
        if step in found:
            raise CheckpointError(
                f"{found[step][0]} and {path} are both of step {step}. Move one of them out of the folder."
            )
        found[step] = (path, reader, header)
    steps = _select(sorted(found), window, interval)
    if len(steps) < 2:
        raise CheckpointError(
            f"{folder} has {len(steps)} checkpoints in the window, a combination needs at least 2 "
            f"(steps found: {_span(sorted(found))}). Widen checkpoints.window or lower checkpoints.interval."
        )
    anchor_path, _, anchor = found[steps[0]]
    for step in steps[1:]:
        _compare(anchor.tensors, anchor_path, found[step][2], found[step][0])
    return CheckpointSet(
        paths=tuple(found[step][0] for step in steps),
        steps=tuple(steps),
        tensors=dict(anchor.tensors),
        _readers=tuple(found[step][1] for step in steps),
    )


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError where a floating tensor of `path` holds a NaN, an infinity, or what float32 cannot hold."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        # torch has no isfinite for 8-bit floats.
        values = tensor.float() if tensor.dtype.itemsize == 1 else tensor
        bad = int((~values.isfinite()).sum())
        found = "NaN or infinite"
        if not bad and values.dtype == torch.float64:
            bad = int((values.abs() > torch.finfo(torch.float32).max).sum())
            found = "beyond the range of float32, in which checkpoints are combined"
        if bad:
            raise CheckpointError(
                f"{path}: tensor {name} has {bad} of {tensor.numel()} values that are {found}. "
                f"Leave this checkpoint out (checkpoints.window) or save it again."
            )


def _files(folder: Path) -> list[Path]:
    """What `folder` has besides folders and hidden files; anything that is no file is an error, not passed over."""
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and not path.is_dir()]
    for path in files:
        if not path.is_file():
            what = "a symbolic link that leads nowhere" if path.is_symlink() else "neither a file nor a folder"
            raise CheckpointError(f"{path} is {what}. Mend it or move it out of the folder.")
    return files


def _reader_for(path: Path, readers: Sequence[CheckpointReader]) -> CheckpointReader:
    try:
        for reader in readers:
            if reader.recognises(path):
                return reader
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    formats = ", ".join(sorted({reader.name for reader in readers}))
    raise CheckpointError(
        f"{path} is no checkpoint of a known format ({formats}). Move it out of the folder, or install the plugin "
        f"that reads it."
    )


def _step(path: Path, header: Header) -> int:
    if header.step is not None:
        return header.step
    match = _TRAILING_NUMBER.search(path.stem)
    if match is None:
        raise CheckpointError(
            f"{path} names no training step, neither in its metadata (key step) nor as a number in its name. "
            f"Rename it like step-001000{path.suffix}."
        )
    if len(match.group(1)) > _STEP_DIGITS:
        raise CheckpointError(
            f"{path}: the last number in its name has {len(match.group(1))} digits; a training step has at most "
            f"{_STEP_DIGITS}. Rename it like step-001000{path.suffix}."
        )
    return int(match.group(1))


def _select(steps: list[int], window: tuple[int, int] | None, interval: int | None) -> list[int]:
    inside = [step for step in steps if window is None or window[0] <= step <= window[1]]
    if interval is None:
        return inside
    taken: list[int] = []
    for step in reversed(inside):
        if not taken or taken[-1] - step >= interval:
            taken.append(step)
    return taken[::-1]


def _compare(tensors: Mapping[str, TensorSpec], anchor: Path, other: Header, path: Path) -> None:
    missing = [f"it lacks tensor {name}" for name in tensors if name not in other.tensors]
    extra = [f"it has a tensor {name} that the other lacks" for name in other.tensors if name not in tensors]
    differing = [
        f"tensor {name} is {other.tensors[name]} and {spec} in the other"
        for name, spec in tensors.items()
        if name in other.tensors and other.tensors[name] != spec
    ]
    problems = missing + extra + differing
    if problems:
        more = f" (and {len(problems) - 3} more differences)" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{path} does not fit {anchor}: {'; '.join(problems[:3])}{more}. "
            f"All checkpoints must come from one training run; move the foreign one out of the folder."
        )


def _span(steps: Sequence[int]) -> str:
    return f"{steps[0]} to {steps[-1]}" if steps else "none"
