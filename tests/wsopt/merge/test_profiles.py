from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from wsopt.checkpoints import CheckpointSet, SafetensorsReader, Selection, scan
from wsopt.errors import CheckpointError, InputError
from wsopt.merge import (
    MergeSettings,
    Source,
    StreamingMerger,
    parse_profile,
    posthoc_recipe,
    profile_recipe,
)
from wsopt.progress import SilentProgress

STEPS = (100, 200, 400)
Opener = Callable[..., CheckpointSet]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("last", [0, 0, 1]),
        ("single:200", [0, 1, 0]),
        ("single:0200", [0, 1, 0]),
        ("uniform", [1 / 3, 1 / 3, 1 / 3]),
        ("ema:0.99", np.array([0.99**300, 0.99**200, 1]) / (0.99**300 + 0.99**200 + 1)),
        ("ema-from-first:0.99", [0.99**300, 0.99**200 - 0.99**300, 1 - 0.99**200]),
        # The widest power-function EMA is nearly the plain average: as much weight as steps since the one before.
        ("power:0.288", np.array([1, 1, 2]) / 4),
    ],
)
def test_profiles(text: str, expected: list[float]) -> None:
    recipe = profile_recipe(parse_profile(text), STEPS)
    assert recipe.steps == STEPS
    assert recipe.values[0] == pytest.approx(np.array(expected), abs=0.01 if text.startswith("power") else 1e-12)
    assert recipe.sums == pytest.approx((1.0,), abs=1e-12)
    assert recipe.label == text.replace(":0200", ":200")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean", "no such profile. Known: last, single:STEP"),
        ("last:3", "no such profile"),
        ("single", "expected a training step"),
        ("single:-5", "expected a training step"),
        ("single:1e3", "expected a training step"),
        ("ema", "expected a rate"),
        ("ema:1", "expected a rate"),
        ("ema:0", "expected a rate"),
        ("ema:nan", "expected a rate"),
        ("ema-from-first:x", r"as in ema-from-first:0\.9999"),
        ("power:0.3", "expected a relative width"),
        ("power:", "expected a relative width"),
    ],
)
def test_profiles_that_are_none(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_profile(text)


def test_a_step_that_is_not_there() -> None:
    with pytest.raises(InputError, match="the nearest is 400"):
        profile_recipe(parse_profile("single:5000"), STEPS)
    with pytest.raises(InputError, match="the last step is 0"):
        profile_recipe(parse_profile("power:0.1"), (0,))


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[float, torch.Tensor]]:
    """Raw weights and EMAs of two rates, kept every 25 steps of 500; and the true EMAs of rates that were not kept."""
    folder = tmp_path_factory.mktemp("run")
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(400, generator=generator, dtype=torch.float64)
    emas = {rate: weights.clone() for rate in (0.98, 0.995, 0.99)}
    for step in range(1, 501):
        weights = weights + 0.1 * torch.randn(400, generator=generator, dtype=torch.float64)
        for rate in emas:
            emas[rate] = rate * emas[rate] + (1 - rate) * weights
        if step % 25 == 0:
            save_file({"w": weights.float()}, folder / f"model_{step:06d}.safetensors")
            for rate in (0.98, 0.995):
                save_file({"w": emas[rate].float()}, folder / f"ema_{rate}_{step:06d}.safetensors")
    return folder, emas


def source(folder: Path, **chosen: object) -> Source:
    return Source(folder, scan([folder], [SafetensorsReader()]), Selection(**chosen))  # type: ignore[arg-type]


def posthoc(folder: Path, text: str, **chosen: object) -> tuple[torch.Tensor, float, int]:
    checkpoints, recipe = posthoc_recipe(parse_profile(text), source(folder, **chosen))
    merger = StreamingMerger(checkpoints, recipe, MergeSettings())
    merger.run(SilentProgress())
    return merger.tensor("w"), recipe.facts["profile_error"], len(recipe.steps)


def test_an_ema_that_was_not_kept(streams: tuple[Path, dict[float, torch.Tensor]]) -> None:
    folder, emas = streams
    raw = profile_recipe(parse_profile("ema:0.99"), tuple(range(25, 501, 25)))
    checkpoints = source(folder).checkpoints()
    merger = StreamingMerger(checkpoints, raw, MergeSettings())
    merger.run(SilentProgress())
    from_raw = float((merger.tensor("w").double() - emas[0.99]).norm())
    weights, profile_error, count = posthoc(folder, "ema:0.99")
    assert count == 60
    assert profile_error < 0.01
    assert float((weights.double() - emas[0.99]).norm()) < from_raw / 20


def test_an_ema_that_was_kept_is_found_again(streams: tuple[Path, dict[float, torch.Tensor]]) -> None:
    folder, emas = streams
    weights, error, _ = posthoc(folder, "ema:0.995")
    assert error < 1e-6
    assert float((weights.double() - emas[0.995]).abs().max()) < 1e-4


def test_emas_alone_and_windows(streams: tuple[Path, dict[float, torch.Tensor]]) -> None:
    folder, _ = streams
    checkpoints, recipe = posthoc_recipe(parse_profile("power:0.1"), source(folder, exclude=("model*",)))
    assert len(recipe.steps) == 40
    assert {snapshot.stream.kind for snapshot in checkpoints.snapshots} == {"ema"}
    _, recipe = posthoc_recipe(parse_profile("power:0.1"), source(folder, window=(100, 300)))
    assert max(recipe.steps) == 300
    assert recipe.name(0) == "25 ema 0.98"


def test_emas_of_another_dtype(streams: tuple[Path, dict[float, torch.Tensor]], tmp_path: Path) -> None:
    folder, _ = streams
    for path in folder.iterdir():
        halved = path.name.startswith("ema")
        save_file({"w": load_file(path)["w"].half() if halved else load_file(path)["w"]}, tmp_path / path.name)
    weights, _, _ = posthoc(tmp_path, "ema:0.99")
    assert weights.dtype == torch.float32
    exact, _, _ = posthoc(folder, "ema:0.99")
    assert 0 < float((weights - exact).abs().max()) < 0.05


def test_a_profile_narrower_than_what_was_kept_is_warned_of(tmp_path: Path) -> None:
    for step in (100, 200, 300):
        for rate in (0.999, 0.9995):
            save_file({"w": torch.ones(2) * step}, tmp_path / f"ema_{rate}_{step:06d}.safetensors")
    _, recipe = posthoc_recipe(parse_profile("ema:0.5"), source(tmp_path))
    assert any("off by" in text for text in recipe.warnings())


def test_where_there_is_nothing_to_make_an_ema_of(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="no EMA snapshot of a known rate"):
        posthoc_recipe(parse_profile("ema:0.99"), source(folder))
    with pytest.raises(InputError, match="--from-emas makes ema:RATE or power:WIDTH, not uniform"):
        posthoc_recipe(parse_profile("uniform"), source(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError):
        posthoc_recipe(parse_profile("ema:0.99"), source(tmp_path / "empty"))
