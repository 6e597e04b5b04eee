"""Passive stand-ins for what pickles of networks name: they keep what the file says and run none of it.

They stand for the dangerous names both in the restricted unpickler of plain pickles and, through
`torch.serialization.safe_globals`, in torch's own weights-only one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from pickle import UnpicklingError
from typing import Any, Final

from wsopt.checkpoints._pickle_sealed import Call

_PERSISTENT_CLASS = "torch_utils.persistence._reconstruct_persistent_obj"  # NVlabs: EDM, EDM2, StyleGAN
_MODULE = re.compile(r"torch\.nn\.modules\.[a-z_0-9]+\.[A-Z]\w*")
_SCALARS: dict[str, str] = {
    **{"f2": "e", "f4": "f", "f8": "d", "b1": "?"},
    **{f"i{size}": code for size, code in ((1, "b"), (2, "h"), (4, "i"), (8, "q"))},
    **{f"u{size}": code for size, code in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))},
}
"""numpy's name of a scalar type -> struct's."""


class Node:
    """An object of a class that is not imported: its class's name and its state.

    Args:
        arguments: whatever the pickle creates it with; not kept.
    """

    origin: str = ""

    def __init__(self, *arguments: object) -> None:
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:  # noqa: ANN401
        self.state = state


class Dtype:
    """A numpy dtype, by its name (``f4``) and byte order."""

    def __init__(self, name: object = "", *flags: object) -> None:
        self.name = name if isinstance(name, str) else ""
        self.little = True

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[4] is not None or state[1] not in ("<", "|", "="):
            raise UnpicklingError("a numpy dtype that is structured or big-endian")


class Array:
    """A numpy array as its pickle states it: shape, dtype, memory order and bytes."""

    def __init__(self, *arguments: object) -> None:
        self.shape: Any = ()
        self.dtype: Any = None
        self.fortran = False
        self.data: Any = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state


def node_class(name: str) -> type[Node]:
    """A class of nodes that remember `name`."""
    return type("Node", (Node,), {"origin": name})


def stand_in(name: str) -> object | None:
    """What stands for the global `name` (``module.name``); None where nothing does, and the pickle is to be refused."""
    if _MODULE.fullmatch(name) or name == "argparse.Namespace":
        return node_class(name)
    make = _STAND_INS.get(name)
    return make() if make is not None else None


def _object(meta: object, *rest: object) -> Node:
    """The object of a persistent class; its source code (``module_src``) is dropped, never run."""
    if rest or not isinstance(meta, Mapping):
        raise UnpicklingError("a persistent object of an unknown version")
    node = node_class(str(meta.get("class_name", "")))()
    node.state = meta.get("state", {})
    return node


def _scalar(dtype: object, data: object = b"") -> int | float | bool:
    if not isinstance(dtype, Dtype) or not isinstance(data, bytes) or dtype.name not in _SCALARS:
        raise UnpicklingError("a numpy scalar of an unknown type")
    value: int | float | bool = struct.unpack(f"<{_SCALARS[dtype.name]}", data)[0]
    return value


def _array_of_buffer(data: object, dtype: object, shape: object, order: object) -> Array:
    array = Array()
    array.shape, array.dtype, array.fortran, array.data = shape, dtype, order == "F", data
    return array


_STAND_INS: Final[dict[str, Callable[[], object]]] = {
    _PERSISTENT_CLASS: lambda: Call(_object),
    "dnnlib.util.EasyDict": lambda: dict,
    "numpy.dtype": lambda: Dtype,
    "numpy.ndarray": lambda: Array,
}
for _core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    _STAND_INS[f"{_core}.multiarray.scalar"] = lambda: Call(_scalar)
    _STAND_INS[f"{_core}.multiarray._reconstruct"] = lambda: Call(Array)
    _STAND_INS[f"{_core}.numeric._frombuffer"] = lambda: Call(_array_of_buffer)
