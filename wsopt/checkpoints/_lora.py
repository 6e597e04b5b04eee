"""LoRA files: which weight each pair of factors changes, and by how much.

The change of a weight is scale * B A, with scale = alpha / r, or alpha / sqrt(r) with rsLoRA (arXiv:2312.03732). A
file rarely says alpha itself: peft writes it into ``adapter_config.json``, diffusers into the safetensors metadata
(when asked to), kohya into a tensor per module, the others nowhere.

What is not linear in the factors is refused: DoRA, LoHa, LoKr, and initialisations that also change the base weights.
So are tensors beside the factors (trained biases, ``modules_to_save``, ``lora_bias``), which no loader but peft takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from wsopt.checkpoints._base import Snapshot, TensorSpec
from wsopt.checkpoints._lora_config import LoraConfigs
from wsopt.checkpoints._lora_keys import ModuleNames, Role, looks_like_lora, not_linear, parse_key
from wsopt.checkpoints._set import CheckpointSet, check_finite
from wsopt.errors import CheckpointError


class Shaped(Protocol):
    """A tensor, or what a header tells of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""


@dataclass(frozen=True)
class LoraFactors:
    """One adapted weight: it changes by ``scale * b @ a``, both flattened to matrices.

    Args:
        name: the weight's name in the base model, ``down_blocks.0.attentions.0.proj_in.weight``.
        a: factor A, ``[r, in]``, of a convolution ``[r, in, kh, kw]``; floating.
        b: factor B, ``[out, r]``, of a convolution ``[out, r, 1, 1]``; floating.
        scale: alpha / r, or alpha / sqrt(r) with rsLoRA.
    """

    name: str
    a: Tensor
    b: Tensor
    scale: float = 1.0

    @property
    def module(self) -> str:
        """The adapted module's name in the base model."""
        return self.name.removesuffix(".weight")

    @property
    def rank(self) -> int:
        """The number r of rows of A and columns of B."""
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight: ``[out, in]``, or ``[out, in, kh, kw]``."""
        return (self.b.shape[0], *self.a.shape[1:])

    def delta(self) -> Tensor:
        """The change of the weight, dense, in its shape; float32, or float64 where a factor is."""
        dtype = torch.promote_types(torch.promote_types(self.a.dtype, self.b.dtype), torch.float32)
        product = self.b.flatten(1).to(dtype) @ self.a.flatten(1).to(dtype)
        return (self.scale * product).reshape(self.shape)

    def folded(self) -> LoraFactors:
        """The same change with scale 1, so that a loader that takes alpha = rank is right. float32."""
        return LoraFactors(self.name, self.a.float(), (self.b.double() * self.scale).float())


@dataclass(frozen=True)
class LoraAdapter:
    """All factors of one checkpoint.

    Args:
        modules: by the weight's name, in the base model's order where it is known, else in the file's.
        unknown_alpha: weights whose alpha is said nowhere; their scale is 1 (alpha = rank), as public loaders assume.
        dotted: False where a kohya name could not be resolved, because the base model is unknown.
    """

    modules: Mapping[str, LoraFactors]
    unknown_alpha: tuple[str, ...] = ()
    dotted: bool = True

    @property
    def alpha_known(self) -> bool:
        """True where every module's scale is what training used."""
        return not self.unknown_alpha

    @property
    def warning(self) -> str | None:
        """What the user is to be told about unknown alphas; None where all are known."""
        if self.alpha_known:
            return None
        more = f" and {len(self.unknown_alpha) - 1} more" if len(self.unknown_alpha) > 1 else ""
        return (
            f"the LoRA files do not say alpha of {self.unknown_alpha[0]}{more}; alpha = rank is assumed (scale 1). "
            f"If training used another, every change is wrong by that factor: put its adapter_config.json beside it."
        )


@dataclass(frozen=True)
class LoraModule:
    """One adapted weight as a header tells it.

    Args:
        name: the weight's name in the base model.
        tensors: name in the file by role; ``alpha`` where the file has such a tensor.
        rank: r.
        shape: of the weight.
        scale: as the configuration says; None where only the tensor ``alpha`` tells, or nothing.
    """

    name: str
    tensors: Mapping[Role, str] = field(repr=False)
    rank: int
    shape: tuple[int, ...]
    scale: float | None

    @property
    def alpha_known(self) -> bool:
        """True where the file or its configuration says alpha."""
        return self.scale is not None or "alpha" in self.tensors


def lora_modules(snapshot: Snapshot, base: Mapping[str, Shaped] | None = None) -> dict[str, LoraModule]:
    """The adapted weights of a LoRA checkpoint, by name in the base model, without reading tensors.

    Args:
        snapshot: of stream kind ``lora``.
        base: the base model's tensors (or their shapes) by name; None where it is unknown: then kohya names stay as
            they are and shapes are not compared.

    Raises:
        CheckpointError: a tensor that is no factor, a missing partner, shapes that do not fit each other or the base
            model, an adapter that is not linear in its factors; naming the file and the tensor or module.
    """
    configs = LoraConfigs(snapshot)
    found = [
        _module(snapshot, name, pair, configs) for name, pair in _pairs(snapshot, ModuleNames(base), configs).items()
    ]
    if base is None:
        return {module.name: module for module in found}
    fitted = {module.name: _fitted(snapshot, module, base) for module in found}
    return {name: fitted[name] for name in base if name in fitted}


def read_adapter(snapshot: Snapshot, base: Mapping[str, Shaped] | None = None) -> LoraAdapter:
    """Read a LoRA checkpoint. See `lora_modules`.

    Returns:
        Factors as stored, on the CPU, convolutions in their own shape.

    Raises:
        CheckpointError: as `lora_modules`; a NaN or infinity; an alpha that is no finite number other than 0.
    """
    modules = lora_modules(snapshot, base)
    tensors = snapshot.load()
    check_finite(snapshot, tensors)
    factors = {}
    for name, module in modules.items():
        scale = module.scale
        if "alpha" in module.tensors:
            stored = module.tensors["alpha"]
            scale = _alpha(snapshot, stored, tensors[stored]) / module.rank
        a, b = tensors[module.tensors["a"]], tensors[module.tensors["b"]]
        # A 1x1 convolution's factors may be stored as matrices, and the other way round.
        a = a.reshape(module.rank, *module.shape[1:])
        factors[name] = LoraFactors(name, a, b, 1.0 if scale is None else scale)
    unknown = tuple(name for name, module in modules.items() if not module.alpha_known)
    flat = base is None and any(module.tensors["a"].startswith("lora_") for module in modules.values())
    return LoraAdapter(factors, unknown, not flat)


def adapter_at(checkpoints: CheckpointSet, path: Path, part: str = "") -> Snapshot:
    """The LoRA checkpoint at `path` (a training-time EMA), of any format that the set's readers know.

    Raises:
        CheckpointError: where there is none such, or what is there is no LoRA.
    """
    snapshot = checkpoints.find(path, part)
    if not looks_like_lora(snapshot.tensors):
        raise CheckpointError(f"{snapshot} holds no LoRA factors, the checkpoints are LoRA. Give a LoRA file.")
    return snapshot


def _pairs(snapshot: Snapshot, names: ModuleNames, configs: LoraConfigs) -> dict[str, dict[Role, str]]:
    """Tensor names by role, by module as the base model names it."""
    pairs: dict[str, dict[Role, str]] = {}
    for tensor, spec in snapshot.tensors.items():
        key = parse_key(tensor)
        if (reason := not_linear(tensor)) is not None:
            raise CheckpointError(
                f"{snapshot}: tensor {tensor} belongs to {reason}, so that its checkpoints cannot be combined as LoRA. "
                f"Merge each checkpoint into the base model and combine those weights."
            )
        if key is None or (key.role != "alpha" and not spec.dtype.is_floating_point):
            raise CheckpointError(
                f"{snapshot}: tensor {tensor} ({spec}) is no LoRA factor, and would be lost. Save the factors alone, "
                f"or merge each checkpoint into the base model and combine those weights."
            )
        try:
            module = names.resolve(key.module)
        except ValueError as error:
            raise CheckpointError(f"{snapshot}: tensor {tensor}: {error}. Save the adapter with peft.") from error
        pair = pairs.setdefault(module, {})
        if key.role in pair:
            raise CheckpointError(
                f"{snapshot}: tensors {pair[key.role]} and {tensor} are the same factor of {module}: two adapters in "
                f"one file. Save each into a file of its own."
            )
        pair[key.role] = tensor
        configs.seen(module, key.module)
    return pairs


def _module(snapshot: Snapshot, module: str, pair: Mapping[Role, str], configs: LoraConfigs) -> LoraModule:
    if missing := [role for role in ("a", "b") if role not in pair]:
        have = next(iter(pair.values()))
        raise CheckpointError(
            f"{snapshot}: module {module} has {have} and no factor {' and no factor '.join(missing).upper()}. "
            f"The file is incomplete: save that checkpoint again."
        )
    a, b = snapshot.tensors[pair["a"]], snapshot.tensors[pair["b"]]
    if len(a.shape) < 2 or len(b.shape) < 2 or a.shape[0] != b.shape[1] or any(n != 1 for n in b.shape[2:]):
        raise CheckpointError(
            f"{snapshot}: the factors of module {module} do not fit: {pair['a']} is {_shape(a)}, {pair['b']} is "
            f"{_shape(b)}; expected [r, in, ...] and [out, r]. Save that checkpoint again."
        )
    if 0 in (*a.shape, *b.shape):
        raise CheckpointError(f"{snapshot}: a factor of module {module} is empty. Save that checkpoint again.")
    if "alpha" in pair and snapshot.tensors[pair["alpha"]].numel != 1:
        raise CheckpointError(f"{snapshot}: {pair['alpha']} is {_shape(snapshot.tensors[pair['alpha']])}, no number.")
    scale = configs.scale(module, a.shape[0])
    return LoraModule(f"{module}.weight", dict(pair), a.shape[0], (b.shape[0], *a.shape[1:]), scale)


def _fitted(snapshot: Snapshot, module: LoraModule, base: Mapping[str, Shaped]) -> LoraModule:
    """`module` with the shape that its weight has in the base model."""
    if module.name not in base:
        raise CheckpointError(
            f"{snapshot}: {module.tensors['a']} adapts {module.name}, which the base model lacks. The adapter belongs "
            f"to another network, or holds more than one (a text encoder's too): save this network's factors alone."
        )
    shape = tuple(base[module.name].shape)
    if shape[:1] != module.shape[:1] or math.prod(shape[1:]) != math.prod(module.shape[1:]):
        raise CheckpointError(
            f"{snapshot}: the factors of {module.name} give {list(module.shape)}, the base model has {list(shape)}. "
            f"The adapter belongs to another network."
        )
    return replace(module, shape=shape)


def _alpha(snapshot: Snapshot, name: str, tensor: Tensor) -> float:
    alpha = float(tensor)
    if alpha == 0 or not math.isfinite(alpha):
        raise CheckpointError(f"{snapshot}: {name} is {alpha}; public loaders disagree on its meaning. Set it right.")
    return alpha


def _shape(spec: TensorSpec) -> str:
    return str(list(spec.shape))
