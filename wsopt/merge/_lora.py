"""Merging LoRA checkpoints: exact in the space of the weights' changes, or cut down to a rank."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from wsopt.checkpoints import (
    CheckpointSet,
    LoraAdapter,
    LoraStyle,
    TensorSpec,
    default_style,
    export_metadata,
    export_names,
    export_tensors,
    read_adapter,
    write_adapter,
)
from wsopt.errors import InputError, WsoptError
from wsopt.files import write_text
from wsopt.merge._recipe import Recipe
from wsopt.merge._verify import Verification, tolerance_of
from wsopt.merge._write import TensorFile
from wsopt.types import FloatArray
from wsopt.weightspace import LoraStack, SpaceSettings, truncate


@dataclass(frozen=True, eq=False)
class MergedAdapter:
    """A merged adapter in memory.

    Args:
        adapter: the factors; None where the merge is one checkpoint as it is.
        tensors: as they are written, by name.
        metadata: text entries that say the scales.
        style: names of the tensors; None with `adapter` None.
        dtype: of the factors.
        rank: largest rank of a weight.
        error: relative Frobenius error of cutting the rank; 0 where it was not cut.
        warnings: unknown alphas.
    """

    adapter: LoraAdapter | None
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    style: LoraStyle | None
    dtype: torch.dtype
    rank: int
    error: float
    warnings: tuple[str, ...]


def merge_adapters(
    checkpoints: CheckpointSet, recipe: Recipe, rank: int | None, style: LoraStyle | None, dtype: torch.dtype | None
) -> MergedAdapter:
    """Combine LoRA checkpoints.

    Args:
        checkpoints: of kind ``lora``.
        recipe: their coefficients; its groups are of adapted weights.
        rank: to cut down to; None keeps the exact sum, of rank sum r_i.
        style: names of the tensors; None takes diffusers' (kohya's where modules are known by such names only), or
            leaves a single checkpoint as it is.
        dtype: of the factors; None takes float32, or leaves a single checkpoint as it is.

    Raises:
        CheckpointError: where the adapters cannot be combined or written in that style.
        InputError: where the recipe's groups do not fit the adapted weights.
    """
    stack = LoraStack(checkpoints, SpaceSettings(width=1, lora="factored"), recipe.grouping)
    values = _in_order(recipe, stack.groups)
    stack.prepare(values[None])
    if recipe.single is not None and rank is None and style is None and dtype is None:
        own = read_adapter(checkpoints.snapshots[recipe.single])
        largest = max(factors.rank for factors in own.modules.values())
        own_dtype = next(iter(own.modules.values())).a.dtype
        tensors, facts = stack.tensors(0), stack.metadata(0)
        return MergedAdapter(None, tensors, facts, None, own_dtype, largest, 0.0, stack.warnings)
    adapter, error = stack.adapter(0), 0.0
    if rank is not None:
        adapter, truncation = truncate(stack, values, rank)
        error = truncation.total
    chosen = style or default_style(adapter)
    factor_dtype = dtype or torch.float32
    return MergedAdapter(
        adapter=adapter,
        tensors=export_tensors(adapter, chosen, factor_dtype),
        metadata=export_metadata(adapter) if chosen == "diffusers" else {"format": "pt"},
        style=chosen,
        dtype=factor_dtype,
        rank=max(factors.rank for factors in adapter.modules.values()),
        error=error,
        warnings=stack.warnings,
    )


def write_merged(
    merged: MergedAdapter, out: Path, facts: Mapping[str, str], check: Callable[[Path], Verification] | None
) -> tuple[int, Verification | None]:
    """Write to `out`, whole or not at all.

    Args:
        merged: the adapter.
        out: the file, or in peft style the folder.
        facts: text entries for the header.
        check: looks at the written file under its temporary name and raises where it is wrong.

    Returns:
        Bytes written, and what `check` found.

    Raises:
        InputError: where `out` cannot be written.
        WsoptError: where writing or the check fails.
    """
    if merged.style == "peft":
        return _write_folder(merged, out, facts, check)
    specs = {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in merged.tensors.items()}
    with TensorFile(out, specs, {**facts, **merged.metadata}) as file:
        for name in file.names:
            file.put(name, merged.tensors[name])
        file.flush()
        found = None if check is None else check(file.temporary)
        file.commit()
    return file.nbytes, found


def _write_folder(
    merged: MergedAdapter, out: Path, facts: Mapping[str, str], check: Callable[[Path], Verification] | None
) -> tuple[int, Verification | None]:
    assert merged.adapter is not None
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        weights = write_adapter(temporary, merged.adapter, "peft", merged.dtype)
        write_text(temporary / "merge.json", facts["wsopt"] + "\n")
        found = None if check is None else check(weights)
        size = sum(file.stat().st_size for file in temporary.iterdir())
        out.mkdir(parents=True, exist_ok=True)
        for file in sorted(temporary.iterdir()):
            file.replace(out / file.name)
    except OSError as error:
        raise WsoptError(f"{out} could not be written: {error.strerror}. Give another --out, or make room.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return size, found


def compare(path: Path, merged: MergedAdapter, recipe: Recipe, checkpoints: CheckpointSet) -> Verification:
    """Compare the change that the file at `path` makes to each weight with the sum of the checkpoints' own, in float64.

    Raises:
        WsoptError: where it is off by more than rounding and the cut rank explain.
    """
    written = load_file(path)
    if merged.adapter is None:
        assert recipe.single is not None
        own = checkpoints.load(recipe.single)
        if written.keys() != own.keys() or not all(torch.equal(written[name], own[name]) for name in own):
            raise WsoptError("verification failed: the file is not the copy that it should be. It was removed.")
        return Verification(0.0, next(iter(own)), tolerance_of(torch.float32), len(own))
    style = merged.style or default_style(merged.adapter)
    groups = recipe.members({name: factors.shape for name, factors in merged.adapter.modules.items()})
    exact = _exact(recipe, checkpoints, groups)
    off = whole = 0.0
    worst, where = 0.0, next(iter(exact))
    for name, factors in merged.adapter.modules.items():
        down, up = (written[one].double().flatten(1).numpy() for one in export_names(factors.module, style))
        difference = float(np.linalg.norm(up @ down - exact[name]))
        size = float(np.linalg.norm(exact[name]))
        off, whole = off + difference**2, whole + size**2
        if size and difference / size > worst:
            worst, where = difference / size, name
    error = float(np.sqrt(off / whole)) if whole else float(np.sqrt(off))
    # Rounding of both factors, and of sums of large terms that cancel.
    tolerance = 4 * tolerance_of(merged.dtype) * max(1.0, recipe.sum_abs)
    if not error <= merged.error + tolerance:
        raise WsoptError(
            f"verification failed: the changes of the weights are off by a relative {error:.2g} (most of {where}), and "
            f"rounding and the cut rank explain {merged.error + tolerance:.2g}. The file was removed."
        )
    return Verification(error, where, merged.error + tolerance, len(exact))


def _exact(recipe: Recipe, checkpoints: CheckpointSet, groups: Mapping[str, int]) -> dict[str, FloatArray]:
    total: dict[str, FloatArray] = {}
    for index in recipe.used or (0,):
        for name, factors in read_adapter(checkpoints.snapshots[index]).modules.items():
            alpha = float(recipe.values[groups[name], index]) * factors.scale
            change = alpha * (factors.b.double().flatten(1).numpy() @ factors.a.double().flatten(1).numpy())
            total[name] = total[name] + change if name in total else change
    return total


def _in_order(recipe: Recipe, groups: tuple[str, ...]) -> FloatArray:
    """The coefficients in the stack's order of groups."""
    if len(recipe.groups) == 1 and len(groups) == 1:
        return recipe.values
    unknown = [group for group in groups if group not in recipe.groups]
    if unknown or recipe.grouping is None:
        raise InputError(
            f"{recipe.label}: the coefficients are of the layer groups {', '.join(recipe.groups[:5])}, and the adapted "
            f"weights fall into {', '.join(groups[:5])}. Give the run's folder, or a file with a grouping that fits."
        )
    return recipe.values[[recipe.groups.index(group) for group in groups]]
