"""Runs in other spaces than the default: layer groups, other coordinates, LoRA, low precision, a mapped stack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import lora_family
from toy_run import PLUGIN, TOML, run, write_checkpoints, write_toml
from wsopt.cli._plan import plan_lines
from wsopt.config import load_config
from wsopt.errors import InputError
from wsopt.plugin_manager import LoadedPlugins, load_plugins
from wsopt.progress import SilentProgress
from wsopt.run import Plan, Request, execute, make_plan
from wsopt.weightspace import DenseStack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_checkpoints(tmp_path / "checkpoints")
    write_toml(tmp_path)
    return tmp_path


def results(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "results.json").read_text())
    return found


@pytest.mark.parametrize("coordinates", ["difference", "sum-zero", "pca", "sqrt-whitened", "whitened"])
def test_a_run_in_each_coordinate_system(folder: Path, coordinates: str) -> None:
    done = run(folder, ("parameterization.coordinates", coordinates))
    alpha = np.array(results(done.path)["coefficients"]["best"])  # type: ignore[index]
    assert alpha.sum() == pytest.approx(1, abs=1e-9)


def plan(folder: Path, *settings: tuple[str, str]) -> Plan:
    config, _ = load_config(folder / "toy.toml", settings, lambda files: load_plugins(files).registry, [PLUGIN])
    return make_plan(config, load_plugins([PLUGIN]).registry)


def test_the_plan_tells_what_is_held(folder: Path) -> None:
    text = dict(plan_lines(plan(folder)))
    assert text["coefficients"] == "parameterization difference, D = 7"
    assert text["memory"] == (
        "48 KiB resident (differences in float32 14 KiB, anchor 2 KiB, candidates 32 KiB); on cpu"
    )


def test_the_plan_tells_what_is_mapped_where_from_what_is_resident(folder: Path) -> None:
    cache = folder / "scratch"
    settings = {"dtype": '"bfloat16"', "memory": '"mapped"', "devices": '["cpu", "cpu"]', "cache": f'"{cache}"'}
    text = dict(plan_lines(plan(folder, *((f"weightspace.{key}", value) for key, value in settings.items()))))
    assert text["memory"] == (
        f"34 KiB resident (anchor 2 KiB, candidates 32 KiB), and differences in bfloat16 7 KiB mapped from a file in "
        f"{cache}; shared by cpu and cpu"
    )


def test_the_plan_counts_what_the_report_scores(folder: Path) -> None:
    planned = plan(folder, ("baselines.extend", "0"))
    done = run(folder, ("baselines.extend", "0"))
    events = [json.loads(line) for line in (done.path / "journal.jsonl").read_text().splitlines()]
    scored = [event["name"] for event in events if event["event"] == "report"]
    assert planned.evaluations["report"] - len(scored) == ("recommended" not in scored)


def test_the_plan_names_the_layer_groups(folder: Path) -> None:
    text = dict(
        plan_lines(plan(folder, ("parameterization.name", "layerwise"), ("parameterization.grouping", "tensor")))
    )
    assert text["coefficients"].startswith("parameterization layerwise, D = 21; 3 layer groups: ")


def test_devices_that_are_not_there_are_told_before_anything_is_done(folder: Path) -> None:
    setting = ("weightspace.devices", '["cpu", "cuda:99"]')
    with pytest.raises(InputError, match=r'weightspace\.devices: "cuda:99" is not available'):
        plan(folder, setting)
    with pytest.raises(InputError, match=r'weightspace\.devices: "cuda:99" is not available'):
        run(folder, setting)
    assert not (folder / "runs").exists()


def test_layer_groups_get_coefficients_of_their_own(folder: Path) -> None:
    done = run(folder, ("parameterization.name", "layerwise"), ("parameterization.grouping", "tensor"))
    found = results(done.path)
    alpha = np.array(found["coefficients"]["best"])  # type: ignore[index]
    assert alpha.shape == (2, 8)
    assert found["groups"] == ["mean", "spread"]
    merged = load_file(done.path / "merged.safetensors")
    steps = [load_file(folder / "checkpoints" / f"step-{step:06d}.safetensors") for step in range(10, 90, 10)]
    for row, name in enumerate(("mean", "spread")):
        expected = sum(a * one[name].double() for a, one in zip(alpha[row], steps, strict=True))
        torch.testing.assert_close(merged[name].double(), expected, rtol=0, atol=1e-6)
    assert torch.equal(merged["constant"], steps[0]["constant"])


@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": "bfloat16"},
        {"dtype": "float16"},
        {"memory": "mapped"},
        {"devices": ["cpu", "cpu"]},
        {"width": 1},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_how_the_weights_are_held_changes_little(folder: Path, settings: dict[str, object]) -> None:
    plain = results(run(folder).path)
    pairs = [(f"weightspace.{key}", json.dumps(value)) for key, value in settings.items()]
    other = results(run(folder, *pairs).path)
    assert {row["name"] for row in plain["scores"]} == {row["name"] for row in other["scores"]}  # type: ignore[attr-defined]
    for row, same in zip(plain["scores"], other["scores"], strict=False):  # type: ignore[call-overload]
        if row["name"] in ("uniform", "last") and row["name"] == same["name"]:
            assert same["value"] == pytest.approx(row["value"], rel=0.02)


def test_what_is_to_be_told_of_the_winner_is_printed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []

    class Spoken(SilentProgress):
        def line(self, text: str) -> None:
            lines.append(text)

    monkeypatch.setattr(DenseStack, "clamped", lambda stack, row: {"bn.running_var": 3})
    run(folder, progress=Spoken())
    (told,) = [line for line in lines if "running variances" in line]
    assert told.startswith("warning: merged.safetensors: ")
    assert "bn.running_var (3)" in told


def test_lora_checkpoints_run_resume_and_export(tmp_path: Path) -> None:
    lora_family.write_adapters(tmp_path / "checkpoints")
    (tmp_path / "toy.toml").write_text(
        TOML.format(seed=0, budget=20, output=tmp_path / "runs").replace("analytic", "lora-toy")
    )
    lines: list[str] = []

    class Spoken(SilentProgress):
        def line(self, text: str) -> None:
            lines.append(text)

    def request(*overrides: tuple[str, str]) -> Request:
        loaded: list[LoadedPlugins] = []

        def registry(files: object) -> object:
            loaded.append(load_plugins([PLUGIN, Path(lora_family.__file__)]))
            return loaded[-1].registry

        config, source = load_config(tmp_path / "toy.toml", overrides, registry)  # type: ignore[arg-type]
        return Request(config, source, loaded[0].registry, loaded[0].events)

    done = execute(request(("parameterization.name", "lora")), Spoken())
    assert any("alpha" in line for line in lines if line.startswith("warning"))
    merged = load_file(done.path / "merged.safetensors")
    alpha = np.array(results(done.path)["coefficients"]["best"])[0]  # type: ignore[index]
    for name in ("mean", "spread"):
        up, down = f"unet.{name}.lora.up.weight", f"unet.{name}.lora.down.weight"
        parts = [load_file(path) for path in sorted((tmp_path / "checkpoints").iterdir())]
        expected = sum(a * (one[up].double() @ one[down].double()) for a, one in zip(alpha, parts, strict=True))
        (b,) = [value for key, value in merged.items() if name in key and ("lora_B" in key or "up" in key)]
        (a,) = [value for key, value in merged.items() if name in key and ("lora_A" in key or "down" in key)]
        torch.testing.assert_close(b.double() @ a.double(), expected, rtol=0, atol=1e-5)
    journal = (done.path / "journal.jsonl").read_text().splitlines()
    (done.path / "journal.jsonl").write_text("\n".join(journal[: len(journal) // 2]) + "\n")
    (done.path / "results.json").unlink()
    execute(request(("parameterization.name", "lora")), SilentProgress())
    assert (done.path / "journal.jsonl").read_text().splitlines() == journal


def test_the_lora_parameterization_refuses_dense_checkpoints(folder: Path) -> None:
    with pytest.raises(InputError, match="needs LoRA checkpoints"):
        plan(folder, ("parameterization.name", "lora"))
    with pytest.raises(Exception, match="LoRA"):
        run(folder, ("parameterization.name", "lora"))


def test_checkpoints_that_are_nearly_the_same_are_named(folder: Path) -> None:
    twin = load_file(folder / "checkpoints" / "step-000040.safetensors")
    twin["mean"] += 1e-6
    save_file(twin, folder / "checkpoints" / "step-000045.safetensors", metadata={"step": "45"})
    lines: list[str] = []

    class Spoken(SilentProgress):
        def line(self, text: str) -> None:
            lines.append(text)

    run(folder, progress=Spoken())
    (warning,) = [line for line in lines if line.startswith("warning")]
    assert "1 pairs of checkpoints are nearly the same weights (steps 40 and 45)" in warning
