"""What decides a score besides the weights and the samples, as one digest: runs that agree in it may share scores."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch

from wsopt.config import Config, MetricConfig, is_split
from wsopt.datasets import Dataset, DatasetSplit
from wsopt.engines._evaluator import EvaluatorSpec
from wsopt.engines._metrics import make_objective
from wsopt.registry import Component, Kind
from wsopt.types import SpaceInfo

_PACKAGES: Final = (
    "wsopt", "torch", "torchmetrics", "torchvision", "numpy", "scipy", "scikit-learn", "mlxtend", "pillow",
    "diffusers", "transformers", "peft",
)  # fmt: skip
"""What scores are computed with: by wsopt, and by what plugins usually build on."""
_PARTS: Final = (
    "checkpoints", "datasets", "diffusion", "engines", "families", "objectives", "parameterizations", "seeding.py",
    "tensors.py", "types.py", "weightspace",
)  # fmt: skip
"""The parts of wsopt that compute scores; a change in another one leaves them as they are."""


def scoring_key(spec: EvaluatorSpec, fingerprint: str, info: SpaceInfo, digests: Mapping[str, str]) -> str:
    """Hexadecimal digest over all that decides the bits of a score, given split, samples and weights.

    The content of the checkpoints and their layer groups; family, data with its images, objective and its version,
    extractors, references, quantisation; seed, batch size, how weights are merged, threads and device; versions and
    source code.

    Args:
        spec: what the evaluator was built from.
        fingerprint: `Engine.fingerprint`.
        info: what `Engine.start` returned.
        digests: `Engine.digests`.
    """
    return _digest({**_facts(spec, fingerprint, info), "digests": dict(digests)})


def _facts(spec: EvaluatorSpec, fingerprint: str, info: SpaceInfo) -> dict[str, Any]:
    config = spec.config
    components = _components(spec, info)
    grouping = config.parameterization.resolved() if info.num_groups > 1 else {}
    return {
        "checkpoints": fingerprint,
        "groups": info.groups,
        "grouping": {key: value for key, value in grouping.items() if key != "coordinates"},
        "family": config.family.resolved(),
        "data": config.data.resolved(),
        "images": _images(spec),
        "objective": config.objective.resolved(),
        "versions": {one.title: make_objective(one, spec.registry).version for one in _metrics(config)},
        "validation": config.validation.reference,
        "report": [config.report.features, config.report.references],
        "metrics": [one.resolved() for one in config.report.metrics],
        "files": {one: _file_digest(one) for one in _references(config) if not is_split(one)},
        "features": {name: one.resolved() for name, one in config.features.items()},
        "seed": config.seed,
        "batch_size": config.search.batch_size,
        "weightspace": config.weightspace.model_dump(mode="json", exclude={"cache", "memory"}),
        "threads": config.threads,
        "device": _device(config.device),
        "packages": {name: _version(name) for name in _PACKAGES},
        "components": [[one.kind, one.qualified, one.distribution, one.version] for one in components],
        "plugins": sorted(plugin.sha256 for plugin in config.plugins),
        "functions": sorted(function.sha256 for function in config.functions),
        "code": _code(components),
    }


def _metrics(config: Config) -> list[MetricConfig]:
    return [config.objective, *config.objective.parts, *config.report.metrics]


def _references(config: Config) -> list[str]:
    """Every reference of the run, splits and files, sorted."""
    named = {one.reference for one in _metrics(config)} | {config.validation.reference, *config.report.references}
    return sorted(name for name in named if name is not None)


def _images(spec: EvaluatorSpec) -> dict[str, str]:
    """Digests of the splits of the data that scores depend on: a plugin's may lie in files that change."""
    config = spec.config
    splits: set[DatasetSplit] = {"train"} if config.weightspace.batchnorm == "recalculate" else set()
    splits |= {cast("DatasetSplit", name) for name in _references(config) if is_split(name)}
    dataset: Dataset = spec.registry.make("dataset", config.data)
    digests: dict[str, str] = {}
    for split in sorted(splits):
        images = np.ascontiguousarray(dataset.images(split))
        content = hashlib.sha256(images.data).hexdigest()
        digests[split] = f"{images.dtype} {images.shape} {content}"
    return digests


def _components(spec: EvaluatorSpec, info: SpaceInfo) -> list[Component]:
    config = spec.config
    named: list[tuple[Kind, str]] = [
        ("dataset", config.data.name),
        ("family", config.family.name),
        *(("objective", one.name) for one in _metrics(config)),
    ]
    if info.num_groups > 1:
        named.append(("parameterization", config.parameterization.name))
    named += [("extractor", one.name) for one in config.features.values()]
    return [spec.registry.get(kind, name) for kind, name in dict.fromkeys(named)]


def _device(name: str) -> list[str]:
    """The device and what else chooses its kernels."""
    model = torch.cuda.get_device_name(name) if name.startswith("cuda") else torch.backends.cpu.get_cpu_capability()
    return [name, platform.machine(), model]


def _code(components: list[Component]) -> dict[str, str]:
    """Digest of the source of everything that computes scores: versions stand still while a plugin is written."""
    own = Path(__file__).parents[1]
    code = {f"wsopt/{part}": _source_digest(own / part) for part in _PARTS}
    for component in components:
        module = sys.modules[component.load().__module__]
        top = sys.modules.get(module.__name__.partition(".")[0], module)
        whole = module if top.__name__ == "wsopt" else top
        folders = list(getattr(whole, "__path__", ())) or [whole.__file__ or ""]
        code[component.qualified] = _digest([_source_digest(Path(folder)) for folder in folders])
    return code


def _file_digest(reference: str) -> str:
    return _source_digest(Path(reference.partition("#")[0]))


def _source_digest(path: Path) -> str:
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path).as_posix()}\n".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"")
    return digest.hexdigest()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
