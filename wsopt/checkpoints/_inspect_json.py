"""`wsopt inspect --json`: the same facts as data. The keys are documented in docs/checkpoints.md and stay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from wsopt.checkpoints._base import Snapshot, TensorSpec
from wsopt.checkpoints._inspect import Inspection, StreamSummary
from wsopt.checkpoints._inspect_deep import DeepFacts

_MAX_DEPTH: Final = 50


def as_json(found: Inspection, deep: Sequence[DeepFacts] | None = None, *, tensors: bool = False) -> dict[str, Any]:
    """JSON values.

    Args:
        found: what there is.
        deep: of each stream, in order, where it was asked for.
        tensors: whether every tensor is listed.
    """
    streams = [_stream(one, tensors=tensors) for one in found.streams]
    for stream, facts in zip(streams, deep or (), strict=False):
        stream["deep"] = _deep(facts)
    return {
        "paths": [str(path) for path in found.paths],
        "streams": streams,
        "duplicates": [[_where(one) for one in group] for group in found.duplicates],
        "problems": [{"path": str(one.path), "kind": one.kind, "text": one.text} for one in found.problems],
        "others": [{"path": str(path), "kind": kind} for path, kind in found.others],
        "passed_over": [str(path) for path in found.passed_over],
    }


def _stream(one: StreamSummary, *, tensors: bool) -> dict[str, Any]:
    specs = one.tensors
    facts: dict[str, Any] = {
        "folder": str(one.folder),
        "kind": one.stream.kind,
        "rate": one.stream.rate,
        "width": one.stream.width,
        "part": one.part,
        "formats": list(one.formats),
        "count": len(one.snapshots),
        "copies": [str(snapshot.path) for snapshot in one.copies],
        "steps": list(one.steps),
        "without_step": [str(snapshot.path) for snapshot in one.without_step],
        "interval": one.interval,
        "missing": list(one.missing),
        "missing_count": one.missing_count,
        "tensors": len(specs),
        "values": one.values,
        "dtypes": one.dtypes,
        "bytes": one.nbytes,
        "prefixes": list(one.prefixes),
        "misfits": list(one.misfits),
        "lora": None,
        "config": _plain(one.config),
    }
    if one.lora is not None:
        facts["lora"] = {
            "modules": one.lora.modules,
            "ranks": list(one.lora.ranks),
            "scales": list(one.lora.scales),
            "unknown_alpha": one.lora.unknown_alpha,
        }
    if tensors:
        facts["tensor_list"] = [_tensor(name, spec) for name, spec in specs.items()]
    return facts


def _tensor(name: str, spec: TensorSpec) -> dict[str, Any]:
    dtype = str(spec.dtype).removeprefix("torch.")
    return {"name": name, "shape": list(spec.shape), "dtype": dtype, "bytes": spec.nbytes}


def _deep(facts: DeepFacts) -> dict[str, Any]:
    return {
        "broken": [
            {
                **_where(one.snapshot),
                "tensor": one.tensor,
                "nan": one.nan,
                "infinite": one.infinite,
                "values": one.values,
            }
            for one in facts.broken
        ],
        "unreadable": list(facts.unreadable),
        "combined": list(facts.combined),
        "constant": list(facts.constant),
        "clashing": list(facts.clashing),
        "distances": [
            {"steps": [one.earlier.step, one.later.step], "distance": _finite(one.distance)} for one in facts.distances
        ],
        "median_distance": facts.median,
        "near_duplicates": [[_where(one.earlier), _where(one.later)] for one in facts.near],
    }


def _where(snapshot: Snapshot) -> dict[str, Any]:
    return {"path": str(snapshot.path), "part": snapshot.part, "step": snapshot.step}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(value: object, depth: int = 0) -> Any:  # noqa: ANN401 - any JSON value
    """A reader's facts as JSON values, whatever it put there; what is nested deeper than `_MAX_DEPTH` becomes text."""
    if isinstance(value, Mapping | list | tuple) and depth == _MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): _plain(inside, depth + 1) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inside, depth + 1) for inside in value]
    if isinstance(value, float) and value - value != 0:  # NaN and infinity are no JSON
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
