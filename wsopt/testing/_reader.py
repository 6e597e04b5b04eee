"""The rules that every reader of checkpoints keeps, as one function that checks them."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import torch

from wsopt.checkpoints import CheckpointReader, Snapshot, TensorSpec
from wsopt.errors import CheckpointError
from wsopt.tensors import same_bits
from wsopt.testing._rng import untouched_random_state


def check_checkpoint_reader(
    reader: CheckpointReader,
    good_files: Sequence[Path],
    torn_files: Sequence[Path] = (),
    foreign_files: Sequence[Path] = (),
) -> None:
    """Check a reader against its contract.

    Args:
        reader: the reader.
        good_files: files, or folders where the format is a folder, that hold at least one set of weights each.
        torn_files: files of the format that are cut off or damaged.
        foreign_files: files of other formats; an empty one and one of text are worth a try.

    Raises:
        AssertionError: for the first rule that is broken, in words.
    """
    assert good_files, "give at least one good file: a reader that refuses everything would pass otherwise"
    assert isinstance(reader.name, str), "the reader's name is not text"
    assert reader.name, "the reader has no name"
    _check_picklable(reader)
    with untouched_random_state(f"the reader {reader.name!r}"):
        for path in good_files:
            _check_good(reader, path)
        for path in torn_files:
            _check_torn(reader, path)
        for path in foreign_files:
            assert reader.recognises(path) is False, f"recognises() takes {path}, which is of another format"


def _check_picklable(reader: CheckpointReader) -> None:
    try:
        pickle.dumps(reader)
    except Exception as error:
        raise AssertionError(
            f"the reader {reader.name!r} cannot be pickled ({error}): define its class at the top of a module and keep "
            f"no open files, so that workers in other processes can have it"
        ) from error


def _check_good(reader: CheckpointReader, path: Path) -> None:
    before = _digest(path)
    assert reader.recognises(path) is True, f"recognises() does not know {path}"
    snapshots = reader.scan(path)
    assert snapshots, f"scan() finds no weights in {path}"
    again = reader.scan(path)
    assert list(again) == list(snapshots), f"scan() gives two answers for {path}"
    parts = [snapshot.part for snapshot in snapshots]
    assert len(set(parts)) == len(parts), f"scan() gives two sets of weights in {path} the same part: {parts}"
    for snapshot in snapshots:
        _check_snapshot(reader, path, snapshot)
        _check_load(snapshot)
    assert _digest(path) == before, f"reading changed {path}"


def _check_snapshot(reader: CheckpointReader, path: Path, snapshot: Snapshot) -> None:
    assert isinstance(snapshot, Snapshot), f"scan() gives {type(snapshot).__name__}, not Snapshot"
    assert snapshot.path == path, f"scan() of {path} gives a snapshot of {snapshot.path}"
    assert isinstance(snapshot.reader, type(reader)), f"{snapshot}: its reader is {snapshot.reader!r}, not this one"
    assert snapshot.tensors, f"{snapshot}: no tensors"
    for name, spec in snapshot.tensors.items():
        assert isinstance(name, str), f"{snapshot}: the tensor name {name!r} is not text"
        assert isinstance(spec, TensorSpec), f"{snapshot}: tensor {name} is described by {spec!r}, not a TensorSpec"
    step = snapshot.step
    assert step is None or (type(step) is int and step >= 0), f"{snapshot}: the step is {step!r}, not None or an int"
    try:
        json.dumps(dict(snapshot.config), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{snapshot}: its config holds what JSON does not: {error}") from error


def _check_load(snapshot: Snapshot) -> None:
    tensors = snapshot.reader.load(snapshot)
    unlike = sorted(tensors.keys() ^ snapshot.tensors.keys())
    assert not unlike, f"{snapshot}: load() and scan() differ in {len(unlike)} names, {unlike[0]!r} first"
    for name, tensor in tensors.items():
        assert isinstance(tensor, torch.Tensor), f"{snapshot}: load() gives {name} as {type(tensor).__name__}"
        found = TensorSpec(tuple(tensor.shape), tensor.dtype)
        told = snapshot.tensors[name]
        assert found == told, f"{snapshot}: tensor {name} is {found}, and scan() told {told}"
        assert tensor.device.type == "cpu", f"{snapshot}: load() puts {name} on {tensor.device}, not on the CPU"
        assert not tensor.requires_grad, f"{snapshot}: load() gives {name} with requires_grad"
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    again = snapshot.reader.load(snapshot)
    changed = [name for name in kept if not same_bits(kept[name], again[name])]
    assert not changed, f"{snapshot}: load() gives two answers for {changed[0]}"


def _check_torn(reader: CheckpointReader, path: Path) -> None:
    assert reader.recognises(path) is True, f"recognises() does not know the torn file {path} for one of its own"
    try:
        for snapshot in reader.scan(path):
            snapshot.load()
    except CheckpointError as error:
        if path.name not in str(error):
            raise AssertionError(f"the message about the torn file {path} does not name it: {error}") from error
    except Exception as error:
        raise AssertionError(
            f"the torn file {path} raises {type(error).__name__} ({error}), not wsopt.errors.CheckpointError"
        ) from error
    else:
        raise AssertionError(f"the torn file {path} was read as if it were whole")


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(str(file.relative_to(path)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
