"""LoraStack: LoRA checkpoints of one base model, combined exactly in the space of the weights' changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from wsopt.checkpoints import (
    CheckpointSet,
    LoraAdapter,
    LoraFactors,
    Snapshot,
    TensorSpec,
    adapter_at,
    check_finite,
    default_style,
    export_metadata,
    export_tensors,
    read_adapter,
)
from wsopt.errors import CheckpointError
from wsopt.tensors import as_bytes
from wsopt.types import FloatArray, WeightsFile
from wsopt.weightspace._base import Grouping, Policy, SpaceSettings, WeightSpace
from wsopt.weightspace._lora_forms import Factored, FormName, LoraForm, make_form
from wsopt.weightspace._rows import Rows
from wsopt.weightspace._storage import DTYPES


class LoraStack(WeightSpace):
    """theta(alpha) = base + sum_i alpha_i s_i B_i A_i, per layer group.

    Never (sum alpha_i B_i)(sum alpha_i A_i): factors that are averaged apart give products B_i A_j of different
    checkpoints. Ranks may differ between checkpoints and weights. The layer groups are over the adapted weights, by
    their names in the base model. Each weight's adapters are held in the form of fewer bytes, or in the one asked for.

    Args:
        checkpoints: the window, of kind ``lora``.
        settings: how they are held; `SpaceSettings.dtype` is that of dense differences.
        grouping: gives the layer group of each adapted weight; None lets all share their coefficients.
        base: the base model's weights by name. Those that are adapted are copied. None allows all but `write` and
            `write_file`.

    Raises:
        CheckpointError: an adapter that is not linear in its factors, that does not fit the base model, a weight that
            is not adapted in all checkpoints, an alpha that only some of them say; settings that a LoRA stack cannot
            follow.
    """

    def __init__(
        self,
        checkpoints: CheckpointSet,
        settings: SpaceSettings | None = None,
        grouping: Grouping | None = None,
        base: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._settings = settings or SpaceSettings()
        _check_settings(self._settings)
        self.checkpoints = checkpoints
        self.width = self._settings.width
        self._device = torch.device(self._settings.device)
        self._shapes: dict[str, TensorSpec] | None = None
        self._base: dict[str, Tensor] = {}
        if base is not None:
            self._shapes = {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in base.items()}
        adapters = self._read()
        if base is not None:
            self._base = {name: _base_weight(name, base[name], self._device) for name in adapters[0].modules}
        self._outline = _outline(adapters)
        shapes = {name: factors.shape for name, factors in adapters[0].modules.items()}
        groups = (None if grouping is None else grouping(shapes)) or dict.fromkeys(shapes, "all")
        self._groups = tuple(dict.fromkeys(groups[name] for name in shapes))
        self._group = {name: self._groups.index(groups[name]) for name in shapes}
        self._digest = _digest(checkpoints.steps, adapters)
        dtype = DTYPES[self._settings.dtype]
        self._forms = {
            name: make_form(factors, self.width, self._device, dtype, self._settings.lora)
            for name, factors in _taken(adapters)
        }
        self._rows = Rows((self.width, len(self._groups), len(checkpoints)))

    @property
    def steps(self) -> tuple[int, ...]:
        """See `WeightSpace.steps`."""
        return self.checkpoints.steps

    @property
    def groups(self) -> tuple[str, ...]:
        """See `WeightSpace.groups`."""
        return self._groups

    @property
    def nbytes(self) -> int:
        """Bytes that stay resident: the adapters, a block of candidates, and the base weights that are adapted."""
        kept = sum(tensor.numel() * tensor.element_size() for tensor in self._base.values())
        return kept + sum(form.nbytes for form in self._forms.values())

    @property
    def fingerprint(self) -> str:
        """See `WeightSpace.fingerprint`. Factors and scales; the base model is not in it."""
        return self._digest

    @property
    def policies(self) -> Mapping[str, Policy]:
        """See `WeightSpace.policies`: the adapted weights, by their names in the base model, are all combined."""
        return dict.fromkeys(self._forms, "combine")

    @property
    def forms(self) -> Mapping[str, FormName]:
        """The form in which the adapters of each weight are held."""
        return {name: form.kind for name, form in self._forms.items()}

    @property
    def dotted(self) -> bool:
        """False where modules are known by kohya names only, because the base model is unknown."""
        return self._outline.dotted

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user is to be told: alphas that are said nowhere."""
        return () if self._outline.warning is None else (self._outline.warning,)

    def gram(self) -> FloatArray:
        """See `WeightSpace.gram`. From the factors, in float64, without dense deltas."""
        full = np.zeros((len(self._groups), len(self.checkpoints), len(self.checkpoints)))
        for name, form in self._forms.items():
            full[self._group[name]] += form.gram()
        return full

    def prepare(self, coefficients: FloatArray, rows: tuple[int, ...] | None = None) -> None:
        """See `WeightSpace.prepare`."""
        padded = self._rows.take(coefficients, rows)
        for name, form in self._forms.items():
            form.merge(padded[:, self._group[name]])

    def tensors(self, row: int) -> dict[str, Tensor]:
        """The merged adapter as named tensors; see `metadata` for what belongs beside them.

        Returns:
            One-hot coefficients: that checkpoint's own tensors, bit for bit. Others: the stacked factors, exact, of
            rank sum r_i, float32, names as diffusers reads them (kohya's where the base model is unknown and the
            checkpoints have such names), coefficients and scales folded into factors B, so that alpha = rank.
        """
        single = self._rows.single(row)
        return self.checkpoints.load(single) if single is not None else export_tensors(self.adapter(row))

    def metadata(self, row: int) -> dict[str, str]:
        """Text entries for the header of a safetensors file with `tensors` of `row`: they say the scales.

        Nothing is said where the tensors say alpha themselves (diffusers refuses a file that says it twice), or where
        a checkpoint's own alpha is unknown.
        """
        single = self._rows.single(row)
        if single is None:
            adapter = self.adapter(row)
            return export_metadata(adapter) if default_style(adapter) == "diffusers" else {"format": "pt"}
        snapshot = self.checkpoints.snapshots[single]
        own = read_adapter(snapshot, self._shapes)
        said = any(name.endswith(".alpha") for name in snapshot.tensors)
        return export_metadata(own, folded=False) if own.alpha_known and not said else {"format": "pt"}

    def adapter(self, row: int) -> LoraAdapter:
        """The merged adapter of `row`, exact, all scales 1: rank sum r_i over the coefficients that are not 0."""
        found = {factors.name: factors for factors in self.combined(self._rows.coefficients(row))}
        return LoraAdapter(found, dotted=self.dotted)

    def combined(self, coefficients: FloatArray, dtype: torch.dtype = torch.float32) -> Iterator[LoraFactors]:
        """Exact factors of each weight's change, one after another; scale 1.

        Args:
            coefficients: ``[G, K]``.
            dtype: of the factors.
        """
        for name, form in self._factored().items():
            yield form.combined(coefficients[self._group[name]], dtype)

    def write(self, row: int, model: nn.Module) -> None:
        """See `WeightSpace.write`. Only adapted weights are written, each as base + change: nothing accumulates.

        Raises:
            CheckpointError: where the base model is unknown, or `model` lacks an adapted weight.
        """
        self._rows.coefficients(row)
        self._fill(model, lambda name: self._forms[name].delta(row))

    def file_tensors(self, target: WeightsFile) -> dict[str, Tensor]:
        """See `WeightSpace.file_tensors`: the tensors of a LoRA file that adapts the same weights; ranks may differ."""
        snapshot = self._snapshot(target)
        self._fitting(snapshot)
        tensors = snapshot.load()
        check_finite(snapshot, tensors)
        return tensors

    def write_file(self, target: WeightsFile, model: nn.Module) -> None:
        """See `WeightSpace.write_file`."""
        modules = self._fitting(self._snapshot(target)).modules
        self._fill(model, lambda name: modules[name].delta().to(self._device, torch.float32))

    def _snapshot(self, target: WeightsFile) -> Snapshot:
        return adapter_at(self.checkpoints, target.path, target.part)

    def _fitting(self, snapshot: Snapshot) -> LoraAdapter:
        adapter = read_adapter(snapshot, self._shapes)
        first = self.checkpoints.snapshots[0]
        _compare(first, self._forms, snapshot, adapter)
        _compare_alpha(first, self._outline, snapshot, adapter)
        return adapter

    def _fill(self, model: nn.Module, delta: Callable[[str], Tensor]) -> None:
        if self._shapes is None:
            raise CheckpointError(
                "LoRA checkpoints are changes of a base model, which is unknown here, so that nothing can be written "
                "into a network. Give the base model's weights."
            )
        own = model.state_dict()
        for name, base in self._base.items():
            if name not in own or own[name].shape != base.shape:
                found = f"has it as {list(own[name].shape)}" if name in own else "lacks it"
                raise CheckpointError(
                    f"the LoRA checkpoints adapt {name}, {list(base.shape)} in the base model; the network {found}."
                )
        with torch.no_grad():
            for name, base in self._base.items():
                own[name].copy_(torch.add(delta(name), base))

    def _read(self) -> list[LoraAdapter]:
        snapshots = self.checkpoints.snapshots
        adapters = []
        for snapshot in snapshots:
            adapters.append(read_adapter(snapshot, self._shapes))
            _compare(snapshots[0], adapters[0].modules, snapshot, adapters[-1])
            _compare_alpha(snapshots[0], adapters[0], snapshot, adapters[-1])
        return adapters

    def _factored(self) -> dict[str, Factored]:
        """All weights in the factored form; where some are held dense, the files are read again."""
        held = {name: form for name, form in self._forms.items() if isinstance(form, Factored)}
        if len(held) == len(self._forms):
            return held
        return {name: held.get(name) or Factored(factors, 0, self._device) for name, factors in _taken(self._read())}


def _check_settings(settings: SpaceSettings) -> None:
    if settings.memory == "mapped":
        raise CheckpointError(
            'weightspace.memory = "mapped": LoRA checkpoints are small and stay resident. Set it to "auto".'
        )
    if len(settings.devices) > 1:
        raise CheckpointError(
            f"weightspace.devices = {list(settings.devices)}: LoRA checkpoints are held on one device. Leave it out."
        )


def _base_weight(name: str, tensor: Tensor, device: torch.device) -> Tensor:
    if not tensor.is_floating_point():
        raise CheckpointError(
            f"the base model's weight {name} is {tensor.dtype}; a LoRA change cannot be added to it. Load the base "
            f"model in a floating dtype."
        )
    # The network's own tensors change with every candidate that is written.
    return tensor.detach().to(device, copy=True)


def _outline(adapters: Sequence[LoraAdapter]) -> LoraAdapter:
    """What holds of all adapters, without their factors."""
    return LoraAdapter({}, adapters[0].unknown_alpha, all(adapter.dotted for adapter in adapters))


def _taken(adapters: list[LoraAdapter]) -> Iterator[tuple[str, list[LoraFactors]]]:
    """Each weight with its factors of all checkpoints. The list is emptied: factors are let go of as they are taken."""
    pools = [dict(adapter.modules) for adapter in adapters]
    adapters.clear()
    for name in list(pools[0]):
        yield name, [pool.pop(name) for pool in pools]


def _compare(
    first: Snapshot, modules: Mapping[str, LoraForm] | Mapping[str, LoraFactors], where: Snapshot, adapter: LoraAdapter
) -> None:
    """Raise CheckpointError where `adapter` does not adapt the weights that the first checkpoint adapts."""
    for name in sorted(modules.keys() ^ adapter.modules.keys()):
        lacking, having = (where, first) if name in modules else (first, where)
        raise CheckpointError(
            f"{lacking} does not adapt {name}, {having} does. All checkpoints must come from one training run; move "
            f"the foreign one out of the folder."
        )
    for name, factors in adapter.modules.items():
        if factors.shape != modules[name].shape:
            raise CheckpointError(
                f"{where}: the factors of {name} give {list(factors.shape)}, those of {first} "
                f"{list(modules[name].shape)}. All checkpoints must come from one training run."
            )


def _compare_alpha(first: Snapshot, adapter: LoraAdapter, where: Snapshot, other: LoraAdapter) -> None:
    """Raise CheckpointError where one checkpoint says alpha and another does not: their scales would not agree."""
    for name in sorted(set(adapter.unknown_alpha) ^ set(other.unknown_alpha)):
        silent, telling = (first, where) if name in adapter.unknown_alpha else (where, first)
        raise CheckpointError(
            f"{silent} does not say alpha of {name}, {telling} does. Put the adapter_config.json of the training run "
            f"beside the one that lacks it."
        )


def _digest(steps: Sequence[int], adapters: Sequence[LoraAdapter]) -> str:
    digest = hashlib.sha256()
    for step, adapter in zip(steps, adapters, strict=True):
        digest.update(f"step {step}".encode())
        for name in sorted(adapter.modules):
            factors = adapter.modules[name]
            digest.update(f"{name} {factors.scale!r}".encode())
            for tensor in (factors.a, factors.b):
                digest.update(f"{list(tensor.shape)} {tensor.dtype}".encode())
                digest.update(as_bytes(tensor))
    return digest.hexdigest()
