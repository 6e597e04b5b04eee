"""Tensor names of LoRA files, in every style that public training scripts write.

==================  =============================================================================
peft file           ``base_model.model.M.lora_A.weight`` / ``.lora_B.weight``
add_adapter         ``M.lora_A.weight``; in memory ``M.lora_A.default.weight``
diffusers           ``unet.M.lora_A.weight``
diffusers script    ``unet.M.lora.down.weight`` / ``.up.weight``
LCM script          ``unet.base_model.model.M.lora_A.weight``
kohya               ``lora_unet_M_with_underscores.lora_down.weight`` / ``.lora_up.weight`` / ``.alpha``
attention processor ``unet.B.attn1.processor.to_q_lora.down.weight``, ``to_out_lora`` for ``to_out.0``
==================  =============================================================================

M is the adapted module's name in the base model; A (down) is ``[r, in, ...]`` and B (up) is ``[out, r, ...]``. Files
that mix styles are read name by name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Role: TypeAlias = Literal["a", "b", "alpha"]

_PROCESSOR: Final = re.compile(r"(.+)\.processor\.(.+)_lora\.(down|up)\.weight")
_PEFT: Final = re.compile(r"(.+)\.lora_([AB])(?:(?:\.[^.]+)?\.weight)?")
_SCRIPT: Final = re.compile(r"(.+)\.(?:lora|lora_layer|lora_linear_layer)\.(down|up)\.weight")
_KOHYA: Final = re.compile(r"(.+)\.lora_(down|up)\.weight")
_ALPHA: Final = re.compile(r"(.+)\.alpha")
_ROLES: Final[Mapping[str, Role]] = {"A": "a", "B": "b", "down": "a", "up": "b"}
_WRAPPERS: Final = re.compile(r"((?:module\.|_orig_mod\.)*(?:unet\.|transformer\.)?)((?:base_model\.model\.)?)(.+)")
_FLAT: Final = re.compile(r"lora_(?:unet|transformer)_([^.]+)")
_NOT_LINEAR: Final = {
    "lora_magnitude_vector": "DoRA: its weight is not linear in the factors",
    "dora_scale": "DoRA: its weight is not linear in the factors",
    "lora_mid": "a Tucker core between the factors",
    "lora_embedding": "factors of an embedding",
    "hada": "LoHa: a product of two low-rank matrices, element by element",
    "lokr": "LoKr: a Kronecker product",
}
_MARKS: Final = re.compile(r"(?:^|\.)(lora_magnitude_vector|dora_scale|lora_mid|lora_embedding|hada|lokr)(?=[._]|$)")


@dataclass(frozen=True)
class LoraKey:
    """What a tensor's name says.

    Args:
        module: the adapted module as written, with prefixes (`ModuleNames.resolve` gives the base model's name).
        role: factor A (down), factor B (up), or the module's alpha.
    """

    module: str
    role: Role


def parse_key(name: str) -> LoraKey | None:
    """The module and role that `name` tells, or None where it is no factor and no alpha in any style."""
    if match := _PROCESSOR.fullmatch(name):
        # Of all attention projections, the output alone is a list of modules.
        projection = "to_out.0" if match[2] == "to_out" else match[2]
        return LoraKey(f"{match[1]}.{projection}", _ROLES[match[3]])
    for pattern in (_PEFT, _SCRIPT, _KOHYA):
        if match := pattern.fullmatch(name):
            return LoraKey(match[1], _ROLES[match[2]])
    return LoraKey(match[1], "alpha") if (match := _ALPHA.fullmatch(name)) else None


def looks_like_lora(names: Iterable[str]) -> bool:
    """True where one of `names` is a LoRA factor, or belongs to an adapter that is none (DoRA, LoHa, LoKr)."""
    return any(
        _MARKS.search(name) is not None or ((key := parse_key(name)) is not None and key.role != "alpha")
        for name in names
    )


def not_linear(name: str) -> str | None:
    """What the tensor `name` is, where weights are not a product of two factors because of it; else None."""
    match = _MARKS.search(name)
    return None if match is None else _NOT_LINEAR[match[1]]


class ModuleNames:
    """From a module as written in a LoRA file to its name in the base model.

    Args:
        base: tensor names of the base model; None where it is unknown: then prefixes are stripped, and a kohya name,
            whose underscores may stand for dots, stays as it is.
    """

    def __init__(self, base: Collection[str] | None = None) -> None:
        weights = () if base is None else [name for name in base if name.endswith(".weight")]
        self._modules = {name.removesuffix(".weight") for name in weights}
        self._flat: dict[str, list[str]] = {}
        for module in sorted(self._modules):
            self._flat.setdefault(module.replace(".", "_"), []).append(module)

    def resolve(self, module: str) -> str:
        """The base model's name of `module`; the bare name where the base model has none such or is unknown.

        Raises:
            ValueError: where a kohya name stands for several modules of the base model, naming them.
        """
        if module in self._modules:
            return module
        if match := _FLAT.fullmatch(module):
            return self._unflattened(match[1])
        match = _WRAPPERS.fullmatch(module)
        assert match is not None  # the last part of the pattern takes anything
        outer, peft, bare = match.groups()
        # A network may itself have a part called "unet" or "transformer".
        kept = next((name for name in (f"{outer}{bare}", f"{peft}{bare}") if name in self._modules), None)
        return kept or bare

    def _unflattened(self, flat: str) -> str:
        found = self._flat.get(flat, [])
        if len(found) > 1:
            raise ValueError(f"the name {flat} stands for several modules of the base model: {', '.join(found)}")
        return found[0] if found else flat
