"""Which keys a config file can have, and what a misspelt one may have meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel

from wsopt.config._auto import AUTO
from wsopt.config._locate import Key
from wsopt.config._messages import model_keys
from wsopt.config.sections import PLAIN, MetricSection, ObjectiveSection, PartSection, TopSection
from wsopt.registry import Component, Kind, did_you_mean

COMPONENTS: Final[dict[str, tuple[Kind, str | None]]] = {
    "data": ("dataset", "digits"),
    "family": ("family", None),
    "parameterization": ("parameterization", "difference"),
    "optimizer": ("optimizer", AUTO),
    "objective": ("objective", "fid"),
}
"""Section -> kind of its component, and the component taken where the section names none."""

SECTIONS: Final = (*COMPONENTS, "train", "features", *PLAIN)


def own_keys(section: str) -> list[str]:
    """The keys that a section (empty: the top of the file) has besides those of its model."""
    if section == "":
        return list(SECTIONS)
    if section == "objective":
        return ["name", *ObjectiveSection.model_fields]
    if section.startswith("report.metrics."):
        return ["name", *MetricSection.model_fields]
    if section.startswith("objective.parts."):
        return ["name", *PartSection.model_fields]
    return ["name"] if section in COMPONENTS else []


class Vocabulary:
    """All keys of a config file whose components are `found` (None for one that is unknown)."""

    def __init__(self, found: Mapping[str, Component | None]) -> None:
        family = found.get("family")
        models: dict[str, type[BaseModel] | None] = {"": TopSection, **PLAIN}
        models["train"] = family.recipe if family is not None else None
        for section, component in found.items():
            models[section] = component.params if component is not None else None
        self._keys: dict[str, list[str]] = {"objective.parts": ["name", *PartSection.model_fields]}
        for section, model in models.items():
            self._keys[section] = sorted({*own_keys(section), *model_keys(model)})
            for name in model_keys(model) if section else []:
                inner = inner_model(model, (name,))
                if inner is not None:
                    self._keys[f"{section}.{name}"] = model_keys(inner)

    def suggest(self, key: str, at: Key, model: type[BaseModel]) -> str:
        """The end of a message about the unknown `key` of the table `at`, which `model` describes."""
        section = ".".join(str(part) for part in at)
        here = sorted({*own_keys(section), *model_keys(model)})
        elsewhere = [
            (f"{other}.{name}" if other else name, name)
            for other, names in self._keys.items()
            for name in names
            if other != section and name != "name"
        ]
        same = [dotted for dotted, name in elsewhere if name == key]
        if same:
            return f"did you mean {' or '.join(repr(dotted) for dotted in same[:3])}?"
        # Of a metric's or an extractor's table, what merely sounds alike elsewhere is none of its business.
        others = [dotted for dotted, _ in elsewhere] if section in self._keys else []
        near = did_you_mean(key, here) or did_you_mean(key, others)
        if near:
            return near.rstrip()
        return f"known here: {', '.join(here)}" if here else "the section takes no keys"


def inner_model(model: type[BaseModel] | None, key: Key) -> type[BaseModel] | None:
    """The model of the table at `key` inside the one that `model` describes; None where it has none."""
    for part in key:
        field = model.model_fields.get(str(part)) if model is not None else None
        kind = field.annotation if field is not None else None
        model = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
    return model
