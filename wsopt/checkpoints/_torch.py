"""Files of torch.save: zip archives, and the legacy format before torch 1.6."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import torch
from torch import Tensor

from wsopt.checkpoints._base import CheckpointReader, Snapshot, Stream, TensorSpec
from wsopt.checkpoints._lora_keys import looks_like_lora
from wsopt.checkpoints._pickle_storage import LEGACY_START, ZIP_HEADER_BYTES, ZIP_START, StoredTensor, refuse_inflated
from wsopt.checkpoints._torch_layouts import Leaf, Part, find_parts
from wsopt.checkpoints._torch_open import archive_names, open_tree
from wsopt.errors import CheckpointError

_SUFFIXES: Final = frozenset({".pt", ".pth", ".ckpt", ".bin"})


class TorchReader(CheckpointReader):
    """Files of torch.save, in the layouts of `wsopt.checkpoints._torch_layouts`; weights_only=True, always."""

    name = "torch"

    def recognises(self, path: Path) -> bool:
        """See `CheckpointReader.recognises`."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(1024)
        if len(start) < 4:
            return path.suffix in _SUFFIXES
        if not start.startswith(ZIP_START):
            return LEGACY_START in start[:64]
        if _is_data(_first_name(start)):
            return True
        return any(_is_data(name) for name in archive_names(path) or ())

    def scan(self, path: Path) -> Sequence[Snapshot]:
        """See `CheckpointReader.scan`. Of a zip archive no tensor is read; a legacy file is read whole."""
        return [
            Snapshot(path, part.address, _stream(part), part.step, _specs(path, part), self, part.config)
            for part in _parts(path, values=False)
        ]

    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        """See `CheckpointReader.load`. Only the wanted part is read; the tensors share no memory, nor with the file."""
        path = snapshot.path
        part = next((one for one in _parts(path, values=True) if one.address == snapshot.part), None)
        if part is None:
            raise CheckpointError(f"{path} no longer holds {snapshot.part or 'weights'}: it has changed. Start again.")
        _specs(path, part)
        try:
            with path.open("rb") as file:
                return {name: _own(tensor, file) for name, tensor in part.tensors.items()}
        except (EOFError, OSError) as error:
            raise CheckpointError(f"{path} ends before its tensors do: it has changed. Start again.") from error
        except (RuntimeError, MemoryError) as error:
            raise CheckpointError(f"{path} cannot be copied into memory: {error}.") from error


def _parts(path: Path, *, values: bool) -> Sequence[Part]:
    try:
        return find_parts(path, open_tree(path, values=values))
    except CheckpointError:
        raise
    except Exception as error:  # objects that only a made-up file holds
        raise CheckpointError(f"{path} is damaged ({error or type(error).__name__}). Save it again.") from error


def _stream(part: Part) -> Stream:
    return Stream("lora") if looks_like_lora(part.tensors) else part.stream


def _specs(path: Path, part: Part) -> Mapping[str, TensorSpec]:
    for name, tensor in part.tensors.items():
        if isinstance(tensor, StoredTensor):
            continue
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
            what = "quantized" if tensor.is_quantized else "nested" if tensor.is_nested else "sparse"
            raise CheckpointError(f"{path}: tensor {name} is {what}, which cannot be combined. Save it dense.")
    specs = {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in part.tensors.items()}
    refuse_inflated(path, specs.values())
    return specs


def _own(tensor: Leaf, file: BinaryIO) -> Tensor:
    """Exactly its values, in memory of their own: half-precision runs of OpenAI's code save views of one storage."""
    if isinstance(tensor, StoredTensor):
        return tensor.read(file)
    return tensor.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)


def _first_name(start: bytes) -> str | None:
    """Name of a zip archive's first record; None where the file ends within it."""
    if len(start) < ZIP_HEADER_BYTES:
        return None
    (length,) = struct.unpack_from("<H", start, 26)
    name = start[ZIP_HEADER_BYTES : ZIP_HEADER_BYTES + length]
    return name.decode("utf-8", "replace") if len(name) == length else None


def _is_data(name: str | None) -> bool:
    """True for ``archive/data.pkl``, which torch.save writes first, and for a name that cannot be seen."""
    return name is None or name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)
