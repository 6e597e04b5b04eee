"""`wsopt reference` as a user meets it, and the page on references: its commands and scripts do what it says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from wsopt.cli import main
from wsopt.cli._main import _dispatch
from wsopt.objectives.references import read_reference

Captured = pytest.CaptureFixture[str]
TEXT = (Path(__file__).parents[3] / "docs" / "references.md").read_text(encoding="utf-8")
LEVELS = np.random.Generator(np.random.PCG64(3)).integers(0, 256, (70, 8, 8), dtype=np.uint8)
PLUGIN = """
from pathlib import Path
from pydantic import BaseModel
from wsopt.hookspecs import hookimpl
from wsopt.objectives import FeatureExtractor
import torch

class ScaledParams(BaseModel, extra="forbid"):
    factor: float
    label: str = ""
    weights: Path | None = None

class Scaled(FeatureExtractor):
    name = "scaled"
    def __init__(self, params):
        self.factor = params.factor
    dimension = 64
    @property
    def digest(self):
        return f"scaled {self.factor}"
    def __call__(self, images):
        return images.flatten(1) * self.factor

@hookimpl
def register_feature_extractors(register):
    register("scaled", f"{__name__}:Scaled", params=ScaledParams)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", LEVELS)
    return tmp_path


def fails(argv: str, capsys: Captured, code: int = 2) -> str:
    """The message of a command that has to fail with nothing on stdout, no traceback, and no file written."""
    before = sorted(Path.cwd().rglob("*"))
    assert main(shlex.split(argv)) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert sorted(Path.cwd().rglob("*")) == before
    return printed.err


def shown(capsys: Captured, file: str = "r.safetensors") -> dict[str, Any]:
    capsys.readouterr()
    assert main(["reference", "show", file, "--json"]) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    return facts


def test_of_a_data_set(here: Path, capsys: Captured) -> None:
    assert main(shlex.split("reference make digits/train --features digits --quantize trunc --out r.safetensors")) == 0
    printed = capsys.readouterr()
    assert "features of digits/train: 1197/1197" in printed.err
    facts = shown(capsys)
    assert {key: facts[key] for key in ("name", "features", "quantize", "samples", "vectors", "image_shape")} == {
        "name": "digits/train", "features": "digits", "quantize": "trunc", "samples": 1197, "vectors": 1197,
        "image_shape": [1, 8, 8],
    }  # fmt: skip


def test_of_a_folder_and_of_an_array(here: Path, capsys: Captured) -> None:
    for number, image in enumerate(LEVELS):
        (here / "set" / str(number // 30)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(here / "set" / str(number // 30) / f"{number:02d}.png")
    options = "--features pixels --limit 35 --vectors 20 --batch-size 6 --out"
    assert main(shlex.split(f"reference make set {options} folder.safetensors")) == 0
    assert main(shlex.split(f"reference make x.npz {options} array.safetensors")) == 0
    facts = shown(capsys, "folder.safetensors")
    assert facts["digest"] == shown(capsys, "array.safetensors")["digest"]
    assert (facts["samples"], facts["vectors"], facts["quantize"], facts["name"]) == (35, 20, "uint8", "set")
    assert main(shlex.split("reference make x.npz --features pixels --vectors none --out none.safetensors")) == 0
    assert "none: no KID, precision or recall" in capsys.readouterr().out


def test_a_label_for_public_statistics(here: Path, capsys: Captured) -> None:
    rows = LEVELS.reshape(70, 64) / 127.5 - 1
    mu, sigma = rows.mean(axis=0), np.cov(rows, rowvar=False)
    np.savez("VIRTUAL.npz", mu=mu, sigma=sigma, arr_0=LEVELS[..., None], mu_clip=mu[:3], sigma_clip=sigma[:3, :3])
    assert main(["reference", "show", "VIRTUAL.npz"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^(\w+) +the file does not say$", printed, re.MULTILINE) == ["features", "quantize", "samples"]
    assert main(shlex.split("reference make VIRTUAL.npz --features pixels --samples 70 --out r.safetensors")) == 0
    facts = shown(capsys)
    assert (facts["samples"], facts["vectors"], facts["quantize"], facts["dimension"]) == (70, 70, "uint8", 64)
    assert np.array_equal(read_reference("r.safetensors").covariance, sigma)
    assert shown(capsys, "VIRTUAL.npz#clip")["dimension"] == 3
    np.savez("VIRTUAL.npz", mu=mu + 1, sigma=sigma, arr_0=LEVELS[..., None])
    assert main(shlex.split("reference make VIRTUAL.npz --features pixels --out wrong.safetensors")) == 0
    assert "standard errors away" in capsys.readouterr().err


def test_parameters_of_a_plugin_extractor(here: Path, capsys: Captured) -> None:
    (here / "scaled.py").write_text(PLUGIN)
    make = "reference make x.npz --features scaled --plugin scaled.py --out r.safetensors"
    assert main(shlex.split(f"{make} --set factor=2.5 --set label=mine --set weights=~/w.pt")) == 0
    facts = shown(capsys)
    assert facts["params"] == {"factor": 2.5, "label": "mine", "weights": str(Path.home() / "w.pt")}
    assert facts["extractor_digest"] == "scaled 2.5"
    for given, message in [
        ("", "--set factor: Field required (parameters of 'scaled': factor, label, weights)"),
        ("--set factor=much", "--set factor: "),
        ("--set factor=1 --set resize=tf1", "--set resize: Extra inputs"),
    ]:
        assert message in fails(f"{make} --force {given}", capsys)


def test_presets(here: Path, capsys: Captured) -> None:
    make = "reference make digits/test --features digits --out r.safetensors"
    assert main(shlex.split(f"{make} --preset lcsc")) == 0
    assert shown(capsys)["quantize"] == "trunc"
    assert "--preset edm sets quantize to 'round'" in fails(f"{make} --force --preset edm --quantize trunc", capsys)
    assert "--preset edm sets resize to 'tf1'" in fails(
        "reference make x.npz --features inception --preset edm --set resize=clean --out i.safetensors", capsys
    )
    assert main(shlex.split("reference make x.npz --features pixels --preset lcsc --out p.safetensors")) == 0
    assert shown(capsys, "p.safetensors")["quantize"] == "uint8"


@pytest.mark.parametrize("preset", ["nothing", "LCSC"])
def test_unknown_preset(here: Path, capsys: Captured, preset: str) -> None:
    text = fails(f"reference make digits/test --features digits --preset {preset} --out r.safetensors", capsys)
    assert f"unknown preset {preset!r}; known: lcsc, adm, edm, clean, torch-fidelity" in text


def test_nothing_is_overwritten(here: Path, capsys: Captured) -> None:
    make = "reference make x.npz --features pixels --out r.safetensors"
    (here / "r.safetensors").write_text("precious")
    assert "r.safetensors exists. Give another --out, or --force" in fails(make, capsys)
    assert (here / "r.safetensors").read_text() == "precious"
    np.savez("bad.npz", LEVELS * 1.0)
    assert "expected uint8" in fails("reference make bad.npz --features pixels --out r.safetensors --force", capsys)
    assert (here / "r.safetensors").read_text() == "precious"
    assert main(shlex.split(f"{make} --force")) == 0
    assert shown(capsys)["samples"] == 70


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("make digits/tset --features digits --out r", "data set digits has no split 'tset'; it has train, validation"),
        ("make digit/train --features digits --out r", "neither a file or folder nor a split of a data set (known: "),
        ("make none.npz#clip --features digits --out r", "neither a file or folder"),
        ("make x.npz --features digit --out r", "did you mean 'digits'"),
        ("make x.npz --features pixels --set a=1 --out r", "--set a: features 'pixels' have no parameters"),
        ("make x.npz --features pixels --set a --out r", "'a' is not of the form KEY=VALUE"),
        ("make x.npz --features pixels --limit 0 --out r", "'0' is not a whole number from 1"),
        ("make x.npz --features pixels --vectors few --out r", "'few' is not a whole number from 1"),
        ("make x.npz --features pixels --out .", "is a folder"),
        ("make x.npz --features pixels --out x.npz/r", "nothing can be written in"),
        ("make x.npz --features pixels", "--out"),
        ("make . --features pixels --out r", "holds no image files"),
        ("show x.npz", "holds images and no statistics"),
        ("show none.npz", "reference statistics none.npz cannot be read"),
        ("", "ACTION"),
    ],
)
def test_refusals(here: Path, capsys: Captured, command: str, message: str) -> None:
    assert message in fails(f"reference {command}", capsys)


def test_an_interrupted_make_leaves_nothing(here: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wsopt.objectives.Pixels.__call__", stop)
    assert "interrupted" in fails("reference make x.npz --features pixels --out r.safetensors", capsys, 130)


def test_help_needs_no_torch() -> None:
    script = (
        "import sys\nfrom wsopt.cli import main\nassert main(['reference', 'make', '--help']) == 0\n"
        "print(sorted({'torch', 'numpy', 'scipy', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# ---- the page


def test_the_commands_of_the_page(here: Path, capsys: Captured) -> None:
    commands = re.findall(r"^    wsopt (reference make .*)$", TEXT, re.MULTILINE)
    (command,) = [one for one in commands if f"    wsopt {one}\n\nprints" in TEXT]
    assert main(shlex.split(command)) == 0
    (expected,) = re.findall(rf"    wsopt {re.escape(command)}\n\nprints\n\n((?:    .*\n)+)", TEXT)
    version = re.compile(r"wsopt [\d.]+\w*$", re.MULTILINE)
    printed = version.sub("wsopt VERSION", capsys.readouterr().out)
    assert printed == version.sub("wsopt VERSION", re.sub(r"^    ", "", expected, flags=re.MULTILINE))


def test_the_script_of_the_page(here: Path, capsys: Captured) -> None:
    ((script, printed),) = re.findall(r"```python\n((?:[^`]*\n)+)```\n\nprints\n\n((?:    .*\n)+)", TEXT)
    exec(compile(script, "make_reference.py", "exec"), {})
    assert capsys.readouterr().out == re.sub(r"^    ", "", printed, flags=re.MULTILINE)


def test_the_options_of_the_page(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        _dispatch(["reference", "make", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    (table,) = re.findall(r"\| option \| meaning \|\n((?:\|.*\n)+)", TEXT)
    rows = {name for row in table.splitlines() for name in re.findall(r"--[a-z][a-z-]*", row.split("|")[1])}
    assert rows == known - {"--help", "--out"}


def test_the_keys_of_the_page(here: Path, capsys: Captured) -> None:
    assert main(shlex.split("reference make x.npz --features pixels --out r.safetensors")) == 0
    with safe_open("r.safetensors", framework="numpy") as file:
        said = json.loads(file.metadata()["wsopt-reference"])
        tensors = set(file.keys())
    (table,) = re.findall(r"\| key \| meaning \|\n((?:\|.*\n)+)", TEXT)
    named = {name for row in table.splitlines() for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert named == said.keys()
    assert tensors == {"mean", "covariance", "vectors"}
    assert [name for name in tensors if f"`{name}`" not in TEXT] == []
