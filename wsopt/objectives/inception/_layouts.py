"""The layouts that the weights are published in, and how one becomes the other.

``pt_inception-2015-12-05-6726825d.pth`` (pytorch-fid) and ``weights-inception-2015-12-05-6726825d.pth``
(torch-fidelity) are one file under two names: 95,628,359 bytes of the same SHA-256, keys as in PyTorch's Inception v3.
``inception-2015-12-05.pt`` (consistency_models, which LCSC's evaluator reads) names the layers as the TensorFlow graph
does, and has neither counters nor scales of the normalisation, which are 1 in the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsopt.errors import InputError
from wsopt.objectives.inception._network import CLASSES, DIMENSION, LAYERS

_SHOWN = 3
_ADVICE = "Give one of the published files, or leave `weights` out."
_TORCH_PARTS = ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
_GRAPH_PARTS = {"beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}
_COUNTER = ".bn.num_batches_tracked"


def _torch_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in LAYERS:
        shapes[f"{layer.name}.conv.weight"] = (layer.outputs, layer.inputs, *layer.kernel)
        shapes |= {f"{layer.name}.{part}": (layer.outputs,) for part in _TORCH_PARTS}
    return shapes | {"fc.weight": (CLASSES, DIMENSION), "fc.bias": (CLASSES,)}


def _graph_keys() -> dict[str, str]:
    keys: dict[str, str] = {}
    for layer in LAYERS:
        keys[f"layers.{layer.graph_name}.weight"] = f"{layer.name}.conv.weight"
        keys |= {f"layers.{layer.graph_name}.{part}": f"{layer.name}.{other}" for part, other in _GRAPH_PARTS.items()}
    return keys | {"output.weight": "fc.weight", "output.bias": "fc.bias"}


TORCH_SHAPES = _torch_shapes()
"""PyTorch's layout: 472 keys, 23,885,392 values. The files may hold a counter beside each normalisation as well."""
COUNTERS = frozenset(f"{layer.name}{_COUNTER}" for layer in LAYERS)
"""Keys of the 94 counters: batches seen in training, which nothing here depends on."""
GRAPH_KEYS = _graph_keys()
"""The layout of consistency_models: key -> key of PyTorch's layout."""


def canonical(state: Any, path: Path) -> dict[str, Tensor]:  # noqa: ANN401 - whatever the file held
    """The weights in PyTorch's layout.

    Args:
        state: what was read from the file, a state dict of either layout.
        path: of the file, for messages.

    Returns:
        float32 tensors by the keys of `TORCH_SHAPES`, without the counters.

    Raises:
        InputError: naming the first tensors that are missing, of another shape, or not finite.
    """
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise InputError(f"{path} holds no state dict but a {type(state).__name__}. {_ADVICE}")
    named = _in_torch_layout(state)
    wrong = [f"{_name_in(state, key)} {text}" for key, text in _differences(named)]
    if wrong:
        shown = "; ".join(wrong[:_SHOWN]) + (f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
        raise InputError(f"{path} does not hold the FID Inception network: {shown}. {_ADVICE}")
    weights = {key: named[key].detach().to("cpu", torch.float32) for key in TORCH_SHAPES}
    for key, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path}: {_name_in(state, key)} has values that are not finite. {_ADVICE}")
    return weights


def _in_torch_layout(state: Mapping[str, Any]) -> dict[str, Any]:
    if not _is_graph(state):
        return {key: value for key, value in state.items() if key not in COUNTERS}
    ones = {key: torch.ones(shape) for key, shape in TORCH_SHAPES.items() if key.endswith(".bn.weight")}
    return ones | {GRAPH_KEYS.get(key, key): value for key, value in state.items()}


def _is_graph(state: Mapping[str, Any]) -> bool:
    return any(key.startswith("layers.") for key in state)


def _name_in(state: Mapping[str, Any], key: str) -> str:
    """What `key` of PyTorch's layout is called in the layout of `state`."""
    return next((name for name, other in GRAPH_KEYS.items() if other == key), key) if _is_graph(state) else key


def _differences(named: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    for key, shape in TORCH_SHAPES.items():
        value = named.get(key)
        if value is None:
            found.append((key, "is missing"))
        elif not isinstance(value, Tensor) or not value.is_floating_point():
            found.append((key, "holds no floating-point numbers"))
        elif tuple(value.shape) != shape:
            found.append((key, f"has shape {list(value.shape)} instead of {list(shape)}"))
    return found + [(key, "is not part of it") for key in named if key not in TORCH_SHAPES]
