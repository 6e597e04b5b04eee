"""The readers that come with wsopt keep the rules, and the kit finds those that do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from wsopt.checkpoints import (
    CheckpointReader,
    DiffusersReader,
    FlaxReader,
    SafetensorsReader,
    ShardedReader,
    Snapshot,
    Stream,
    TensorSpec,
    TorchReader,
)
from wsopt.errors import CheckpointError
from wsopt.testing.conformance import check_checkpoint_reader

FORMATS = Path(__file__).parents[2] / "data" / "formats"
WEIGHTS = {"b.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.full((3,), float("nan"))}


class TextReader(CheckpointReader):
    """Weights as JSON text behind a first line, to be broken in one place."""

    name = "text"

    def recognises(self, path: Path) -> bool:
        return path.is_file() and path.read_bytes()[:5] == b"TEXT\n"

    def scan(self, path: Path) -> Sequence[Snapshot]:
        values = self._read(path)
        specs = {name: TensorSpec((len(row),), torch.float32) for name, row in values.items()}
        return [Snapshot(path, "", Stream(), 7, specs, self)]

    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        return {name: torch.tensor(row) for name, row in self._read(snapshot.path).items()}

    def _read(self, path: Path) -> dict[str, list[float]]:
        try:
            found: dict[str, list[float]] = json.loads(path.read_bytes()[5:])
        except ValueError as error:
            raise CheckpointError(f"{path} is torn: restore it.") from error
        return found


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    contents = {
        "good": b'TEXT\n{"w": [1.0, 2.0], "v": [3.0]}',
        "torn": b'TEXT\n{"w": [1.0,',
        "foreign": b"PK\3\4",
        "": b"",
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.txt").write_bytes(content)
    return {name: tmp_path / f"{name}.txt" for name in contents}


def check(reader: CheckpointReader, files: dict[str, Path]) -> None:
    check_checkpoint_reader(reader, [files["good"]], [files["torn"]], [files["foreign"], files[""]])


def test_a_reader_of_one_s_own(files: dict[str, Path]) -> None:
    check(TextReader(), files)


class TakesAll(TextReader):
    def recognises(self, path: Path) -> bool:
        return True


class TakesNothing(TextReader):
    def recognises(self, path: Path) -> bool:
        return False


class WrongShape(TextReader):
    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        return {name: tensor[None] for name, tensor in super().load(snapshot).items()}


class Missing(TextReader):
    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        return {"w": super().load(snapshot)["w"]}


class Traceback(TextReader):
    def _read(self, path: Path) -> dict[str, list[float]]:
        found: dict[str, list[float]] = json.loads(path.read_bytes()[5:])
        return found


class Nameless(TextReader):
    def _read(self, path: Path) -> dict[str, list[float]]:
        try:
            return super()._read(path)
        except CheckpointError as error:
            raise CheckpointError("a file is torn") from error


class Lenient(TextReader):
    def _read(self, path: Path) -> dict[str, list[float]]:
        try:
            return super()._read(path)
        except CheckpointError:
            return {"w": [0.0]}


class Empty(TextReader):
    def scan(self, path: Path) -> Sequence[Snapshot]:
        return []


class Counting(TextReader):
    def __init__(self) -> None:
        self.loads = 0

    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        self.loads += 1
        return {name: tensor + self.loads for name, tensor in super().load(snapshot).items()}


class Drawing(TextReader):
    def recognises(self, path: Path) -> bool:
        torch.rand(1)
        return super().recognises(path)


class Holding(TextReader):
    def __init__(self) -> None:
        self.generator = (number for number in range(3))


class Writing(TextReader):
    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        snapshot.path.write_bytes(snapshot.path.read_bytes() + b" ")
        return super().load(snapshot)


class NegativeStep(TextReader):
    def scan(self, path: Path) -> Sequence[Snapshot]:
        (one,) = super().scan(path)
        return [Snapshot(one.path, one.part, one.stream, -1, one.tensors, self)]


class Training(TextReader):
    def load(self, snapshot: Snapshot) -> dict[str, Tensor]:
        return {name: tensor.requires_grad_() for name, tensor in super().load(snapshot).items()}


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (TakesAll(), "which is of another format"),
        (TakesNothing(), r"recognises\(\) does not know .*good\.txt"),
        (WrongShape(), r"tensor w is \[1, 2\] float32, and scan\(\) told \[2\] float32"),
        (Missing(), "differ in 1 names, 'v' first"),
        (Traceback(), r"torn\.txt raises JSONDecodeError"),
        (Nameless(), "does not name it: a file is torn"),
        (Lenient(), "was read as if it were whole"),
        (Empty(), r"scan\(\) finds no weights"),
        (Counting(), r"load\(\) gives two answers for w"),
        (Drawing(), "changed the global random state of torch"),
        (Holding(), "cannot be pickled"),
        (Writing(), r"reading changed .*good\.txt"),
        (NegativeStep(), "the step is -1"),
        (Training(), "with requires_grad"),
    ],
)
def test_broken_rules_are_found(reader: CheckpointReader, message: str, files: dict[str, Path]) -> None:
    with pytest.raises(AssertionError, match=message):
        check(reader, files)


def test_a_reader_cannot_pass_without_a_file() -> None:
    with pytest.raises(AssertionError, match="at least one good file"):
        check_checkpoint_reader(TextReader(), [])


# ---- the readers of wsopt


def cut(path: Path, part: float) -> Path:
    """A copy of a file, cut off."""
    torn = path.with_name(f"torn-{path.name}")
    content = path.read_bytes()
    torn.write_bytes(content[: int(len(content) * part)])
    return torn


def test_safetensors(tmp_path: Path, files: dict[str, Path]) -> None:
    path = tmp_path / "step-10.safetensors"
    save_file(WEIGHTS, path)
    check_checkpoint_reader(SafetensorsReader(), [path], [cut(path, 0.9)], [files["foreign"], files["good"]])


def test_torch(tmp_path: Path, files: dict[str, Path]) -> None:
    path, old = tmp_path / "model000010.pt", tmp_path / "model000020.pt"
    torch.save(WEIGHTS, path)
    torch.save(WEIGHTS, old, _use_new_zipfile_serialization=False)
    check_checkpoint_reader(TorchReader(), [path, old], [cut(path, 0.7)], [files["good"]])


def test_flax(tmp_path: Path, files: dict[str, Path]) -> None:
    good = sorted(path for path in (FORMATS / "flax" / "cd" / "checkpoints").iterdir() if path.is_file())
    copy = tmp_path / good[0].name
    copy.write_bytes(good[0].read_bytes())
    check_checkpoint_reader(FlaxReader(), good, [cut(copy, 0.8)], [files["good"]])


def test_folders(files: dict[str, Path]) -> None:
    good = sorted((FORMATS / "accelerate").iterdir()) + sorted((FORMATS / "diffusers_ema").iterdir())
    check_checkpoint_reader(DiffusersReader(), good, (), [files["good"]])


def test_shards(files: dict[str, Path]) -> None:
    good = [*(FORMATS / "safetensors").rglob("*.index.json")]
    assert good
    check_checkpoint_reader(ShardedReader(), good, (), [files["good"]])
