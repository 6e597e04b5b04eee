"""The metrics of a split: which objective in which feature space against which reference."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar, cast, get_args

import numpy as np

from wsopt.config import Config, MetricConfig, ObjectiveConfig, PartConfig, is_split, reference_name
from wsopt.datasets import Dataset, DatasetSplit
from wsopt.errors import InputError, PluginError
from wsopt.objectives import (
    AnyObjective,
    FeatureExtractor,
    Needs,
    Objective,
    Part,
    Reference,
    Weighted,
    reference_from_images,
)
from wsopt.objectives.references import DerivedCache, check_fits, read_reference, split_part
from wsopt.registry import Registry
from wsopt.types import Direction, Split

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True, eq=False)
class Metric:
    """One prepared objective.

    Args:
        objective: ready for `Objective.new`.
        name: its label, or its registered name.
        features: what its features are called; None where it looks at none.
        reference: the reference's name (``digits/train``); None without one.
        split: the split of the data set that the reference is; None for a file, or without one.
        inputs: (features, output) of everything that has to be extracted for it.
    """

    objective: AnyObjective
    name: str
    features: str | None
    reference: str | None
    split: DatasetSplit | None
    inputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Metrics:
    """What is measured on each split, the search's own metric first.

    Args:
        search: what the search minimises, alone.
        validation: the same against `validation.reference`, alone; empty where nothing is validated.
        report: everything the report measures.
        extractors: by what they are called.
        dataset: where the references come from.
        notes: what the user is to be told of the references.
        files: SHA-256 of the files of references, by how the config names them.
    """

    search: tuple[Metric, ...]
    validation: tuple[Metric, ...]
    report: tuple[Metric, ...]
    extractors: Mapping[str, FeatureExtractor]
    dataset: Dataset
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str]:
        """What was loaded: extractors by what they are called, objectives by their metric's name, reference files."""
        found = {f"features {name}": extractor.digest for name, extractor in self.extractors.items()}
        found |= {f"reference {name}": digest for name, digest in self.files.items()}
        return found | {
            f"metric {metric.name} {metric.features} {metric.reference}": metric.objective.digest
            for metric in self.report
        }

    def of(self, split: Split) -> tuple[Metric, ...]:
        """What is measured on a split."""
        return {"search": self.search, "validation": self.validation, "report": self.report}[split]


def build_metrics(config: Config, registry: Registry, keep: bool = True) -> Metrics:
    """Load the objectives, extractors and references that a config names.

    Args:
        config: of the run.
        registry: where its names are looked up.
        keep: whether what is derived from references at some cost is kept in the output folder.

    Raises:
        InputError: an objective on features without features, one on something else with features or a reference that
            it does not look at, or a reference that does not fit the features.
    """
    objective = make_objective(config.objective, registry)
    _check(config, objective)
    own = config.objective
    again = config.objective.model_copy
    wanted: list[MetricConfig] = [own]
    if config.validation.samples and config.validation.reference:
        validated = again(update={"reference": config.validation.reference})
    else:
        validated = own
    for space in _unique(own.features, config.report.features):
        for reference in _unique(own.reference, config.report.references):
            wanted.append(again(update={"features": space, "reference": reference}))
    wanted += [*own.parts, *config.report.metrics]
    factory = _Factory(config, registry, [*wanted, validated], keep)
    metrics = {id(one): factory.metric(one) for one in (*wanted, validated)}
    report = tuple(dict.fromkeys(metrics[id(one)] for one in wanted))
    validation = (metrics[id(validated)],) if config.validation.samples else ()
    return Metrics(
        (metrics[id(own)],),
        validation,
        report,
        factory.extractors,
        factory.dataset,
        tuple(factory.notes),
        factory.files,
    )


def make_objective(config: MetricConfig, registry: Registry) -> AnyObjective:
    """The objective of a metric, not prepared; one that is made of others with all its parts.

    Raises:
        PluginError: where it is no Objective, cannot be made, or its `direction` or `needs` is none of the known words.
    """
    component = registry.get("objective", config.name)
    found = component.load()
    what = f"objective {config.name!r} of {component.source}"
    if not issubclass(found, Objective):
        raise PluginError(f"{what} is not derived from wsopt.objectives.Objective. Derive {found.__name__} from it.")
    try:
        if isinstance(config, ObjectiveConfig) and config.parts:
            made = found([_part(part, registry) for part in config.parts])
        else:
            made = found(config.params)
    except TypeError as error:  # an abstract method left out, or another __init__
        raise PluginError(f"objective {config.name!r} cannot be made: {error}. Mend the plugin.") from error
    for attribute, words in (("direction", get_args(Direction)), ("needs", get_args(Needs))):
        value = getattr(made, attribute)
        if value not in words:
            raise PluginError(f"{what} has {attribute} = {value!r}; it must be one of {', '.join(map(repr, words))}.")
    return made


def _part(config: PartConfig, registry: Registry) -> Part:
    return Part(make_objective(config, registry), config.features, config.weight)


def _check(config: Config, objective: AnyObjective) -> None:
    """What only the objective itself can tell of the keys around it."""
    own = config.objective
    if own.parts:
        if config.report.features or config.report.references or config.validation.reference:
            raise InputError(
                f"objective {own.name} has features and references in its parts alone: leave report.features, "
                f"report.references and validation.reference out, and name further metrics as [[report.metrics]]."
            )
    elif objective.needs == "weights":
        if own.features or own.reference or config.validation.reference or config.report.features:
            raise InputError(
                f"objective {own.name} looks at weights, not at features, so it compares with no reference: leave "
                f"objective.features, objective.reference, validation.reference and report.features out."
            )
    elif objective.needs == "images" and (own.features or config.report.features):
        raise InputError(
            f"objective {own.name} looks at no features: leave objective.features and report.features out, and name "
            f"metrics in other features as [[report.metrics]]."
        )
    elif objective.needs == "images" and not objective.reference_images and (own.reference or config.report.references):
        raise InputError(
            f"objective {own.name} looks at no features, so it compares with no reference: leave objective.reference "
            f"and report.references out."
        )


class _Factory:
    """Prepared objectives, each made once, with the extractors and references that they share."""

    def __init__(self, config: Config, registry: Registry, wanted: Sequence[MetricConfig], keep: bool) -> None:
        self._config = config
        self._registry = registry
        self._keep = keep
        self.dataset: Dataset = registry.make("dataset", config.data)
        self.extractors: dict[str, FeatureExtractor] = {}
        self.notes: list[str] = []
        self.files: dict[str, str] = {}
        self._references: dict[tuple[str, str | None], Reference] = {}
        self._made: dict[str, Metric] = {}
        self._objectives = {_key(one): make_objective(one, registry) for one in _with_parts(wanted)}
        # One reference serves all metrics in a feature space, so it keeps what any of them needs.
        self._keep_vectors = {
            (one.reference, one.features)
            for one in _with_parts(wanted)
            if self._objectives[_key(one)].reference_vectors
        }

    def metric(self, config: MetricConfig) -> Metric:
        """The prepared metric of a config."""
        key = _key(config)
        if key not in self._made:
            self._made[key] = self._metric(config, self._objectives[key])
        return self._made[key]

    def _metric(self, config: MetricConfig, objective: AnyObjective) -> Metric:
        inputs: list[tuple[str, str]] = []
        if isinstance(config, ObjectiveConfig) and isinstance(objective, Weighted):
            for part, made in zip(config.parts, objective.parts, strict=True):
                inputs += self._prepare(part, made.objective)
        else:
            inputs += self._prepare(config, objective)
        reference = reference_name(self._config.data.name, config.reference)
        split = cast("DatasetSplit", config.reference) if config.reference and is_split(config.reference) else None
        return Metric(objective, config.title, config.features, reference, split, tuple(dict.fromkeys(inputs)))

    def _prepare(self, config: MetricConfig, objective: AnyObjective) -> list[tuple[str, str]]:
        """Hand an objective its reference; the (features, output) that it takes."""
        features = config.features
        if objective.needs == "features" and features is None:
            raise InputError(
                f'objective {config.name} needs features: set features beside its name, for example "digits".'
            )
        extractor = None if features is None else self._extractor(features)
        if extractor is not None and objective.output not in extractor.outputs:
            raise InputError(
                f"objective {config.name} needs the {objective.output} of an extractor, and features {features!r} have "
                f"none (but: {', '.join(extractor.outputs)}). Choose another extractor."
            )
        objective.prepare(self._reference(config, objective, extractor))
        return [] if features is None or objective.needs != "features" else [(features, objective.output)]

    def _extractor(self, name: str) -> FeatureExtractor:
        if name not in self.extractors:
            config = self._config.features[name]
            self.extractors[name] = self._registry.make("extractor", config)
        return self.extractors[name]

    def _reference(
        self, config: MetricConfig, objective: AnyObjective, extractor: FeatureExtractor | None
    ) -> Reference | None:
        if config.reference is None:
            return None
        key = (config.reference, config.features)
        if key not in self._references:
            if is_split(config.reference):
                self._references[key] = self._of_split(cast("DatasetSplit", config.reference), config.features)
            elif extractor is None:
                raise InputError(
                    f"objective {config.name} compares with real images, and {config.reference} is a file of "
                    f'statistics. Give a split of the data set, reference = "train".'
                )
            else:
                self._references[key] = self._of_file(config.reference, extractor)
        return self._references[key]

    def _of_split(self, split: DatasetSplit, features: str | None) -> Reference:
        name, quantize = f"{self.dataset.name}/{split}", self._config.objective.quantize
        if features is None:
            mean, covariance = np.empty(0), np.empty((0, 0))
            return Reference(name, "", "", quantize, mean, covariance, 0, images=lambda: self.dataset.images(split))
        made = reference_from_images(
            name,
            self.dataset.images(split),
            self._extractor(features),
            quantize,
            vectors=(split, features) in self._keep_vectors,
        )
        cache = DerivedCache(Path.cwd() / self._config.output / "cache" / "references")
        return replace(made, cache=cache if self._keep else None)

    def _of_file(self, path: str, extractor: FeatureExtractor) -> Reference:
        reference = read_reference(path)
        with split_part(path)[0].open("rb") as file:
            self.files[path] = hashlib.file_digest(file, "sha256").hexdigest()
        quantize = self._config.objective.quantize
        note = check_fits(reference, extractor.name, extractor.digest, extractor.dimension, quantize)
        if note:
            self.notes.append(note)
        return reference


def _with_parts(wanted: Iterable[MetricConfig]) -> Iterable[MetricConfig]:
    for one in wanted:
        yield one
        yield from one.parts if isinstance(one, ObjectiveConfig) else ()


def _key(config: MetricConfig) -> str:
    """Metrics that are the same in everything but the conventions of the run are one."""
    exclude = {"quantize", "preset", "weight", "parts"} if not getattr(config, "parts", ()) else {"quantize", "preset"}
    return config.model_dump_json(exclude=exclude)


def _unique(first: Name | None, others: Sequence[Name]) -> list[Name | None]:
    return [first, *(name for name in dict.fromkeys(others) if name != first)]
