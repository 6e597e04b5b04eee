"""The state dict and the architecture's arguments of a network that was pickled whole, read off its passive nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Any, TypeVar

from wsopt.checkpoints._pickle_passive import Node

T = TypeVar("T")

_MAX_DEPTH = 100
_MAX_MODULES = 100_000
_MAX_VALUES = 10_000


def module_tensors(module: Node, leaf: type[T]) -> dict[str, T]:
    """What `torch.nn.Module.state_dict` would give: parameters and persistent buffers, in its order.

    Args:
        module: the network's node.
        leaf: the class of its tensors.

    Raises:
        UnpicklingError: modules that contain each other, or too many of them.
    """
    found: dict[str, T] = {}
    waiting: list[tuple[str, Node, int]] = [("", module, 0)]
    visited = 0
    while waiting:
        prefix, node, depth = waiting.pop()
        visited += 1
        if depth > _MAX_DEPTH or visited > _MAX_MODULES:
            raise UnpicklingError("its modules contain each other, or are too many")
        passing = _entries(node, "_non_persistent_buffers_set")
        for name, value in (*_items(node, "_parameters"), *_items(node, "_buffers")):
            if isinstance(value, leaf) and name not in passing:
                found[prefix + name] = value
        children = [(name, child) for name, child in _items(node, "_modules") if isinstance(child, Node)]
        waiting += [(f"{prefix}{name}.", child, depth + 1) for name, child in reversed(children)]
    return found


def _items(node: Node, key: str) -> list[tuple[str, Any]]:
    held = node.state.get(key) if isinstance(node.state, Mapping) else None
    return [(name, value) for name, value in held.items() if isinstance(name, str)] if isinstance(held, Mapping) else []


def _entries(node: Node, key: str) -> set[Any]:
    held = node.state.get(key) if isinstance(node.state, Mapping) else None
    return held if isinstance(held, set) else set()


def describe_module(module: Node) -> dict[str, Any]:
    """JSON values: the class's name, and the arguments it was made with where it is an NVlabs persistent class.

    Returns:
        ``class_name``, ``init_args`` and ``init_kwargs``.
    """
    state = module.state if isinstance(module.state, Mapping) else {}
    return {
        "class_name": module.origin,
        "init_args": json_value(state.get("_init_args", ())),
        "init_kwargs": json_value(state.get("_init_kwargs", {})),
    }


def describe_loss(loss: object) -> dict[str, Any]:
    """JSON values: the class's name and the numbers of a loss function (``P_mean``, ``P_std``, ``sigma_data``)."""
    if not isinstance(loss, Node) or not isinstance(loss.state, Mapping):
        return {}
    plain = {key: json_value(value) for key, value in loss.state.items() if isinstance(value, bool | int | float)}
    return {"class_name": loss.origin, **{key: value for key, value in plain.items() if not key.startswith("_")}}


def json_value(value: object) -> Any:  # noqa: ANN401
    """`value` as far as JSON has it; None for the rest (tensors, objects, numbers that are not finite).

    Raises:
        UnpicklingError: it holds itself, or more than 10,000 values.
    """
    return _json(value, [_MAX_VALUES])


def _json(value: object, left: list[int]) -> Any:  # noqa: ANN401
    left[0] -= 1
    if left[0] < 0:
        raise UnpicklingError("the arguments of its network are endless")
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_json(one, left) for one in value]
    if isinstance(value, Mapping):
        return {key: _json(one, left) for key, one in value.items() if isinstance(key, str)}
    return None
