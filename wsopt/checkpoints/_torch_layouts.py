"""Where the weights are in the objects of a torch file: one function for each layout of public training scripts.

Each function returns the sets of weights it finds, an empty tuple where the layout is its own and holds none, and None
where the objects are of another layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from torch import Tensor

from wsopt.checkpoints._base import Stream
from wsopt.checkpoints._names import identify
from wsopt.checkpoints._pickle_modules import describe_module, module_tensors
from wsopt.checkpoints._pickle_passive import Array, Dtype, Node
from wsopt.checkpoints._pickle_storage import StoredTensor
from wsopt.errors import CheckpointError

Leaf: TypeAlias = Tensor | StoredTensor

RAW_KEYS: Final = ("state_dict", "model_state_dict", "model", "net", "module", "network", "unet", "params")
EMA_KEYS: Final = ("ema_state_dict", "model_ema", "ema", "ema_model", "state_dict_ema", "params_ema", "unet_ema")
TARGET_KEYS: Final = ("target_model", "model_target", "target")
STEP_KEYS: Final = ("global_step", "global_steps", "step", "iteration", "iter")
RATE_KEYS: Final = ("ema_rate", "ema_decay")
_MAX_STEP = 10**15
_MAX_OBJECTS = 1_000_000


@dataclass(frozen=True)
class Part:
    """One set of weights in a file.

    Args:
        address: the keys that lead to it, joined with ``/``; empty where it is the file's only one.
        stream: what the weights are.
        step: training step, as the content tells it, else as the name does.
        tensors: by name as stored.
        config: an architecture's arguments, where the file has them.
    """

    address: str
    stream: Stream
    step: int | None
    tensors: Mapping[str, Leaf]
    config: Mapping[str, Any] = field(default_factory=dict)


def find_parts(path: Path, tree: object) -> Sequence[Part]:
    """The sets of weights in `tree`, the objects of the file at `path`.

    Raises:
        CheckpointError: no layout fits, naming what is at the top.
    """
    if not any(_floating(one) for one in _leaves(tree)):
        return ()
    for layout in _LAYOUTS:
        parts = layout(path, tree)
        if parts is not None:
            return (replace(parts[0], address=""),) if len(parts) == 1 else parts
    raise CheckpointError(
        f"{path} holds tensors in a layout that is not known ({_described(tree)}). Save the weights alone: "
        f"torch.save(model.state_dict(), ...)."
    )


def optimizer(path: Path, tree: object) -> tuple[Part, ...] | None:
    """``{"state", "param_groups"}`` of torch.optim: ``optNNNNNN.pt``, ``optimizer.bin``. No weights."""
    return () if isinstance(tree, Mapping) and {"state", "param_groups"} <= tree.keys() else None


def module(path: Path, tree: object) -> tuple[Part, ...] | None:
    """A whole network of torch's own or of NVlabs' persistent classes, saved instead of its state_dict."""
    if not isinstance(tree, Node) or not (weights := _weights(tree)):
        return None
    stream, step = identify(path)
    return (Part("", stream, step, weights, describe_module(tree)),)


def state_dict(path: Path, tree: object) -> tuple[Part, ...] | None:
    """Name -> tensor: files of openai/consistency_models and guided-diffusion; their names tell stream and step.

    Entries of other types are passed over, as long as there is no tensor inside them.
    """
    weights = _weights(tree)
    if weights is None or not isinstance(tree, Mapping):
        return None
    stream, named = identify(path)
    told = _step(tree)
    return (Part("", stream, named if told is None else told, weights),)


def ddim(path: Path, tree: object) -> tuple[Part, ...] | None:
    """The list of ermongroup/ddim: state_dict, optimizer, epoch, step and, where there was one, an EMA."""
    if not isinstance(tree, list | tuple) or len(tree) not in (4, 5):
        return None
    weights, state, epoch, step = tree[:4]
    raw = _weights(weights)
    if raw is None or optimizer(path, state) is None or type(epoch) is not int or type(step) is not int:
        return None
    parts = [Part("0", Stream("raw"), step, raw)]
    if len(tree) == 5 and (ema := _weights(tree[4])) is not None:
        parts.append(Part("4", Stream("ema"), step, ema))
    return tuple(parts)


def edm2(path: Path, tree: object) -> tuple[Part, ...] | None:
    """The training state of NVlabs/edm2: ``net``, and ``ema`` with one state_dict per width in ``stds``.

    Steps are thousands of images, as in the names of its snapshots.
    """
    if not isinstance(tree, Mapping) or not isinstance(tree.get("ema"), Mapping):
        return None
    widths, emas = tree["ema"].get("stds"), tree["ema"].get("emas")
    raw = _weights(tree.get("net"))
    if raw is None or not isinstance(widths, list | tuple) or not isinstance(emas, list | tuple):
        return None
    if len(widths) != len(emas):
        raise CheckpointError(f"{path} has {len(emas)} EMAs of {len(widths)} widths. Save that training state again.")
    step = identify(path)[1]
    images = tree["state"].get("cur_nimg") if isinstance(tree.get("state"), Mapping) else None
    if step is None and type(images) is int:
        step = images // 1000
    parts = [Part("net", Stream("raw"), step, raw)]
    for index, (width, ema) in enumerate(zip(widths, emas, strict=True)):
        weights = _weights(ema)
        if weights is not None and isinstance(width, float):
            parts.append(Part(f"ema/emas/{index}", Stream("ema", width=width), step, weights))
    return tuple(parts)


def lightning(path: Path, tree: object) -> tuple[Part, ...] | None:
    """Lightning's ``state_dict`` and ``global_step``, and the ``ema_state_dict`` that EMA callbacks keep."""
    if not isinstance(tree, Mapping) or "pytorch-lightning_version" not in tree:
        return None
    parts = nested(path, tree)
    callbacks = tree.get("callbacks")
    for name, state in callbacks.items() if parts and isinstance(callbacks, Mapping) else ():
        weights = _weights(state.get("ema_state_dict")) if isinstance(state, Mapping) else None
        if parts and weights is not None:
            ema = Part(f"callbacks/{name}/ema_state_dict", Stream("ema", _rate(state)), parts[0].step, weights)
            parts = (replace(parts[0], stream=Stream("raw")), *parts[1:], ema)
    return parts


def nested(path: Path, tree: object) -> tuple[Part, ...] | None:
    """Weights under a usual key, alone or with an EMA or a target network beside them.

    k-diffusion has ``model`` and ``model_ema``, DiT ``model`` and ``ema``, NVlabs/edm's training state a whole network
    in ``net``, many others ``state_dict``, ``model`` or ``module``.
    """
    if not isinstance(tree, Mapping):
        return None
    # Weights at the top belong to another layout; the state of a random generator, which is bytes, does not.
    if any(isinstance(one, Leaf) and one.ndim and one.is_floating_point() for one in tree.values()):
        return None
    raw, emas, targets = (_under(tree, keys) for keys in (RAW_KEYS, EMA_KEYS, TARGET_KEYS))
    if max(len(raw), len(emas), len(targets)) != 1 or len(raw) > 1:
        return None
    named, step = identify(path)
    told = _step(tree)
    step = step if told is None else told
    alone = not emas and not targets
    return (
        *(Part(key, named if alone else Stream("raw"), step, one, _config(tree[key])) for key, one in raw.items()),
        *(Part(key, Stream("ema", _rate(tree)), step, one, _config(tree[key])) for key, one in emas.items()),
        *(Part(key, Stream("target"), step, one, _config(tree[key])) for key, one in targets.items()),
    )


_LAYOUTS: Final[tuple[Callable[[Path, object], tuple[Part, ...] | None], ...]] = (
    optimizer,
    module,
    state_dict,
    ddim,
    edm2,
    lightning,
    nested,
)


def _under(tree: Mapping[Any, Any], keys: Sequence[str]) -> dict[str, dict[str, Leaf]]:
    found = ((key, _weights(tree.get(key))) for key in keys)
    return {key: weights for key, weights in found if weights is not None}


def _weights(value: object) -> dict[str, Leaf] | None:
    """`value` as a state_dict; None where it is none, or one with tensors further inside."""
    if isinstance(value, Node):
        return {**module_tensors(value, StoredTensor), **module_tensors(value, Tensor)} or None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return None
    weights = {name: one for name, one in value.items() if isinstance(one, Leaf)}
    others = [one for one in value.values() if not isinstance(one, Leaf)]
    if not any(one.is_floating_point() for one in weights.values()) or any(
        isinstance(one, Leaf) for one in _leaves(others)
    ):
        return None
    return _averaged(weights)


def _averaged(weights: dict[str, Leaf]) -> dict[str, Leaf]:
    """Without what wrappers that average add: torch's AveragedModel a counter, ema-pytorch a second network."""
    both = {name: one for name, one in weights.items() if name not in ("initted", "step")}
    if all(name.startswith(("ema_model.", "online_model.")) for name in both):
        ema = {name.removeprefix("ema_model."): one for name, one in both.items() if name.startswith("ema_model.")}
        return ema or both
    rest = {name: one for name, one in weights.items() if name != "n_averaged"}
    return rest if rest and all(name.startswith("module.") for name in rest) else weights


def _floating(leaf: Leaf | Array) -> bool:
    if isinstance(leaf, Leaf):
        return leaf.is_floating_point()
    return isinstance(leaf.dtype, Dtype) and leaf.dtype.name.startswith("f")


def _leaves(tree: object) -> Iterator[Leaf | Array]:
    """All tensors and numpy arrays in `tree`, each container once."""
    waiting, seen = [tree], set[int]()
    while waiting and len(seen) < _MAX_OBJECTS:
        value = waiting.pop()
        if isinstance(value, Leaf | Array):
            yield value
        elif isinstance(value, Node | Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            inside = value.state if isinstance(value, Node) else value
            waiting += (
                inside.values() if isinstance(inside, Mapping) else inside if isinstance(inside, list | tuple) else ()
            )


def _config(value: object) -> dict[str, Any]:
    return describe_module(value) if isinstance(value, Node) else {}


def _step(tree: Mapping[Any, Any]) -> int | None:
    told = [tree[key] for key in STEP_KEYS if type(tree.get(key)) is int]
    return told[0] if told and 0 <= told[0] < _MAX_STEP else None


def _rate(tree: Mapping[Any, Any]) -> float | None:
    told = [tree[key] for key in RATE_KEYS if isinstance(tree.get(key), float)]
    return told[0] if told and 0 < told[0] < 1 else None


def _described(tree: object) -> str:
    if isinstance(tree, Mapping):
        keys = [key[:40] if isinstance(key, str) else type(key).__name__ for key in list(tree)[:8]]
        return f"top level: {', '.join(keys)}{', ...' if len(tree) > 8 else ''}"
    kind = "tensor" if isinstance(tree, Leaf) else type(tree).__name__
    return f"top level: a {kind}" + (f" of {len(tree)}" if isinstance(tree, list | tuple) else "")
