"""The JSON Schema of the config file, for editors."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from wsopt.config._auto import AUTO, AUTO_OPTIMIZER
from wsopt.config._vocabulary import COMPONENTS
from wsopt.config.params import NoParams
from wsopt.config.sections import PLAIN, MetricSection, ObjectiveSection, PartSection, TopSection
from wsopt.registry import LABELS, Component, Registry

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ABOUT = {"title": "wsopt config", "description": "The config file of a run of wsopt."}


def json_schema(registry: Registry) -> dict[str, Any]:
    """The schema (draft 2020-12) of a config file, with every registered component.

    A component's section is ``oneOf`` the components of its kind, each with its name and its own keys. What only
    loading can tell (files, step numbers, sums over sections) is not in it.
    """
    components = {section: registry.all(kind) for section, (kind, _) in COMPONENTS.items()}
    extractors = registry.all("extractor")
    models: list[type[BaseModel]] = [TopSection, ObjectiveSection, MetricSection, PartSection, NoParams]
    models += PLAIN.values()
    for options in [*components.values(), extractors]:
        models += [model for one in options for model in (one.params, one.recipe) if model is not None]
    schemas = _Schemas(list(dict.fromkeys(models)))
    schema = schemas.inline(TopSection)
    for section, (kind, default) in COMPONENTS.items():
        variants = [_component(schemas, one, default) for one in components[section]]
        if default == AUTO:
            variants.insert(0, _auto())
        schema["properties"][section] = {"description": f"The {LABELS[kind]}.", "oneOf": variants}
    recipes = {one.recipe: one.name for one in components["family"] if one.recipe is not None}
    schema["properties"]["train"] = {
        "description": "The training recipe of the family.",
        "anyOf": [schemas.reference(recipe) for recipe in recipes],
    }
    for section, model in PLAIN.items():
        schema["properties"][section] = schemas.reference(model)
    for variant, one in zip(schema["properties"]["objective"]["oneOf"], components["objective"], strict=True):
        if getattr(one.params, "composite", False):
            variant["required"].append("parts")
        variant["properties"]["parts"] = _tables(schemas, components["objective"], PartSection)
    metrics = {"metrics": _tables(schemas, components["objective"], MetricSection)}
    schema["properties"]["report"] = {"allOf": [schemas.reference(PLAIN["report"]), {"properties": metrics}]}
    schema["properties"]["features"] = {
        "type": "object",
        "description": "Extractors with other parameters than their own, by what objectives call them.",
        "additionalProperties": {"oneOf": [_extractor(schemas, one) for one in extractors]},
    }
    schema["required"] = [*schema["required"], "family", "objective"]
    schema["anyOf"] = [
        {"required": ["train"]},
        {"required": ["checkpoints"], "properties": {"checkpoints": {"required": ["path"]}}},
    ]
    return {"$schema": _DIALECT, **schema, **_ABOUT, "$defs": schemas.definitions}


class _Schemas:
    """Schemas of several models over common definitions, so that two models of one name do not collide."""

    def __init__(self, models: list[type[BaseModel]]) -> None:
        refs, top = models_json_schema([(model, "validation") for model in models])
        self.definitions: dict[str, Any] = top.get("$defs", {})
        self._refs = {model: refs[(model, "validation")] for model in models}

    def reference(self, model: type[BaseModel]) -> dict[str, Any]:
        """A reference to the definition of `model`."""
        return dict(self._refs[model])

    def inline(self, model: type[BaseModel]) -> dict[str, Any]:
        """A copy of the definition of `model`, one level deep."""
        name = self._refs[model]["$ref"].removeprefix("#/$defs/")
        found = dict(self.definitions[name])
        return {**found, "properties": dict(found.get("properties", {}))}


def _auto() -> dict[str, Any]:
    name, keys = AUTO_OPTIMIZER
    return {
        "type": "object",
        "title": AUTO,
        "description": f"What measurements favour: {name}, with {json.dumps(dict(keys))}.",
        "properties": {"name": {"const": AUTO}},
        "required": [],
        "additionalProperties": False,
    }


def _tables(schemas: _Schemas, objectives: list[Component], model: type[BaseModel]) -> dict[str, Any]:
    """A list of objectives with the keys of `model`; one of several objectives cannot be among them."""
    own = schemas.inline(model)["properties"]
    variants = []
    for one in objectives:
        if not getattr(one.params, "composite", False):
            found = _component(schemas, one, None)
            keys = schemas.inline(one.params or NoParams)
            found["properties"] = {"name": {"const": one.address}, **own, **keys["properties"]}
            found["required"] = ["name", *keys.get("required", [])]
            variants.append(found)
    return {"type": "array", "items": {"oneOf": variants}}


def _extractor(schemas: _Schemas, component: Component) -> dict[str, Any]:
    own = schemas.inline(component.params or NoParams)
    properties = {"name": {"const": component.address}, **own["properties"]}
    shape = {"properties": properties, "required": own.get("required", []), "additionalProperties": False}
    return {**own, "title": component.address, **shape}


def _component(schemas: _Schemas, component: Component, default: str | None) -> dict[str, Any]:
    own = schemas.inline(component.params or NoParams)
    section = schemas.inline(ObjectiveSection)["properties"] if component.kind == "objective" else {}
    is_default = component.address == default
    needs = list(getattr(component.params, "section_needs", ()))
    return {
        **own,
        "title": component.address,
        "properties": {"name": {"const": component.address}, **section, **own["properties"]},
        "required": [*([] if is_default else ["name"]), *needs, *own.get("required", [])],
        "additionalProperties": False,
    }
