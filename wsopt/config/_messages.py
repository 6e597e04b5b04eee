"""Validation of raw values by a pydantic model, with messages in plain words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from wsopt.config._locate import Key

_MUST_BE = {
    "string_type": "must be text in quotes",
    "path_type": "must be text in quotes",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "tuple_type": "must be a list in square brackets",
    "list_type": "must be a list in square brackets",
    "model_type": "must be a section of its own",
    "dict_type": "must be a section of its own",
    "none_required": "must be left out",
}
_BOUNDS = {
    "greater_than": ("gt", "must be greater than"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be less than"),
    "less_than_equal": ("le", "must be at most"),
}


@dataclass(frozen=True)
class Mistake:
    """What a model has against the value at `key` (relative to the section); `unknown` keys are not allowed at all."""

    key: Key
    text: str
    unknown: bool = False


def validate(model: type[BaseModel], raw: Mapping[str, Any]) -> tuple[BaseModel | None, list[Mistake]]:
    """An instance of `model` from the raw values of a section, or what is wrong with them.

    Values are taken as strictly as JSON's (no text for a number, no true for 1), but a float without fraction stands
    for a whole number, so that ``1e3`` is one. A TOML date or time is one only where the model wants one.
    """
    values = deepcopy(dict(raw))
    unknown = [] if _takes_anything(model) else [key for key in values if key not in _keys(model)]
    for key in unknown:
        del values[key]
    mistakes = [Mistake((key,), "unknown key", unknown=True) for key in unknown]
    while True:
        try:
            found = model.model_validate_json(json.dumps(values, default=_as_nothing), strict=True)
        except ValidationError as error:
            details = error.errors(include_url=False)
            # Each round turns at least one float into a whole number or one date into text, so this ends.
            if not any([_make_whole(values, detail) or _make_text(values, detail) for detail in details]):
                return None, mistakes + list(_translate(values, details))
        else:
            return (None if mistakes else found), mistakes


def show(value: object) -> str:
    """A raw value as it stands in TOML, shortened to about 60 characters."""
    if isinstance(value, str):
        text = repr(value)
    elif isinstance(value, date | time):
        text = value.isoformat()
    else:
        text = json.dumps(value, default=_as_text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def model_keys(model: type[BaseModel] | None) -> list[str]:
    """The keys that a section of this model takes."""
    return sorted(_keys(model)) if model is not None else []


def _keys(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def _takes_anything(model: type[BaseModel]) -> bool:
    return model.model_config.get("extra") == "allow"


def _make_whole(values: dict[str, Any], detail: ErrorDetails) -> bool:
    value = _at(values, detail["loc"])
    if detail["type"] not in ("int_type", "int_from_float") or not isinstance(value, float) or not value.is_integer():
        return False
    *path, last = _existing(values, detail["loc"])
    _at(values, tuple(path))[last] = int(value)
    return True


def _make_text(values: dict[str, Any], detail: ErrorDetails) -> bool:
    """Put the text of a date in the place of one, where the model wants a date; JSON has none."""
    value = _at(values, detail["loc"])
    if not detail["type"].startswith(("date", "time")) or not isinstance(value, date | time):
        return False
    *path, last = _existing(values, detail["loc"])
    _at(values, tuple(path))[last] = value.isoformat()
    return True


def _translate(values: Mapping[str, Any], details: list[ErrorDetails]) -> Iterator[Mistake]:
    texts: dict[Key, list[str]] = {}
    unknown: set[Key] = set()
    for detail in details:
        loc = tuple(detail["loc"])
        if detail["type"] == "too_short" and any(other["loc"][: len(loc)] == loc != other["loc"] for other in details):
            continue  # pydantic does not count entries that are wrong themselves
        if detail["type"] == "missing" and isinstance(loc[-1], int):
            texts.setdefault(loc[:-1], []).append(f"has too few entries: {show(_at(values, loc[:-1]))}")
            continue
        key = loc if detail["type"] == "missing" else _existing(values, loc)
        texts.setdefault(key, []).append(_text(values, key, detail))
        if detail["type"] == "extra_forbidden":
            unknown.add(key)
    for key, found in texts.items():
        yield Mistake(key, _either(list(dict.fromkeys(found))), unknown=key in unknown)


def _text(values: Mapping[str, Any], key: Key, detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    not_this = f", not {show(_at(values, key))}" if key else ""
    if kind == "missing":
        return "missing"
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "value_error":
        return str(context["error"])
    if kind in _MUST_BE:
        return _MUST_BE[kind] + not_this
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        limit = context[bound]
        whole = isinstance(limit, float) and limit.is_integer()
        return f"{words} {int(limit) if whole else limit}{not_this}"
    if kind == "literal_error":
        return f"must be {context['expected']}{not_this}"
    if kind == "too_short":
        return f"must have {_count('at least', context['min_length'], 'entry', 'entries')}{not_this}"
    if kind == "too_long":
        return f"must have {_count('at most', context['max_length'], 'entry', 'entries')}{not_this}"
    if kind == "string_too_short":
        return f"must have {_count('at least', context['min_length'], 'character', 'characters')}{not_this}"
    return detail["msg"].replace("Input should be", "must be") + not_this


def _either(texts: list[str]) -> str:
    """What the branches of a union want, in one sentence: "must be A or B, not X"."""
    if len(texts) == 1:
        return texts[0]
    heads, marks, ends = zip(*(text.rpartition(", not ") for text in texts), strict=True)
    if not all(marks) or len(set(ends)) > 1:
        return " or ".join(texts)
    first, *others = heads
    return f"{' or '.join([first, *(head.removeprefix('must be ') for head in others)])}, not {ends[0]}"


def _count(bound: str, number: int, one: str, many: str) -> str:
    return f"{bound} {number} {one if number == 1 else many}"


def _existing(values: Mapping[str, Any], loc: Key) -> Key:
    """The part of a pydantic location that is a path into the values: unions add the names of their branches."""
    here: Any = values
    for depth, part in enumerate(loc):
        inside = (isinstance(here, Mapping) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        )
        if not inside:
            return loc[:depth]
        here = here[part]
    return loc


def _at(values: Any, loc: Key) -> Any:  # noqa: ANN401 - any TOML value
    for part in _existing(values, loc):
        values = values[part]
    return values


def _as_nothing(value: object) -> list[None]:
    """What no field of a config takes."""
    return [None]


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, date | time | datetime) else str(value)
