"""Checkpoints of `flax.serialization.to_bytes`: msgpack with arrays as extensions, in torch's layout of axes.

The layout is that of openai/consistency_models_cifar10: a training state with ``step``, ``ema_rate``, ``params``,
``target_params`` and ``params_ema``; other states and bare parameter trees are read likewise. Names are joined with
dots, then the last part and the axes change:

=================  =====================  ============  ==============
leaf               axes in the file       torch name    torch axes
=================  =====================  ============  ==============
``kernel``, 4-d    H, W, in, out          ``weight``    out, in, H, W
``kernel``, 2-d    in, out                ``weight``    out, in
``weight``, 4-d    H, W, in, out          ``weight``    out, in, H, W
``W``, 2-d         in, out                ``weight``    out, in
``scale``, 1-d     channels               ``weight``    unchanged
``b``, 1-d         out                    ``bias``      unchanged
=================  =====================  ============  ==============

Everything else keeps its name and its axes (a vector ``W`` of Fourier frequencies does). dtypes are kept.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from torch import Tensor

from wsopt.checkpoints._base import CheckpointReader, Snapshot, Stream, StreamKind, TensorSpec
from wsopt.checkpoints._flax_arrays import Array, array_of, is_array, read_array, scalar_of
from wsopt.checkpoints._msgpack import Bytes, Span, StructureError, Value, begins_with_names, parse
from wsopt.checkpoints._names import identify
from wsopt.errors import CheckpointError

_PARTS: Final[Mapping[str, StreamKind]] = {"params": "raw", "target_params": "target", "params_ema": "ema"}
_NAMES: Final[Mapping[tuple[str, int], str]] = {
    ("kernel", 4): "weight", ("kernel", 2): "weight", ("W", 2): "weight", ("scale", 1): "weight", ("b", 1): "bias",
}  # fmt: skip
_AXES: Final[Mapping[tuple[str, int], tuple[int, ...]]] = {
    ("kernel", 4): (3, 2, 0, 1), ("weight", 4): (3, 2, 0, 1), ("kernel", 2): (1, 0), ("W", 2): (1, 0),
}  # fmt: skip
_HEAD_BYTES = 4096
_MAX_STEP = 10**15


@dataclass(frozen=True)
class _Leaf:
    """An array with what turns it into torch's layout; `axes` is empty where they stay."""

    array: Array
    axes: tuple[int, ...]

    @property
    def spec(self) -> TensorSpec:
        shape = self.array.shape
        return TensorSpec(tuple(shape[axis] for axis in self.axes) if self.axes else shape, self.array.dtype)


class FlaxReader(CheckpointReader):
    """msgpack files of Flax. Neither Flax nor msgpack is needed.

    A state's ``params``, ``target_params`` and ``params_ema`` are a raw, a target and an EMA snapshot; `part` is the
    key. Its step counts, not the file's number. A bare tree of parameters is one raw snapshot.
    """

    name = "flax"

    def recognises(self, path: Path) -> bool:
        """See `CheckpointReader.recognises`: a msgpack map whose first keys are plain names."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return begins_with_names(file.read(_HEAD_BYTES))

    def scan(self, path: Path) -> list[Snapshot]:
        """See `CheckpointReader.scan`."""
        with _opened(path) as (_, data):
            state = _state(data)
            numbers = {key: number for key, value in state.items() if (number := scalar_of(data, value)) is not None}
            step = _step(path, state, numbers.pop("step", None))
            trees = {part: _leaves(data, tree) for part, tree in _trees(state).items()}
        snapshots = []
        for part, leaves in trees.items():
            kind = _PARTS.get(part, "raw")
            rate = numbers.get("ema_rate") if kind == "ema" else None
            stream = Stream(kind, float(rate) if rate is not None and 0 < rate < 1 else None)
            tensors = {name: leaf.spec for name, leaf in leaves.items()}
            snapshots.append(Snapshot(path, part, stream, step, tensors, self, numbers))
        return snapshots

    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        """See `CheckpointReader.load`."""
        with _opened(snapshot.path) as (file, data):
            trees = _trees(_state(data))
            if snapshot.part not in trees:
                raise StructureError(f"it has no {snapshot.part} any more")
            return {name: _tensor(file, leaf) for name, leaf in _leaves(data, trees[snapshot.part]).items()}


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, mmap.mmap]]:
    """The file and a map of its bytes; what is wrong with it becomes a CheckpointError."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield file, data
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except CheckpointError:
        raise
    except ValueError as error:  # StructureError, or an empty file, which cannot be mapped
        raise CheckpointError(
            f"{path} is torn or damaged: {error}. Restore that file, or save that checkpoint again."
        ) from error


def _state(data: Bytes) -> dict[str, Value]:
    state = parse(data)
    if not isinstance(state, dict):
        raise StructureError("it is no map of names")
    return state


def _step(path: Path, state: Mapping[str, Value], number: int | float | None) -> int | None:
    if "step" not in state:
        return identify(path)[1]
    if number is None or number != int(number) or not 0 <= number < _MAX_STEP:
        raise StructureError("its step is no number of 1 to 15 digits")
    return int(number)


def _trees(state: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """The trees of parameters by part: of a training state, or the whole map where it is such a tree."""
    found: dict[str, dict[str, Value]] = {}
    for part in _PARTS.keys() & state.keys():
        tree = state[part]
        if not isinstance(tree, dict):
            raise StructureError(f"its {part} are no map of names")
        found[part] = tree
    if not found and not {"step", "opt_state"} & state.keys() and _is_tree(dict(state)):
        found[""] = dict(state)
    return {part: found[part] for part in (*_PARTS, "") if found.get(part)}


def _is_tree(value: Value) -> bool:
    """True where all leaves are arrays."""
    return is_array(value) or (isinstance(value, dict) and bool(value) and all(map(_is_tree, value.values())))


def _leaves(data: Bytes, tree: Mapping[str, Value]) -> dict[str, _Leaf]:
    found: dict[str, _Leaf] = {}
    for path, value in _walk(tree, ()):
        shown = ".".join(path)
        if not is_array(value):
            raise StructureError(f"{shown} is no array, but {_kind(value)}")
        try:
            array = array_of(data, value)
        except StructureError as error:
            raise StructureError(f"tensor {shown}: {error}") from error
        key = path[-1], len(array.shape)
        name = ".".join((*path[:-1], _NAMES.get(key, path[-1])))
        if name in found:
            raise StructureError(f"tensor {shown} and another are both called {name} in torch's layout")
        found[name] = _Leaf(array, _AXES.get(key, ()))
    return found


def _walk(tree: Mapping[str, Value], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Value]]:
    for key, value in tree.items():
        if isinstance(value, dict) and not is_array(value):
            yield from _walk(value, (*path, key))
        elif value is not None:
            yield (*path, key), value


def _tensor(file: BinaryIO, leaf: _Leaf) -> Tensor:
    tensor = read_array(file, leaf.array)
    return tensor.permute(leaf.axes).contiguous() if leaf.axes else tensor


def _kind(value: Value) -> str:
    kinds = {list: "a list", Span: "bytes", str: "text"}
    return kinds.get(type(value), "a number")
