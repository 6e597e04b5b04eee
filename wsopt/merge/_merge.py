"""A merge from beginning to end: checks, plan, streaming, verification, the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsopt.checkpoints import CheckpointSet, LoraStyle
from wsopt.errors import InputError
from wsopt.merge._lora import MergedAdapter, compare, merge_adapters, write_merged
from wsopt.merge._metadata import metadata
from wsopt.merge._out import check_out
from wsopt.merge._recipe import Recipe
from wsopt.merge._stream import MergeSettings, StreamingMerger
from wsopt.merge._verify import Verification, verify
from wsopt.merge._write import TensorFile
from wsopt.progress import Progress
from wsopt.weightspace import DTYPES, clamp_warning


@dataclass(frozen=True)
class MergeRequest:
    """What is to be merged, and how.

    Args:
        checkpoints: the K checkpoints, in the order of the recipe.
        recipe: their coefficients.
        settings: how tensors are combined.
        folder: where the checkpoints lie; a merged file does not go there. None: nowhere in particular.
        keep_prefix: whether the wrapper prefix that the first checkpoint's names begin with is kept.
        verify: whether the file is compared with a second computation before it gets its name.
        force: whether a file that is there may be replaced.
        full_digests: whether the metadata get a digest of every source file's whole content.
        rank: LoRA: to cut the merged adapter down to; None keeps it exact.
        style: LoRA: names of the tensors; None takes what fits.
    """

    checkpoints: CheckpointSet
    recipe: Recipe
    settings: MergeSettings = field(default_factory=MergeSettings)
    folder: Path | None = None
    keep_prefix: bool = False
    verify: bool = False
    force: bool = False
    full_digests: bool = False
    rank: int | None = None
    style: LoraStyle | None = None

    def names(self) -> dict[str, str]:
        """Name in the merged file of each tensor."""
        own = list(self.checkpoints.tensors)
        if not self.keep_prefix:
            return dict(zip(own, own, strict=True))
        stored = self.checkpoints.named_as(self.checkpoints.snapshots[0].tensors).tensors
        return dict(zip(own, stored, strict=True))


@dataclass(frozen=True)
class Merged:
    """A merge that was done, or planned (`verification` is None, and so is `path` where none was given).

    Args:
        path: the file.
        nbytes: its size.
        recipe: the coefficients.
        reads: the steps of the checkpoints that are read.
        tensors: number of tensors by what is done with them.
        peak_bytes: projected memory: the largest checkpoint and the sums.
        verification: see there.
        warnings: what the user should know, one sentence each.
        adapter: of LoRA: ``rank``, ``style`` and ``truncation_error``, relative in the Frobenius norm.
    """

    path: Path | None
    nbytes: int
    recipe: Recipe
    reads: tuple[int, ...]
    tensors: Mapping[str, int]
    peak_bytes: int
    verification: Verification | None = None
    warnings: tuple[str, ...] = ()
    adapter: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        recipe = self.recipe
        return {
            "out": None if self.path is None else str(self.path),
            "bytes": self.nbytes,
            **recipe.as_json(),
            "sums": list(recipe.sums),
            "sum_abs": recipe.sum_abs,
            "read": list(self.reads),
            "tensors": dict(self.tensors),
            "peak_bytes": self.peak_bytes,
            "verification": None if self.verification is None else self.verification.as_json(),
            **({} if self.adapter is None else {"adapter": dict(self.adapter)}),
            "warnings": list(self.warnings),
        }


def plan_merge(request: MergeRequest, out: Path | None) -> Merged:
    """What `merge` would do, from headers alone; constant tensors are not known yet and count as combined.

    Of LoRA checkpoints, which are small, the merge is done in memory and only the file is not written.

    Raises:
        InputError: where `out` cannot be written, or the recipe does not fit the checkpoints.
    """
    if out is not None:
        _check_out(request, out)
    if request.checkpoints.kind == "lora":
        return _adapter_merged(request, _adapter(request), out, None, None)
    merger = StreamingMerger(request.checkpoints, request.recipe, _checked(request))
    file = _file(request, merger, out if out is not None else Path("merged.safetensors"))
    return _merged(request, merger, out, file.nbytes, None)


def merge(request: MergeRequest, out: Path, progress: Progress) -> Merged:
    """Merge into the file `out`, which is there whole or not at all.

    Raises:
        InputError: where `out` cannot be written, or the recipe does not fit the checkpoints.
        CheckpointError: a torn checkpoint, a NaN, or differing tensors that cannot be combined.
        WsoptError: where writing or the verification fails.
    """
    _check_out(request, out)
    if request.checkpoints.kind == "lora":
        return _merge_adapters(request, out, progress)
    merger = StreamingMerger(request.checkpoints, request.recipe, _checked(request))
    own = {stored: name for name, stored in request.names().items()}
    verification = None
    # Entered before the checkpoints are read: a folder that cannot be written is told at once.
    with _file(request, merger, out) as file:
        merger.run(progress)
        for stored in file.names:
            file.put(stored, merger.tensor(own[stored]))
        merger.release()
        file.flush()
        if request.verify:
            verification = verify(file.temporary, merger, request.names(), progress)
        file.commit()
    return _merged(request, merger, out, file.nbytes, verification)


def _checked(request: MergeRequest) -> MergeSettings:
    if request.rank is not None or request.style is not None:
        raise InputError(
            f"--rank and --style are for LoRA checkpoints, and these are of kind {request.checkpoints.kind}. Leave "
            f"them out."
        )
    return request.settings


def _check_out(request: MergeRequest, out: Path) -> None:
    inputs = [snapshot.path for snapshot in (*request.checkpoints.snapshots, *request.checkpoints.emas)]
    is_folder = request.checkpoints.kind == "lora" and request.style == "peft"
    check_out(out, inputs, request.folder, request.force, is_folder)


def _merge_adapters(request: MergeRequest, out: Path, progress: Progress) -> Merged:
    with progress.stage("merge", 1) as stage:
        found = _adapter(request)
        stage.update(1)

    def check(path: Path) -> Verification:
        return compare(path, found, request.recipe, request.checkpoints)

    facts = _metadata(request, range(len(request.checkpoints)))
    nbytes, verification = write_merged(found, out, facts, check if request.verify else None)
    return _adapter_merged(request, found, out, nbytes, verification)


def _adapter(request: MergeRequest) -> MergedAdapter:
    dtype = None if request.settings.dtype == "keep" else DTYPES[request.settings.dtype]
    return merge_adapters(request.checkpoints, request.recipe, request.rank, request.style, dtype)


def _metadata(request: MergeRequest, reads: Sequence[int]) -> dict[str, str]:
    chosen = request.settings
    settings = {"dtype": chosen.dtype, "copy_from": chosen.copy_from, "batchnorm": chosen.batchnorm}
    return metadata(request.checkpoints, request.recipe, reads, settings, request.full_digests)


def _file(request: MergeRequest, merger: StreamingMerger, out: Path) -> TensorFile:
    names = request.names()
    specs = {names[name]: spec for name, spec in merger.specs.items()}
    return TensorFile(out, specs, _metadata(request, merger.reads))


def _merged(
    request: MergeRequest, merger: StreamingMerger, out: Path | None, nbytes: int, verification: Verification | None
) -> Merged:
    return Merged(
        path=out,
        nbytes=nbytes,
        recipe=request.recipe,
        reads=tuple(request.checkpoints.steps[index] for index in merger.reads),
        tensors=Counter(merger.policies.values()),
        peak_bytes=merger.peak_bytes,
        verification=verification,
        warnings=(*_warnings(request), *filter(None, [clamp_warning(merger.clamped)])),
    )


def _adapter_merged(
    request: MergeRequest, found: MergedAdapter, out: Path | None, nbytes: int | None, verification: Verification | None
) -> Merged:
    size = sum(tensor.numel() * tensor.element_size() for tensor in found.tensors.values())
    return Merged(
        path=out,
        nbytes=size if nbytes is None else nbytes,
        recipe=request.recipe,
        reads=request.checkpoints.steps,
        tensors={"combine": len(found.tensors) // 2 if found.adapter is None else len(found.adapter.modules)},
        peak_bytes=request.checkpoints.nbytes + size,
        verification=verification,
        warnings=(*_warnings(request), *found.warnings),
        adapter={"rank": found.rank, "style": found.style, "truncation_error": found.error},
    )


def _warnings(request: MergeRequest) -> tuple[str, ...]:
    skipped = (f"passed over: {problem.text}" for problem in request.checkpoints.skipped)
    return (*request.recipe.warnings(), *request.checkpoints.notes, *skipped)
