"""The frozen, fully resolved config of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializeAsAny

from wsopt.config.sections import (
    SPLITS,
    BaselinesSection,
    CheckpointsSection,
    Preset,
    Quantize,
    ReportSection,
    SearchSection,
    ValidationSection,
    WeightspaceSection,
)

_UNHASHED = ("budget", "output", "plugins")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", revalidate_instances="never")


class ComponentConfig(_Frozen):
    """A component by name, with its validated parameters (an instance of the model it was registered with)."""

    name: str
    params: SerializeAsAny[BaseModel]

    def resolved(self) -> dict[str, Any]:
        """The section as plain JSON values."""
        return {"name": self.name, **self.params.model_dump(mode="json")}


class MetricConfig(ComponentConfig):
    """An objective, its feature extractor and what it is compared with.

    `reference` is a split of the data set, or the absolute path of a file.
    """

    label: str | None = None
    features: str | None = None
    reference: str | None = None

    @property
    def title(self) -> str:
        """What tables call it: the label, or the objective's name."""
        return self.label or self.name

    def _own(self) -> dict[str, Any]:
        return {"label": self.label, "features": self.features, "reference": self.reference}

    def resolved(self) -> dict[str, Any]:
        """The section as plain JSON values."""
        return {"name": self.name, **self._own(), **self.params.model_dump(mode="json")}


class PartConfig(MetricConfig):
    """One of the objectives that are summed."""

    weight: float = 1.0

    def _own(self) -> dict[str, Any]:
        return {**super()._own(), "weight": self.weight}


class ObjectiveConfig(MetricConfig):
    """The objective that is searched for, and the conventions of every score of the run."""

    preset: Preset | None = None
    quantize: Quantize
    parts: tuple[PartConfig, ...] = ()

    def _own(self) -> dict[str, Any]:
        parts = [part.resolved() for part in self.parts]
        return {**super()._own(), "preset": self.preset, "quantize": self.quantize, "parts": parts}


class PluginFile(_Frozen):
    """A Python file of the user (a plugin, a function) and the digest of it when the config was loaded."""

    path: Path
    sha256: str


class ReportConfig(ReportSection):
    """``[report]`` with everything filled in."""

    features: tuple[str, ...]
    references: tuple[str, ...]
    metrics: tuple[MetricConfig, ...]  # type: ignore[assignment]

    def resolved(self) -> dict[str, Any]:
        """The section as plain JSON values."""
        own = self.model_dump(mode="json", exclude={"metrics"})
        return {**own, "metrics": [metric.resolved() for metric in self.metrics]}


class Config(_Frozen):
    """A run, resolved: every default filled in, every component's parameters validated, every path absolute.

    `output` alone stays as written, relative to the current directory. `features` has the extractors that are used, by
    what they are called; `functions` the files of the user's functions.
    """

    name: str
    seed: int
    budget: int
    output: Path
    plugins: tuple[PluginFile, ...]
    functions: tuple[PluginFile, ...] = ()
    threads: int
    device: str
    data: ComponentConfig
    family: ComponentConfig
    train: SerializeAsAny[BaseModel] | None
    checkpoints: CheckpointsSection
    weightspace: WeightspaceSection
    parameterization: ComponentConfig
    optimizer: ComponentConfig
    features: dict[str, ComponentConfig]
    objective: ObjectiveConfig
    baselines: BaselinesSection
    search: SearchSection
    validation: ValidationSection
    report: ReportConfig

    def resolved(self) -> dict[str, Any]:
        """Everything as plain JSON values, in the order of the fields."""
        out: dict[str, Any] = {}
        for key in type(self).model_fields:
            value = getattr(self, key)
            if isinstance(value, ComponentConfig | ReportConfig):
                out[key] = value.resolved()
            elif isinstance(value, dict):
                out[key] = {name: one.resolved() for name, one in value.items()}
            elif isinstance(value, BaseModel):
                out[key] = value.model_dump(mode="json")
            elif isinstance(value, tuple):
                out[key] = [item.model_dump(mode="json") for item in value]
            else:
                out[key] = str(value) if isinstance(value, Path) else value
        return out

    def run_hash(self) -> str:
        """10 hexadecimal digits that tell runs apart.

        Everything counts but the budget (a larger one continues the run), the output folder and the paths of plugin
        files (their contents do count, and those of files of functions).
        """
        facts = {key: value for key, value in self.resolved().items() if key not in _UNHASHED}
        facts["plugins"] = [plugin.sha256 for plugin in self.plugins]
        facts["functions"] = [function.sha256 for function in self.functions]
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def run_folder(self) -> Path:
        """Where the run lives: ``<output>/<name>-<hash>``."""
        return self.output / f"{self.name}-{self.run_hash()}"

    @property
    def training_folder(self) -> Path:
        """Where the training recipe keeps its files; the name carries a hash of all that decides the weights.

        Raises:
            ValueError: where there is no recipe.
        """
        if self.train is None:
            raise ValueError("this config has no [train] section")
        facts = {
            "data": self.data.resolved(),
            "family": self.family.resolved(),
            "train": self.train.model_dump(mode="json"),
            "threads": self.threads,
            "device": self.device,
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
        return self.output / "trained" / f"{self.family.name}-{digest}"


def is_split(reference: str) -> bool:
    """Whether a reference is a split of the data set, and not a file."""
    return reference in SPLITS


def reference_name(data: str, reference: str | None) -> str | None:
    """What a reference is called in results: ``digits/train``, or a file's name without its ending."""
    if reference is None:
        return None
    if is_split(reference):
        return f"{data}/{reference}"
    file, mark, part = reference.partition("#")
    return f"{Path(file).stem}{mark}{part}"


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two resolved configs, as lines ``key: old -> new`` with dotted keys, sorted by key.

    Values are shown as JSON; a key that one of them lacks as ``(absent)``.
    """
    before, after = dict(_flat(old)), dict(_flat(new))
    return [
        f"{key}: {before.get(key, '(absent)')} -> {after.get(key, '(absent)')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            out += _flat(value, f"{prefix}{key}.")
        else:
            out.append((f"{prefix}{key}", json.dumps(value, sort_keys=True)))
    return out
