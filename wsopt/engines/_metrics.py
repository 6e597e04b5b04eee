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
from wsopt.types import Direction, Split

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
    """What is measured on each split, the search's own metric first.

    Args:
        search: what the search minimises, alone.
        validation: the same against `validation.reference`, alone; empty where nothing is validated.
        report: everything the report measures.
        extractors: by name.
        dataset: where the references come from.
    """

    search: tuple[Metric, ...]
    validation: tuple[Metric, ...]
    report: tuple[Metric, ...]
    extractors: Mapping[str, FeatureExtractor]
    dataset: Dataset

    def of(self, split: Split) -> tuple[Metric, ...]:
        """What is measured on a split."""
        return {"search": self.search, "validation": self.validation, "report": self.report}[split]


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
    if not needs_features and (config.objective.features or config.objective.reference or config.validation.reference):
        raise InputError(
            f"objective {config.objective.name} looks at no features, so it compares with no reference: leave "
            f"objective.features, objective.reference and validation.reference out."
        )
    spaces = _unique(config.objective.features, config.report.features) if needs_features else [None]
    references: list[DatasetSplit | None] = [None]
    if needs_features:
        references = _unique(config.objective.reference, config.report.references)
    extractors = {name: registry.get("extractor", name).load()(None) for name in spaces if name is not None}
    factory = _Factory(config, dataset, objective_class, extractors)
    metrics = tuple(factory.metric(space, reference) for space in spaces for reference in references)
    validation: tuple[Metric, ...] = ()
    if config.validation.samples:
        validation = (factory.metric(spaces[0], config.validation.reference or config.objective.reference),)
    return Metrics((metrics[0],), validation, metrics, extractors, dataset)


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


class _Factory:
    """Prepared objectives by feature space and reference, each made once."""

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        objective_class: type[AnyObjective],
        extractors: Mapping[str, FeatureExtractor],
    ) -> None:
        self._config = config
        self._dataset = dataset
        self._class = objective_class
        self._extractors = extractors
        self._made: dict[tuple[str | None, DatasetSplit | None], Metric] = {}

    def metric(self, space: str | None, split: DatasetSplit | None) -> Metric:
        """The config's objective in `space` (None: on no features) against `split`."""
        if (space, split) not in self._made:
            name = self._config.objective.name
            reference = None if split is None else f"{self._dataset.name}/{split}"
            self._made[space, split] = Metric(self._objective(space, split), name, space, reference)
        return self._made[space, split]

    def _objective(self, space: str | None, split: DatasetSplit | None) -> AnyObjective:
        chosen = self._config.objective
        try:
            objective = self._class(chosen.params)
        except TypeError as error:  # an abstract method left out, or another __init__
            raise PluginError(f"objective {chosen.name!r} cannot be made: {error}. Mend the plugin.") from error
        objective.prepare(self._reference(self._extractors.get(space or ""), split))
        return objective

    def _reference(self, extractor: FeatureExtractor | None, split: DatasetSplit | None) -> Reference | None:
        if split is None or extractor is None:
            return None
        images = self._dataset.images(split)
        return reference_from_images(
            f"{self._dataset.name}/{split}", images, extractor, self._config.objective.quantize
        )


def _unique(first: Name | None, others: Sequence[Name]) -> list[Name | None]:
    return [first, *(name for name in dict.fromkeys(others) if name != first)]
