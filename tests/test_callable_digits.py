"""The benchmark of an objective of one's own, at a small size: it trains, and its search beats the uniform average."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from wsopt.checkpoints import SafetensorsReader, open_checkpoints

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "callable_digits.py"


@pytest.fixture(scope="module")
def program() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("callable_digits_under_test", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spec.loader.exec_module(module)
    yield module
    torch.set_num_threads(threads)
    del sys.modules[spec.name]


def test_the_functions_agree_with_the_network(program: ModuleType) -> None:
    model = program.network()
    weights = model.state_dict()
    with torch.no_grad():
        for split in ("validation", "test"):
            images, labels = program._images(split), program._labels(split)
            logits = model(images.reshape(-1, 1, 8, 8))
            loss = torch.nn.functional.cross_entropy(logits, labels)
            assert getattr(program, f"{split}_loss")(weights) == pytest.approx(float(loss), rel=1e-5)
            accuracy = (logits.argmax(dim=1) == labels).double().mean()
            assert getattr(program, f"{split}_accuracy")(weights) == float(accuracy)


def test_training_follows_from_its_seed(program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "STEPS", 60)
    before = torch.get_rng_state()
    first, again, other = (program.train(tmp_path / str(i), seed) for i, seed in enumerate((3, 3, 4)))
    assert torch.equal(before, torch.get_rng_state())
    for one, two in zip(first, again, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(first[0]["1.weight"], other[0]["1.weight"])
    window = open_checkpoints(tmp_path / "0", [SafetensorsReader()])
    assert window.steps == (20, 40, 60)
    assert window.tensors.keys() == program.network().state_dict().keys()


def test_the_study_searches_and_reports_held_out_accuracy(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = program.study(tmp_path, 1)
    assert found.keys() == {"best", "uniform", "last", "best-single", "ema*"}
    assert all(len(values) == 1 for values in found.values())
    assert found["best"][0] > found["uniform"][0] + 1
    weights = program.train(tmp_path / "again", 0)[-1]
    assert found["last"][0] == pytest.approx(100 * program.test_accuracy(weights))
    program.show({name: [values[0], values[0] - 1] for name, values in found.items()})
    gain = np.subtract(found["best"], found["uniform"])[0]
    assert f"searched is better by {gain:5.2f} +- 0.00" in capsys.readouterr().out
