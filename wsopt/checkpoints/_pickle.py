"""Pickled networks (NVlabs EDM, EDM2) and pickled dictionaries of arrays, read without running any of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from wsopt.checkpoints._base import CheckpointReader, Snapshot, Stream
from wsopt.checkpoints._names import identify
from wsopt.checkpoints._pickle_ids import ForeignGlobal
from wsopt.checkpoints._pickle_modules import describe_loss, describe_module, module_tensors
from wsopt.checkpoints._pickle_passive import Array, Node
from wsopt.checkpoints._pickle_storage import LEGACY_START, StoredTensor, refuse_inflated, stored_array
from wsopt.checkpoints._pickle_unpickler import unpickle
from wsopt.errors import CheckpointError

_OPCODES = frozenset(b"(.012FGIJKLMNPQRSTUVXBC])}abcdeghijlopqrstu") | frozenset(range(0x80, 0x99))
_ZEROS = bytes(4)
_EMA, _RAW = "ema", ("net", "model")


class EdmPickleReader(CheckpointReader):
    """Plain pickles of protocol 2 to 5: snapshots of NVlabs EDM and EDM2, and dictionaries of arrays or tensors.

    Nothing that the file names is imported or called: names on a fixed list become passive objects, all others are
    refused. Tensors stay in the file until they are loaded.
    """

    name = "edm-pickle"

    def recognises(self, path: Path) -> bool:
        """See `CheckpointReader.recognises`."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(64)
        if len(start) < 3:
            return path.suffix == ".pkl"
        if start[4:8] == _ZEROS and start[8:9] == b"{":  # the length of a safetensors header can look like opcodes
            return False
        known = start[0] == 0x80 and 2 <= start[1] <= 5 and start[2] in _OPCODES
        return known and LEGACY_START not in start

    def scan(self, path: Path) -> Sequence[Snapshot]:
        """See `CheckpointReader.scan`. No tensor is read; ``config`` has the architecture's arguments."""
        named, step = identify(path)
        return [
            Snapshot(
                path,
                part.address,
                Stream("ema") if part.ema and named.kind == "raw" else named,
                step,
                {name: one.spec for name, one in part.tensors.items()},
                self,
                part.config,
            )
            for part in _parts(path)
        ]

    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        """See `CheckpointReader.load`. The tensors share no memory."""
        path = snapshot.path
        tensors = next((part.tensors for part in _parts(path) if part.address == snapshot.part), None)
        if tensors is None:
            raise CheckpointError(f"{path} no longer holds {snapshot.part or 'weights'}: it has changed. Start again.")
        try:
            with path.open("rb") as file:
                return {name: one.read(file) for name, one in tensors.items()}
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
        except (EOFError, MemoryError) as error:
            raise _torn(path, error) from error


@dataclass(frozen=True)
class _Part:
    address: str
    tensors: dict[str, StoredTensor]
    config: dict[str, Any]
    ema: bool = False


def _parts(path: Path) -> list[_Part]:
    """Every set of weights in the file."""
    tree = _tree(path)
    try:
        if isinstance(tree, Node):
            tree = {"model": tree}
        if not isinstance(tree, Mapping):
            raise _unknown(path, type(tree).__name__)
        modules = _modules(tree)
        parts = modules or _arrays(path, tree)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        raise _torn(path, error) from error
    for part in parts:
        refuse_inflated(path, [one.spec for one in part.tensors.values()])
    return [replace(parts[0], address="")] if len(parts) == 1 else parts


def _tree(path: Path) -> object:
    try:
        return unpickle(path)
    except ForeignGlobal as error:
        raise CheckpointError(
            f"{path} asks for {error}, which wsopt does not know to be harmless: it never runs code from a file. "
            f"Load the file with the code that wrote it and save the network's state_dict as safetensors."
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise _torn(path, error) from error


def _modules(tree: Mapping[Any, Any]) -> list[_Part]:
    loss = describe_loss(tree.get("loss_fn"))
    found: list[_Part] = []
    for key in (_EMA, *_RAW):
        node = tree.get(key)
        tensors = module_tensors(node, StoredTensor) if isinstance(node, Node) else {}
        if isinstance(node, Node) and tensors:
            config = {**describe_module(node), **({"loss_fn": loss} if loss else {})}
            found.append(_Part(key, tensors, config, ema=key == _EMA))
    return found


def _arrays(path: Path, tree: Mapping[Any, Any]) -> list[_Part]:
    """A dictionary of tensors or numpy arrays; nothing where it holds neither."""
    found: dict[str, StoredTensor] = {}
    for key, value in tree.items():
        tensor = stored_array(value) if isinstance(value, Array) else value
        if isinstance(key, str) and isinstance(tensor, StoredTensor):
            found[key] = tensor
        elif isinstance(value, Array | Node | Mapping | list | tuple):
            raise _unknown(path, ", ".join(one[:40] for one in list(tree)[:8] if isinstance(one, str)))
    return [_Part("", found, {})] if found else []


def _unknown(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is a pickle of an unknown layout (top level: {what or 'empty'}). Save the network's state_dict as "
        f"safetensors, or as a dictionary of arrays."
    )


def _torn(path: Path, error: Exception) -> CheckpointError:
    if isinstance(error, EOFError):
        return CheckpointError(
            f"{path} is torn: it ends within its pickle. Restore that file, or save that checkpoint again."
        )
    said = str(error) or type(error).__name__
    return CheckpointError(f"{path} is a damaged pickle ({said}). Restore that file, or save that checkpoint again.")
