"""A run on the analytic family: real files, a real run folder, no network, about a second per run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import wsopt.testing.analytic as analytic
from wsopt.config import load_config
from wsopt.datasets import Digits
from wsopt.plugin_manager import LoadedPlugins, load_plugins
from wsopt.progress import Progress, SilentProgress
from wsopt.run import Request, RunFolder, execute

PLUGIN = Path(analytic.__file__)

TOML = """
name = "toy"
seed = {seed}
budget = {budget}
output = "{output}"

[family]
name = "analytic"

[checkpoints]
path = "checkpoints"

[optimizer]
name = "lcsc"
iter = 5
m_cp = 4
mutation_scale = 0.1

[objective]
name = "fid"
features = "pixels"
reference = "train"

[baselines]
ema_rates = [0.9, 0.95]
singles = 3
power_widths = [0.1]
extend = 2

[search]
samples = 120
batch_size = 50

[report]
samples = 200
references = ["train", "test"]
figure_pairs = 4
"""


class StopAfter(SilentProgress):
    """Asks for a stop at the n-th question."""

    def __init__(self, asks: int) -> None:
        self.left = asks

    def should_stop(self) -> bool:
        self.left -= 1
        return self.left <= 0


def write_checkpoints(folder: Path, count: int = 8) -> None:
    """Wandering checkpoints around the pixelwise mean and spread of the digits."""
    images = torch.from_numpy(Digits().images("train"))
    generator = np.random.Generator(np.random.PCG64(11))
    analytic.write_trajectory(folder, images.mean(dim=0), images.std(dim=0), generator, count)


def write_toml(folder: Path, seed: int = 0, budget: int = 30, output: str = "runs") -> Path:
    path = folder / "toy.toml"
    path.write_text(TOML.format(seed=seed, budget=budget, output=folder / output))
    return path


def request_for(folder: Path, *overrides: tuple[str, str], resume: Path | None = None) -> Request:
    loaded: list[LoadedPlugins] = []

    def registry(files: object) -> object:
        loaded.append(load_plugins([PLUGIN]))
        return loaded[-1].registry

    config, source = load_config(folder / "toy.toml", overrides, registry)  # type: ignore[arg-type]
    return Request(config, source, loaded[0].registry, loaded[0].events, resume=resume)


def run(
    folder: Path, *overrides: tuple[str, str], progress: Progress | None = None, resume: Path | None = None
) -> RunFolder:
    return execute(request_for(folder, *overrides, resume=resume), progress or SilentProgress())
