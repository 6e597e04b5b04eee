"""What a run was made with: versions, seeds, device, fingerprints."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import torch

from wsopt.checkpoints import CheckpointSet
from wsopt.config import Config
from wsopt.types import WeightsFile

_PACKAGES = (
    "wsopt", "torch", "numpy", "scipy", "scikit-learn", "safetensors", "pydantic", "pluggy", "cma", "nevergrad",
)  # fmt: skip
_DECISIVE = ("python", "packages", "machine", "threads", "device")


def content_fingerprint(checkpoints: str, emas: Mapping[str, WeightsFile]) -> str:
    """Hexadecimal digest over the content of the checkpoints and of the training-time EMA files.

    Args:
        checkpoints: digest of the former.
        emas: the latter, by rate.
    """
    digest = hashlib.sha256(checkpoints.encode())
    for rate, weights in sorted(emas.items()):
        digest.update(f"{rate} ".encode())
        inside = sorted(path for path in weights.path.rglob("*") if path.is_file()) or [weights.path]
        for path in inside:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def provenance(
    config: Config,
    checkpoints: CheckpointSet,
    fingerprint: str,
    training: Mapping[str, Any] | None,
    digests: Mapping[str, str],
) -> dict[str, Any]:
    """Provenance as JSON values.

    Args:
        config: the resolved config.
        checkpoints: the window.
        fingerprint: see `content_fingerprint`.
        training: what training measured; None where there was none.
        digests: of what the scores are measured with (`Engine.digests`).
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "machine": platform.machine(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "threads": torch.get_num_threads(),
        "device": config.device,
        "seed": config.seed,
        "train_seed": getattr(config.train, "seed", None) if config.checkpoints.path is None else None,
        "measured": {name: digest for name, digest in digests.items() if digest},
        "checkpoints": {
            "fingerprint": fingerprint,
            "count": len(checkpoints),
            "first_step": checkpoints.steps[0],
            "last_step": checkpoints.steps[-1],
            "tensors": len(checkpoints.tensors),
            "bytes": checkpoints.nbytes,
        },
        "training": dict(training) if training is not None else None,
    }


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What can move the last digits between two sessions of one run, as ``torch 2.6.0 -> 2.7.0``."""
    lines = []
    for key in _DECISIVE:
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += [f"{name} {old.get(name)} -> {new.get(name)}" for name in new if old.get(name) != new.get(name)]
        elif old != new:
            lines.append(f"{key} {old} -> {new}")
    return lines


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
