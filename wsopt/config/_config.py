"""The frozen, fully resolved config of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializeAsAny

from wsopt.config.sections import (
    BaselinesSection,
    CheckpointsSection,
    Quantize,
    ReferenceSplit,
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


class ObjectiveConfig(ComponentConfig):
    """The objective, its feature extractor and what it is compared with."""

    features: str | None
    reference: ReferenceSplit | None
    quantize: Quantize

    def resolved(self) -> dict[str, Any]:
        """The section as plain JSON values."""
        own = {"features": self.features, "reference": self.reference, "quantize": self.quantize}
        return {"name": self.name, **own, **self.params.model_dump(mode="json")}


class PluginFile(_Frozen):
    """A single-file plugin and the digest of what it contained when the config was loaded."""

    path: Path
    sha256: str


class ReportConfig(ReportSection):
    """``[report]`` with everything filled in."""

    features: tuple[str, ...]
    references: tuple[ReferenceSplit, ...]


class Config(_Frozen):
    """A run, resolved: every default filled in, every component's parameters validated, every path absolute.

    `output` alone stays as written, relative to the current directory.
    """

    name: str
    seed: int
    budget: int
    output: Path
    plugins: tuple[PluginFile, ...]
    threads: int
    device: str
    data: ComponentConfig
    family: ComponentConfig
    train: SerializeAsAny[BaseModel] | None
    checkpoints: CheckpointsSection
    weightspace: WeightspaceSection
    parameterization: ComponentConfig
    optimizer: ComponentConfig
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
            if isinstance(value, ComponentConfig):
                out[key] = value.resolved()
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
        files (their contents do count).
        """
        facts = {key: value for key, value in self.resolved().items() if key not in _UNHASHED}
        facts["plugins"] = [plugin.sha256 for plugin in self.plugins]
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
