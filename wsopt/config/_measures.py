"""Loading what is measured: the objective, the report's further metrics, and the features that they are computed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from wsopt.config._config import ComponentConfig, MetricConfig, ObjectiveConfig, PartConfig, is_split
from wsopt.config._locate import Key
from wsopt.config._messages import show
from wsopt.config._presets import PRESETS
from wsopt.config.params import InceptionParams, NoParams
from wsopt.config.sections import MetricSection, ObjectiveSection, PartSection, Preset
from wsopt.registry import LABELS, Component, Kind

Model = TypeVar("Model", bound=BaseModel)
Keys = TypeVar("Keys", bound=MetricSection)


class Loader(Protocol):
    """What is needed of the loader: it validates tables, looks names up and keeps the problems."""

    tables: dict[str, dict[str, Any]]
    found: dict[str, Component | None]

    def model(self, model: type[Model], at: Key, raw: Mapping[str, Any], what: str = "") -> Model | None:
        """Validate a table; its mistakes become problems."""

    def get(self, kind: Kind, name: str, key: Key) -> Component | None:
        """Look a component up; an unknown name becomes a problem."""

    def problem(self, key: Key, text: str) -> None:
        """Keep a problem."""

    def located(self, params: Model, at: Key) -> Model:
        """Parameters with every path absolute."""

    def file(self, at: Key, text: str) -> str | None:
        """The absolute path of an existing file; a missing one becomes a problem."""


class Measures:
    """The measuring half of a config, piece by piece; problems go to the loader.

    Args:
        loader: see `Loader`.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._preset: Preset | None = None
        self._spaces: dict[str, ComponentConfig | None] = {}

    @property
    def features(self) -> dict[str, ComponentConfig]:
        """The extractors that were named, by what they are called."""
        return {name: config for name, config in self._spaces.items() if config is not None}

    @property
    def used(self) -> frozenset[str]:
        """What the extractors that were named are called, also those that are wrong."""
        return frozenset(self._spaces)

    def objective(self, params: BaseModel | None) -> ObjectiveConfig | None:
        """``[objective]``; `params` are those of its component, validated."""
        raw = self._loader.tables["objective"]
        own = {key: raw[key] for key in ObjectiveSection.model_fields if key in raw}
        section = self._loader.model(ObjectiveSection, ("objective",), own)
        component = self._loader.found["objective"]
        if section is None:
            return None
        self._preset = section.preset
        if section.preset is not None:
            quantize = PRESETS[section.preset].quantize
            if raw.get("quantize", quantize) != quantize:
                self._loader.problem(
                    ("objective", "quantize"),
                    f"preset {section.preset!r} sets it to {quantize!r}: leave one of the two out",
                )
            section = section.model_copy(update={"quantize": quantize})
        if component is None or params is None:
            return None
        common = self._common(section, component, ("objective",), section, composite=_is_composite(component))
        parts = self._parts(section, component)
        if parts:
            # Those of the section are what its parts take where they have none; the sum itself looks at none.
            common |= {"features": None, "reference": None}
        return ObjectiveConfig(
            name=component.address,
            params=self._loader.located(params, ("objective",)),
            preset=section.preset,
            quantize=section.quantize,
            parts=parts,
            **common,
        )

    def metrics(self, tables: Sequence[Mapping[str, Any]], objective: ObjectiveConfig | None) -> list[MetricConfig]:
        """``[[report.metrics]]``; features and reference that are not given are the objective's."""
        found = []
        for index, table in enumerate(tables):
            metric = self._metric(MetricSection, table, ("report", "metrics", index), objective)
            if metric is not None:
                found.append(MetricConfig(**metric[1]))
        return found

    def name_features(self, name: str, at: Key) -> None:
        """Resolve the extractor that is called `name` at the key `at`."""
        if name in self._spaces:
            return
        self._spaces[name] = None
        sections = self._loader.tables["features"]
        raw = sections.get(name, {})
        if not isinstance(raw, dict):
            self._loader.problem(("features", name), f"must be a section [features.{name}], not {show(raw)}")
            return
        given = raw.get("name", name)
        where: Key = ("features", name, "name") if "name" in raw else at
        if not isinstance(given, str):
            self._loader.problem(where, f"must be text in quotes, not {show(given)}")
            return
        component = self._loader.get("extractor", given, where)
        if component is None:
            return
        own = {key: value for key, value in raw.items() if key != "name"}
        what = f" for {LABELS['extractor']} {component.name!r}"
        key: Key = ("features", name)
        params = self._loader.model(component.params or NoParams, key, own, what)
        if params is not None:
            located = self._loader.located(self._with_resize(params), key)
            self._spaces[name] = ComponentConfig(name=component.address, params=located)

    def reference(self, text: str | None, at: Key) -> str | None:
        """A reference as it is kept: the name of a split, or the absolute path of a file."""
        if text is None or is_split(text):
            return text
        return self._loader.file(at, text)

    # ---- one metric

    def _parts(self, section: ObjectiveSection, component: Component) -> tuple[PartConfig, ...]:
        composite = _is_composite(component)
        if section.parts and not composite:
            self._loader.problem(("objective", "parts"), f"objective {component.name!r} has no parts: leave them out")
            return ()
        if composite and not section.parts:
            text = f"missing: objective {component.name!r} sums the objectives of [[objective.parts]]"
            self._loader.problem(("objective", "parts"), text)
        found = []
        for index, table in enumerate(section.parts):
            at: Key = ("objective", "parts", index)
            part = self._metric(PartSection, table, at, section)
            if part is not None:
                found.append(PartConfig(**part[1], weight=part[0].weight))
        return tuple(found)

    def _metric(
        self, model: type[Keys], table: Mapping[str, Any], at: Key, default: ObjectiveSection | ObjectiveConfig | None
    ) -> tuple[Keys, dict[str, Any]] | None:
        name = table.get("name")
        if not isinstance(name, str):
            text = "missing: give the name of an objective" if name is None else f"must be text, not {show(name)}"
            self._loader.problem((*at, "name"), text)
            return None
        component = self._loader.get("objective", name, (*at, "name"))
        if component is None:
            return None
        if _is_composite(component):
            self._loader.problem((*at, "name"), f"{name!r} has parts of its own and stands in [objective] only")
            return None
        own = {key: table[key] for key in model.model_fields if key in table}
        rest = {key: value for key, value in table.items() if key not in (*model.model_fields, "name")}
        section = self._loader.model(model, at, own)
        what = f" for {LABELS['objective']} {component.name!r}"
        params = self._loader.model(component.params or NoParams, at, rest, what)
        if section is None or params is None:
            return None
        common = self._common(section, component, at, default)
        return section, {"name": component.address, "params": self._loader.located(params, at), **common}

    def _common(
        self,
        section: MetricSection,
        component: Component,
        at: Key,
        default: object,
        composite: bool = False,
    ) -> dict[str, Any]:
        """Label, features and reference, those that the objective needs and has not taken from `default`."""
        needs = () if composite else getattr(component.params, "section_needs", ())
        found: dict[str, Any] = {"label": section.label}
        for key in ("features", "reference"):
            value = getattr(section, key)
            if value is None and key in needs:
                value = getattr(default, key, None)
                if value is None and key not in self._loader.tables["objective"]:  # one that is wrong is told there
                    about = MetricSection.model_fields[key].description
                    self._loader.problem((*at, key), f"missing: objective {component.name!r} needs the {about}")
            found[key] = value
        if found["features"] is not None:
            self.name_features(found["features"], (*at, "features"))
        found["reference"] = self.reference(found["reference"], (*at, "reference"))
        return found

    def _with_resize(self, params: BaseModel) -> BaseModel:
        """Inception's parameters with the resize that the preset means, where they name none."""
        if not isinstance(params, InceptionParams) or params.resize is not None:
            return params
        return params.model_copy(update={"resize": PRESETS[self._preset].resize if self._preset else "tf1"})


def _is_composite(component: Component) -> bool:
    """Whether an objective is made of others: its params model says so."""
    return bool(getattr(component.params, "composite", False))


def check_columns(problem: Any, objective: ObjectiveConfig, metrics: Sequence[MetricConfig]) -> None:  # noqa: ANN401
    """Two metrics of a report may not be called the same."""
    seen = {(objective.title, objective.features, objective.reference)}
    for index, metric in enumerate(metrics):
        key = (metric.title, metric.features, metric.reference)
        if key in seen:
            problem(
                ("report", "metrics", index),
                f"is called {metric.title!r} like another metric of the report, in the same features and against the "
                f'same reference: leave it out, or give it a name of its own, label = "..."',
            )
        seen.add(key)
