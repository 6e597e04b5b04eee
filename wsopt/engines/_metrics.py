"""The metrics of a split: which objective in which feature space against which reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, get_args

from wsopt.config import Config
from wsopt.datasets import Dataset, DatasetSplit
from wsopt.errors import InputError, PluginError
from wsopt.objectives import AnyObjective, FeatureExtractor, Needs, Objective, Reference, reference_from_images
from wsopt.registry import Registry
from wsopt.types import Direction

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True, eq=False)
class Metric:
    """One prepared objective, its registered name, its feature space and its reference's name (``digits/train``)."""

    objective: AnyObjective
    name: str
    features: str | None
    reference: str | None


@dataclass(frozen=True, eq=False)
class Metrics:
    """What the search minimises, and everything the report measures; the search's own metric comes first there too."""

    search: tuple[Metric, ...]
    report: tuple[Metric, ...]
    extractors: Mapping[str, FeatureExtractor]
    dataset: Dataset


def build_metrics(config: Config, registry: Registry) -> Metrics:
    """Load the objective, extractors and references that a config names.

    Raises:
        InputError: a feature objective without features, or another objective with features or a reference.
    """
    dataset: Dataset = registry.make("dataset", config.data)
    objective_class = load_objective(config, registry)
    needs_features = objective_class.needs == "features"
    if needs_features and config.objective.features is None:
        raise InputError(
            f'objective {config.objective.name} needs features: set objective.features, for example "digits".'
        )
    if not needs_features and (config.objective.features or config.objective.reference):
        raise InputError(
            f"objective {config.objective.name} looks at no features, so it compares with no reference: leave "
            f"objective.features and objective.reference out."
        )
    spaces = _unique(config.objective.features, config.report.features) if needs_features else [None]
    references: list[DatasetSplit | None] = [None]
    if needs_features:
        references = _unique(config.objective.reference, config.report.references)
    extractors = {name: registry.get("extractor", name).load()(None) for name in spaces if name is not None}
    metrics = []
    for space in spaces:
        for reference in references:
            objective = _make(objective_class, config)
            objective.prepare(_reference(config, dataset, reference, extractors.get(space or "")))
            metrics.append(
                Metric(
                    objective,
                    config.objective.name,
                    space,
                    None if reference is None else f"{dataset.name}/{reference}",
                )
            )
    return Metrics((metrics[0],), tuple(metrics), extractors, dataset)


def load_objective(config: Config, registry: Registry) -> type[AnyObjective]:
    """The class of the config's objective.

    Raises:
        PluginError: where it is no Objective, or its `direction` or `needs` is none of the known words.
    """
    component = registry.get("objective", config.objective.name)
    found = component.load()
    what = f"objective {config.objective.name!r} of {component.source}"
    if not issubclass(found, Objective):
        raise PluginError(f"{what} is not derived from wsopt.objectives.Objective. Derive {found.__name__} from it.")
    for attribute, words in (("direction", get_args(Direction)), ("needs", get_args(Needs))):
        value = getattr(found, attribute)
        if value not in words:
            raise PluginError(f"{what} has {attribute} = {value!r}; it must be one of {', '.join(map(repr, words))}.")
    return found


def _make(objective_class: type[AnyObjective], config: Config) -> AnyObjective:
    try:
        return objective_class(config.objective.params)
    except TypeError as error:  # an abstract method left out, or another __init__
        raise PluginError(f"objective {config.objective.name!r} cannot be made: {error}. Mend the plugin.") from error


def _unique(first: Name | None, others: Sequence[Name]) -> list[Name | None]:
    return [first, *(name for name in dict.fromkeys(others) if name != first)]


def _reference(
    config: Config, dataset: Dataset, split: DatasetSplit | None, extractor: FeatureExtractor | None
) -> Reference | None:
    if split is None or extractor is None:
        return None
    return reference_from_images(f"{dataset.name}/{split}", dataset.images(split), extractor, config.objective.quantize)
