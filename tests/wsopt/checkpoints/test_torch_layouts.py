"""Where the weights are in torch files of public training scripts."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wsopt.checkpoints import Snapshot, Stream, TorchReader
from wsopt.errors import CheckpointError

READER = TorchReader()
FORMATS = Path(__file__).parents[2] / "data" / "formats"
RAW, EMA, TARGET = Stream("raw"), Stream("ema"), Stream("target")


def net(value: float, prefix: str = "") -> OrderedDict[str, Tensor]:
    return OrderedDict({f"{prefix}w": torch.full((2, 3), value), f"{prefix}b": torch.full((3,), value + 0.5)})


def adam() -> dict[str, Any]:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return optimizer.state_dict()


def scanned(path: Path, value: object) -> list[Snapshot]:
    torch.save(value, path)
    assert READER.recognises(path)
    return list(READER.scan(path))


def holds(found: Snapshot, expected: dict[str, Tensor]) -> None:
    loaded = found.load()
    assert {name: spec.shape for name, spec in found.tensors.items()} == {
        name: tuple(one.shape) for name, one in expected.items()
    }
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def summary(found: list[Snapshot]) -> list[tuple[str, Stream, int | None]]:
    return [(one.part, one.stream, one.step) for one in found]


@pytest.mark.parametrize(
    ("name", "stream", "step"),
    [
        ("model000000.pt", RAW, 0),
        ("model1000000.pt", RAW, 1_000_000),
        ("ema_0.9999432189950708_600000.pt", Stream("ema", 0.9999432189950708), 600_000),
        ("target_model000100.pt", TARGET, 100),
    ],
)
def test_openai_files_by_name(tmp_path: Path, name: str, stream: Stream, step: int) -> None:
    found = scanned(tmp_path / name, net(1.0))
    assert summary(found) == [("", stream, step)]
    holds(found[0], net(1.0))


def test_ddim_lists_of_five_elements(tmp_path: Path) -> None:
    found = scanned(tmp_path / "ckpt_9.pth", [net(1.0, "module."), adam(), 3, 5000, net(2.0)])
    assert summary(found) == [("0", RAW, 5000), ("4", EMA, 5000)]
    holds(found[0], net(1.0, "module."))
    holds(found[1], net(2.0))


def test_ddim_lists_without_an_ema(tmp_path: Path) -> None:
    found = scanned(tmp_path / "ckpt_9.pth", [net(1.0, "module."), adam(), 3, 5000])
    assert summary(found) == [("", RAW, 5000)]
    holds(found[0], net(1.0, "module."))


@pytest.mark.parametrize("value", [[net(1.0)], [net(1.0), 1, 2, 3], [torch.ones(2)], [net(1.0), adam(), 1.5, "x"]])
def test_other_lists_are_named(tmp_path: Path, value: list[Any]) -> None:
    with pytest.raises(CheckpointError, match=rf"a-1\.pt .* not known \(top level: a list of {len(value)}\)"):
        scanned(tmp_path / "a-1.pt", value)


def test_k_diffusion(tmp_path: Path) -> None:
    held = {"model": net(1.0), "model_ema": net(2.0), "opt": adam(), "sched": {"last_epoch": 4}, "ema_sched": {},
            "epoch": 2, "step": 777, "gns_stats": None, "demo_gen": torch.Generator().get_state()}  # fmt: skip
    found = scanned(tmp_path / "run_00000700.pth", held)
    assert summary(found) == [("model", RAW, 777), ("model_ema", EMA, 777)]
    holds(found[1], net(2.0))


def test_dit(tmp_path: Path) -> None:
    held = {"model": net(1.0), "ema": net(2.0), "opt": adam(), "args": argparse.Namespace(lr=1e-4, ema_decay=0.9999)}
    found = scanned(tmp_path / "0050000.pt", held)
    assert summary(found) == [("model", RAW, 50_000), ("ema", EMA, 50_000)]
    holds(found[0], net(1.0))


def test_an_ema_rate_that_the_file_tells(tmp_path: Path) -> None:
    found = scanned(tmp_path / "a-3.pt", {"model": net(1.0), "ema": net(2.0), "ema_decay": 0.995, "target": net(3.0)})
    assert summary(found) == [("model", RAW, 3), ("ema", Stream("ema", 0.995), 3), ("target", TARGET, 3)]


@pytest.mark.parametrize("key", ["state_dict", "model", "net", "module", "model_state_dict"])
def test_weights_under_one_key(tmp_path: Path, key: str) -> None:
    held = {key: net(1.0), "optimizer": adam(), "epoch": 12, "best": torch.tensor(0.25), "iteration": 400}
    found = scanned(tmp_path / "epoch-12.pth", held)
    assert summary(found) == [("", RAW, 400)]
    holds(found[0], net(1.0))
    found = scanned(tmp_path / "ema_0.999_000400.pt", {key: net(1.0)})
    assert summary(found) == [("", Stream("ema", 0.999), 400)]


def test_lightning_with_an_ema_callback(tmp_path: Path) -> None:
    held = {
        "state_dict": net(1.0), "global_step": 1234, "epoch": 5, "pytorch-lightning_version": "2.4.0",
        "optimizer_states": [adam()], "lr_schedulers": [], "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"EMA": {"ema_state_dict": net(2.0), "ema_decay": 0.999}, "ModelCheckpoint{}": {"best": None}},
        "hyper_parameters": {"lr": 0.1},
    }  # fmt: skip
    found = scanned(tmp_path / "epoch=5-step=9.ckpt", held)
    assert summary(found) == [
        ("state_dict", RAW, 1234),
        ("callbacks/EMA/ema_state_dict", Stream("ema", 0.999), 1234),
    ]
    holds(found[1], net(2.0))
    del held["callbacks"]
    assert summary(scanned(tmp_path / "epoch=5-step=9.ckpt", held)) == [("", RAW, 1234)]


def test_wrappers_that_average_leave_the_network(tmp_path: Path) -> None:
    swa = {"n_averaged": torch.tensor(5), **net(1.0, "module.")}
    (found,) = scanned(tmp_path / "swa-5.pt", swa)
    holds(found, net(1.0, "module."))
    ema = {
        "initted": torch.tensor(True),
        "step": torch.tensor(9),
        **net(1.0, "online_model."),
        **net(2.0, "ema_model."),
    }
    found, beside = scanned(tmp_path / "model-9.pt", {"step": 9, "model": net(1.0), "ema": ema, "scaler": None})
    assert (found.stream, beside.stream) == (RAW, EMA)
    holds(beside, net(2.0))


def test_a_network_with_a_submodule_called_like_a_wrapper_keeps_all(tmp_path: Path) -> None:
    held = {**net(1.0, "ema_model."), **net(2.0, "head."), "n_averaged": torch.ones(1)}
    (found,) = scanned(tmp_path / "a-1.pt", held)
    holds(found, held)


def test_a_whole_network_of_torchs_own_modules(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    (found,) = scanned(tmp_path / "model-7.pt", network)
    assert (found.stream, found.step) == (RAW, 7)
    assert found.config["class_name"].endswith("Sequential")
    holds(found, dict(network.state_dict()))


def test_entries_that_are_no_tensors_are_passed_over(tmp_path: Path) -> None:
    found = scanned(tmp_path / "a-1.pt", {**net(1.0), "step": 30, "note": "text", "sizes": [1, 2], "extra": None})
    assert summary(found) == [("", RAW, 30)]
    holds(found[0], net(1.0))


@pytest.mark.parametrize(
    "value",
    [
        adam(),
        {"base_lrs": [0.1], "last_epoch": 3},
        {"epoch": 3},
        [],
        {"python": (3, (1, 2), None), "numpy": np.arange(3, dtype=np.uint32), "torch": torch.ones(9).byte()},
    ],
    ids=["optimizer", "scheduler", "numbers", "nothing", "generators"],
)  # fmt: skip
def test_files_without_weights(tmp_path: Path, value: object) -> None:
    assert scanned(tmp_path / "opt000100.pt", value) == []


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"generator": net(1.0), "discriminator": net(2.0)}, "generator, discriminator"),
        ({"model": net(1.0), "net": net(2.0)}, "model, net"),
        ({"model": net(1.0), "latents": torch.ones(3)}, "model, latents"),
        ({"w": np.ones(3, dtype=np.float32)}, "w"),
        ({f"k{i}": net(1.0) for i in range(20)}, "k0, k1, k2, k3, k4, k5, k6, k7, ..."),
        (torch.ones(3), "a tensor"),
    ],
)
def test_a_layout_that_is_not_clear_is_refused_with_its_keys(tmp_path: Path, value: object, named: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        scanned(tmp_path / "a-1.pt", value)
    message = str(caught.value)
    assert "a-1.pt holds tensors in a layout that is not known" in message
    assert f"(top level: {named})" in message


def test_a_step_that_is_none_is_not_taken(tmp_path: Path) -> None:
    for step in (True, -3, 10**15, 2.5, "9"):
        assert summary(scanned(tmp_path / "a-1.pt", {"model": net(1.0), "step": step})) == [("", RAW, 1)]


def test_files_that_accelerate_wrote() -> None:
    folder = FORMATS / "accelerate_bin" / "checkpoint-10"
    (found,) = READER.scan(folder / "pytorch_model.bin")
    assert len(found.tensors) == 44
    assert sum(one.numel() for one in found.load().values()) == 1953
    for name in ("optimizer.bin", "scheduler.bin"):
        assert READER.recognises(folder / name)
        assert list(READER.scan(folder / name)) == []
    assert list(READER.scan(FORMATS / "accelerate" / "checkpoint-10" / "random_states_0.pkl")) == []
