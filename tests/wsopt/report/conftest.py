"""A made-up run folder with everything a report reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MakeRun = Callable[..., Path]
RATES = ("0.9", "0.95", "0.98", "0.99", "0.995", "0.998")
TRAINED = ("0.99", "0.998", "0.999")
CONFIG = 'name = "digits"\nseed = 0\n\n[search]\nbudget = 500\n'


def profile(steps: np.ndarray, rate: float) -> np.ndarray:
    weights: np.ndarray = rate ** (steps[-1] - steps).astype(float)
    weights /= weights.sum()
    return weights


def make(folder: Path, groups: int = 1, budget: int = 500, images: tuple[int, int, int] | None = (1, 8, 8)) -> Path:
    """Write a run folder with made-up but likely numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    steps = 2020 + 20 * np.arange(50)
    baselines: list[tuple[str, float]] = [("last", 4.61), ("uniform", 3.62), ("power-0.05", 3.71), ("power-0.1", 3.55)]
    baselines += [(f"step-{step}", 4.5 + 0.3 * rng.random()) for step in (2020, 2500, 2940)]
    baselines += [(f"ema-{rate}", 3.4 + 0.2 * abs(i - 4)) for i, rate in enumerate(RATES)]
    baselines += [(f"train-ema-{rate}", 3.38 + 0.3 * abs(i - 1)) for i, rate in enumerate(TRAINED)]
    write_journal(folder, baselines, budget, rng)
    best = 0.35 * rng.standard_normal((groups, 50)) * (rng.random((groups, 50)) < 0.25)
    best += 0.5 * profile(steps, 0.998)
    best[:, 0] += 1 - best.sum(axis=1)
    recommended = 0.9 * best + 0.1 * profile(steps, 0.998)
    results: dict[str, Any] = {
        "format": 1,
        "name": "digits",
        "seed": 0,
        "optimizer": "lcsc",
        "budget": budget,
        "failed": 5,
        "groups": ["all"] if groups == 1 else [f"block {number}" for number in range(groups)],
        "evaluations": budget,
        "steps": steps.tolist(),
        "objective": {
            "name": "fid", "direction": "minimize", "features": "digits", "reference": "digits/train",
            "samples": 1000, "label": "FD(digits)",
        },
        "ema_star": {"name": "train-ema-0.998"},
        "best": {"id": 412, "evaluation": 428, "from": "search"},
        "coefficients": {
            "best": best.tolist(),
            "recommended": recommended.tolist(),
            "ema*": None,
            "best-ema": {"name": "ema-0.995", "values": [profile(steps, 0.995).tolist()] * groups},
            "best-single": {"step": 2940},
        },
        "scores": scores(baselines),
        "optimism": {"search": 2.91, "fresh": 3.08, "stderr": 0.062, "gap": 0.17, "samples": 1000},
        "timing": {"seconds_per_evaluation": 0.17, "split": {"merge": 0.01, "sample": 0.12}},
        "memory": {"training_peak_bytes": None, "search_peak_bytes": 512 << 20},
        "seconds": {"training": None, "baselines": 3.1, "search": 185.0, "report": 41.2},
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    provenance = {
        "wsopt": "0.1.0",
        "python": "3.11.9",
        "torch": "2.6.0",
        "checkpoints": {"fingerprint": "ab12", "count": 50},
    }
    (folder / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    if images is not None:
        write_samples(folder, images, rng)
    return folder


def write_journal(folder: Path, baselines: list[tuple[str, float]], budget: int, rng: np.random.Generator) -> None:
    events: list[dict[str, Any]] = [{"event": "run", "name": "digits"}]
    events += [
        {"event": "baseline", "name": name, "kind": "coefficients", "value": value, "stderr": 0.05, "samples": 1000}
        for name, value in baselines
    ]
    for number in range(budget - len(baselines)):
        value = 2.88 + 0.5 * np.exp(-number / 150) + rng.gamma(1.2, 0.25)
        if rng.random() < 0.05:
            value += 20 * rng.random()
        events.append({"event": "asked", "ids": [number], "x": [[0.0, 1.0]]})
        told: dict[str, Any] = {"event": "told", "id": number}
        told |= (
            {"failure": "NaN in the images"} if number % 97 == 5 else {"loss": value, "value": value, "stderr": 0.05}
        )
        events.append(told)
    events.append({"event": "finished", "evaluations": budget})
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")


def scores(baselines: list[tuple[str, float]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    values = {name: value for name, value in baselines if not name.startswith("step-")}
    values |= {"best-single": 4.55, "best": 3.02, "recommended": 2.97, "ema*": 3.38, "floor": 1.23}
    columns = (
        ("digits", "digits/train", 1.0, 0.0),
        ("digits", "digits/test", 1.0, 0.9),
        ("digits-mlp", "digits/train", 0.6, 0.1),
    )
    for features, reference, factor, offset in columns:
        for name, value in values.items():
            if name == "floor" and reference == "digits/test":
                continue
            rows.append({
                "name": name, "split": "data" if name == "floor" else "report", "metric": "fid", "features": features,
                "reference": reference, "value": factor * value + offset,
                "stderr": None if name == "floor" else 0.041 * factor, "samples": 400 if name == "floor" else 5000,
            })  # fmt: skip
    fresh = {"name": "fresh", "split": "report", "metric": "fid", "features": "digits", "reference": "digits/train"}
    rows.append({**fresh, "value": 3.08, "stderr": 0.06, "samples": 1000})
    rows.append({**fresh, "name": "best", "split": "search", "value": 2.91, "stderr": 0.06, "samples": 1000})
    return rows


def write_samples(folder: Path, shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    base = rng.integers(0, 256, (16, *shape), dtype=np.uint8)
    best = np.clip(base.astype(int) + rng.integers(-90, 90, base.shape), 0, 255).astype(np.uint8)
    np.savez_compressed(
        folder / "samples.npz", baseline=base, best=best, distance=np.linspace(9.7, 6.1, 16),
        indices=np.arange(16), baseline_name=np.array("train-ema-0.998"),
    )  # fmt: skip


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a run folder under the test's own and returns it; keywords as in `make`."""
    return lambda name="run", **options: make(tmp_path / name, **options)
