"""The JSON Schema of the config file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from wsopt.config import json_schema
from wsopt.config._auto import AUTO_OPTIMIZER
from wsopt.config.params import CallableParams, FidParams, RecallParams
from wsopt.registry import Component, Registry


def references(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        if isinstance(tree.get("$ref"), str):
            yield tree["$ref"]
        for value in tree.values():
            yield from references(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from references(value)


def test_it_is_plain_json_whose_references_resolve(registry: Registry) -> None:
    schema = json_schema(registry)
    assert schema == json.loads(json.dumps(schema))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    found = set(references(schema))
    assert found
    assert {reference.removeprefix("#/$defs/") for reference in found} <= schema["$defs"].keys()


def test_top_level_keys(registry: Registry) -> None:
    schema = json_schema(registry)
    assert schema["additionalProperties"] is False
    assert {"name", "budget", "family", "objective"} == set(schema["required"])
    assert {"data", "train", "checkpoints", "baselines", "search", "report", "plugins"} <= schema["properties"].keys()
    assert schema["properties"]["budget"]["minimum"] == 1


def test_each_component_is_a_variant_with_its_own_keys(registry: Registry) -> None:
    variants = {one["title"]: one for one in json_schema(registry)["properties"]["optimizer"]["oneOf"]}
    assert variants.keys() == {"auto", "cmaes", "coordinate", "lcsc", "nevergrad", "one-plus-one", "random"}
    assert variants["random"]["properties"].keys() == {"name", "scale"}
    assert variants["random"]["properties"]["name"] == {"const": "random"}
    assert variants["random"]["required"] == ["name"]
    assert variants["lcsc"]["required"] == ["name"]
    assert variants["lcsc"]["additionalProperties"] is False
    assert variants["auto"]["properties"] == {"name": {"const": "auto"}}
    assert variants["auto"]["required"] == []
    assert variants["auto"]["additionalProperties"] is False
    assert AUTO_OPTIMIZER[0] in variants["auto"]["description"]
    assert "paper: M_CP" in variants["lcsc"]["properties"]["m_cp"]["description"]


def titled(variants: list[dict[str, Any]], title: str) -> dict[str, Any]:
    (found,) = (one for one in variants if one["title"] == title)
    return found


def test_the_objective_has_the_sections_keys_too(registry: Registry) -> None:
    variants = json_schema(registry)["properties"]["objective"]["oneOf"]
    assert [one["title"] for one in variants] == [component.address for component in registry.all("objective")]
    own = {"name", "label", "features", "reference", "preset", "quantize", "parts"}
    fid = titled(variants, "fid")
    assert fid["properties"].keys() == own | FidParams.model_fields.keys()
    assert fid["required"] == ["features", "reference"]
    recall = titled(variants, "recall")
    assert recall["properties"].keys() == own | RecallParams.model_fields.keys() > own


def test_further_metrics_are_objectives_too(registry: Registry) -> None:
    schema = json_schema(registry)
    report = schema["properties"]["report"]["allOf"][1]
    own = {"name", "label", "features", "reference"}
    metrics = report["properties"]["metrics"]["items"]["oneOf"]
    recall = titled(metrics, "recall")
    assert recall["properties"].keys() == own | RecallParams.model_fields.keys()
    assert recall["required"] == ["name"]  # features and reference are those of the objective where not given
    weighted = titled(schema["properties"]["objective"]["oneOf"], "weighted")
    parts = weighted["properties"]["parts"]["items"]["oneOf"]
    assert titled(parts, "recall")["properties"].keys() == recall["properties"].keys() | {"weight"}
    # A sum stands in [objective] alone.
    assert {one["title"] for one in metrics} == {one["title"] for one in parts}


def test_features_are_sections_of_any_name(registry: Registry) -> None:
    variants = json_schema(registry)["properties"]["features"]["additionalProperties"]["oneOf"]
    assert [one["title"] for one in variants] == [component.address for component in registry.all("extractor")]
    # The section's own name stands for the extractor's where it has none.
    assert {one["title"]: one["required"] for one in variants if one["required"]} == {"callable": ["function"]}


def test_shadowed_components_go_by_their_qualified_name(registry: Registry) -> None:
    registry.add(Component("optimizer", "random", "a:B", None, None, "late", "late-dist", "1"))
    variants = json_schema(registry)["properties"]["optimizer"]["oneOf"]
    names = [one["properties"]["name"]["const"] for one in variants]
    assert names == ["auto", *(component.address for component in registry.all("optimizer"))]
    assert names[-2:] == ["random", "late:random"]


def test_a_function_is_text() -> None:
    assert CallableParams.model_json_schema()["$defs"]["FunctionRef"] == {"type": "string", "pattern": ":"}
