"""Resolved configs of finished runs, flattened to dotted keys so that they can be compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import PydanticUndefined

from wsopt.config.sections import PLAIN

Settings = Mapping[str, Any]
"""Dotted key -> JSON value."""

COMPONENTS = ("data", "family", "parameterization", "optimizer", "objective")
"""Sections with a ``name`` that decides which other keys they have."""


def settings(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The dotted keys of a resolved.json.

    Keys of plain sections that the run's wsopt did not know yet get their default, which is what that wsopt did.
    ``[train]`` is left out where the run was given checkpoints, plugin files are left out (see `plugin_files`).
    """
    found: dict[str, Any] = {}
    for section, model in PLAIN.items():
        for key, field in model.model_fields.items():
            if field.default is not PydanticUndefined:
                found[f"{section}.{key}"] = json_value(field.default)
    for key, value in resolved.items():
        if key in ("plugins", "train"):
            continue
        if isinstance(value, Mapping):
            found |= {f"{key}.{inner}": json_value(one) for inner, one in value.items()}
        else:
            found[key] = json_value(value)
    if has_recipe(resolved):
        found |= {f"train.{inner}": json_value(one) for inner, one in resolved["train"].items()}
    return found


def has_recipe(resolved: Mapping[str, Any]) -> bool:
    """True where the checkpoints come from the config's own ``[train]``."""
    given = (resolved.get("checkpoints") or {}).get("path") is not None
    return isinstance(resolved.get("train"), Mapping) and not given


def plugin_files(resolved: Mapping[str, Any]) -> dict[str, str]:
    """File name -> digest of its content, of the single-file plugins of a run."""
    return {str(one["path"]).rpartition("/")[2]: str(one["sha256"]) for one in resolved.get("plugins") or ()}


def json_value(value: object) -> object:
    """`value` as it comes back from a JSON file."""
    if isinstance(value, Mapping):
        return {str(key): json_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def text_of(value: object) -> str:
    """One text per value, the same for equal values: numbers that are equal have equal texts (1 and 1.0)."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def varying(all_settings: Sequence[Settings], left_out: Iterable[str] = ()) -> list[str]:
    """The dotted keys that do not have one value, in the order in which they appear.

    Keys of a component are compared among the runs that have the same component: that a CMA-ES has other parameters
    than a random search is said by its name already.

    Args:
        all_settings: of the runs.
        left_out: keys that are not looked at.
    """
    skip = frozenset(left_out)
    keys = dict.fromkeys(key for one in all_settings for key in one if key not in skip)
    return [key for key in keys if any(len(values) > 1 for values in _alternatives(key, all_settings).values())]


def varies_for(key: str, one: Settings, all_settings: Sequence[Settings]) -> bool:
    """True where `key` tells the run `one` from others that have the same component."""
    values = _alternatives(key, all_settings)
    return len(values.get(_component(key, one), ())) > 1


def _alternatives(key: str, all_settings: Sequence[Settings]) -> dict[str, set[str]]:
    """Component name -> texts of the values that `key` has in the runs with that component."""
    found: dict[str, set[str]] = {}
    for one in all_settings:
        text = text_of(one[key]) if key in one else "absent"
        found.setdefault(_component(key, one), set()).add(text)
    return found


def _component(key: str, one: Settings) -> str:
    section, _, inner = key.partition(".")
    return str(one.get(f"{section}.name")) if section in COMPONENTS and inner != "name" else ""
