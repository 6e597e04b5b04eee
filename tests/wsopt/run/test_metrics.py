"""Several metrics, sums of objectives and references from files, through whole runs of the analytic family."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toy_run import PLUGIN, run, write_checkpoints, write_toml
from wsopt.cli import main
from wsopt.datasets import DatasetSplit, Digits
from wsopt.errors import ResumeError
from wsopt.objectives import DigitsMlp, FeatureExtractor, Pixels, reference_from_images
from wsopt.objectives.references import ReferenceFacts, write_reference
from wsopt.report import RunRecord, results_markdown
from wsopt.run import RunFolder

Row = dict[str, Any]
SMALL = (("budget", "12"), ("report.figure_pairs", "0"), ("report.references", "[]"))
METRICS = """
[[report.metrics]]
name = "kid"

[[report.metrics]]
name = "precision"
label = "fidelity"
features = "digits"

[[report.metrics]]
name = "inception-score"
features = "digits"
"""
SUM = """
[objective]
name = "weighted"
label = "both"

[[objective.parts]]
name = "fid"
features = "pixels"
reference = "train"
weight = 0.5

[[objective.parts]]
name = "inception-score"
features = "digits"
weight = 2.0

[baselines]
"""

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    write_checkpoints(folder / "checkpoints")
    write_toml(folder)
    return folder


def rows(folder: RunFolder, name: str = "best", split: str = "report") -> dict[tuple[str, str | None], Row]:
    """Rows of results.json by metric and reference."""
    found = json.loads(folder.results.read_text())["scores"]
    return {(row["metric"], row["reference"]): row for row in found if (row["name"], row["split"]) == (name, split)}


def header(folder: RunFolder) -> list[str]:
    first = results_markdown(RunRecord.load(folder.path)).splitlines()[0]
    return [cell.strip() for cell in first.strip("|").split(" | ")]


def edited(home: Path, name: str, change: tuple[str, str], text: str = "") -> Path:
    """A folder beside `home` with its checkpoints and another config."""
    folder = home / name
    folder.mkdir()
    (folder / "checkpoints").symlink_to(home / "checkpoints")
    old = write_toml(folder).read_text()
    assert change[0] in old
    (folder / "toy.toml").write_text(old.replace(*change) + text)
    return folder


def objective_section(text: str) -> str:
    begin = text.index("[objective]")
    return text[begin : text.index("[baselines]") + len("[baselines]\n")]


@pytest.fixture(scope="module")
def several(home: Path) -> RunFolder:
    folder = edited(home, "several", ("budget = 30", "budget = 12"), METRICS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wsopt.run._execute.write_figures", lambda folder: [])
        return run(folder, SMALL[1])


def test_every_metric_has_its_rows_and_its_own_direction(several: RunFolder) -> None:
    found = rows(several)
    assert {key: row["direction"] for key, row in found.items()} == {
        ("fid", "digits/train"): "minimize",
        ("fid", "digits/test"): "minimize",
        ("kid", "digits/train"): "minimize",
        ("fidelity", "digits/train"): "maximize",
        ("inception-score", None): "maximize",
    }
    assert {row["samples"] for row in found.values()} == {200}
    assert all(math.isfinite(row["value"]) for row in found.values())
    assert all("replicates" not in row for row in found.values())
    assert found["fidelity", "digits/train"]["features"] == "digits"
    assert found["kid", "digits/train"]["features"] == "pixels"  # the objective's, where it names none
    star, best = rows(several, "ema*")["kid", "digits/train"], found["kid", "digits/train"]
    assert best["difference"] == best["value"] - star["value"]
    assert (star["difference"], star["difference_stderr"]) == (0.0, 0.0)


def test_every_metric_has_a_column_that_is_called_what_it_is(several: RunFolder) -> None:
    assert header(several) == [
        "weights", "FD(pixels) ↓ to digits/train", "change to EMA\\*", "FD(pixels) ↓ to digits/test",
        "KD(pixels) ↓ to digits/train", "fidelity(digits) ↑ to digits/train", "IS(digits) ↑",
    ]  # fmt: skip
    assert "Extrapolated to infinitely many samples, FD(pixels) to digits/train: EMA* " in " ".join(
        results_markdown(RunRecord.load(several.path)).replace("\\", "").split()
    )


def test_real_images_have_a_floor_where_there_is_a_reference(several: RunFolder) -> None:
    floor = rows(several, "floor", "data")
    assert ("kid", "digits/train") in floor
    assert ("inception-score", None) not in floor


@pytest.fixture(scope="module")
def summed(home: Path) -> RunFolder:
    text = (home / "toy.toml").read_text()
    references = 'references = ["train", "test"]\n'
    folder = edited(home, "summed", (objective_section(text), SUM))
    path = folder / "toy.toml"
    path.write_text(path.read_text().replace(references, ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wsopt.run._execute.write_figures", lambda folder: [])
        return run(folder, *SMALL[:2])


def test_a_sum_is_searched_for_and_its_parts_are_reported(summed: RunFolder) -> None:
    for name in ("best", "last", "ema*"):
        found = rows(summed, name)
        total, fid = found["both", None], found["fid", "digits/train"]
        score = found["inception-score", None]
        assert total["value"] == pytest.approx(0.5 * fid["value"] - 2.0 * score["value"], rel=1e-12)
        assert total["stderr"] > 0
    assert header(summed)[1:] == ["both ↓", "change to EMA\\*", "FD(pixels) ↓ to digits/train", "IS(digits) ↑"]
    told = [json.loads(line) for line in summed.journal.read_text().splitlines()]
    values = [event["value"] for event in told if event["event"] in ("baseline", "told")]
    assert rows(summed, "best", "search")["both", None]["value"] == min(values)


def write_statistics(path: Path, extractor: FeatureExtractor, split: DatasetSplit = "train") -> None:
    images = Digits().images(split)
    made = reference_from_images("mine", images, extractor, "round")
    write_reference(path, made, ReferenceFacts(source="digits"))


def test_a_reference_from_a_file_is_the_split_it_was_made_of(home: Path) -> None:
    write_statistics(home / "real.safetensors", Pixels())
    by_split = run(home, *SMALL, ("name", "split"))
    by_file = run(home, *SMALL, ("name", "file"), ("objective.reference", str(home / "real.safetensors")))
    split = rows(by_split)["fid", "digits/train"]
    file = rows(by_file)["fid", "real"]
    assert file["value"] == pytest.approx(split["value"], rel=1e-12)
    assert file["stderr"] == pytest.approx(split["stderr"], rel=1e-9)
    assert rows(by_file, "floor", "data") == {}  # no other real images to compare a file with
    assert rows(by_split, "floor", "data") != {}


def test_a_reference_that_changed_since_the_run_began_is_refused(home: Path) -> None:
    path = home / "changing.safetensors"
    write_statistics(path, Pixels())
    settings = (*SMALL, ("name", "changing"), ("objective.reference", str(path)))
    folder = run(home, *settings)
    assert f"reference {path}" in json.loads(folder.provenance.read_text())["measured"]
    before = folder.journal.read_bytes()
    write_statistics(path, Pixels(), "test")
    with pytest.raises(ResumeError, match=r"changing\.safetensors changed since .*scores by two measures"):
        run(home, *settings, ("budget", "14"))
    assert folder.journal.read_bytes() == before


def test_a_reference_of_another_extractor_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_statistics(home / "other.safetensors", DigitsMlp())
    argv = ["run", str(home / "toy.toml"), "--plugin", str(PLUGIN), "--set", "name=refused"]
    argv += ["--set", f"objective.reference={home / 'other.safetensors'}", "--set", "report.references=[]"]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert "(of features 'digits-mlp') has d = " in error
    assert "a distance between two feature spaces means nothing" in error
    assert "Traceback" not in error


def test_statistics_that_do_not_say_what_they_are_of_are_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = reference_from_images("mine", Digits().images("train"), Pixels(), "round")
    np.savez(home / "public.npz", mu=made.mean, sigma=made.covariance)
    settings = (*SMALL, ("name", "public"), ("objective.reference", str(home / "public.npz")))
    argv = [part for key, value in settings for part in ("--set", f"{key}={value}")]
    assert main(["run", str(home / "toy.toml"), "--plugin", str(PLUGIN), *argv]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert any("public" in line and "that its features are 'pixels'" in line for line in lines)


class _Pixels64(torch.nn.Module):
    """What torchmetrics' FID takes for its network: flat pixels of an 8x8 image as 64 features."""

    num_features = 64

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.double().flatten(1) / 127.5 - 1


@pytest.mark.parametrize(
    ("lines", "features"),
    [
        ('metric = "image.fid.OnPixels"', None),
        ('metric = "image.fid.FrechetInceptionDistance"\ninputs = ["features"]\nfeatures = "pixels"', "pixels"),
    ],
)
def test_the_fid_of_torchmetrics_is_searched_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, lines: str, features: str | None
) -> None:
    pytest.importorskip("torchmetrics")
    from torchmetrics.image.fid import FrechetInceptionDistance

    class OnPixels(FrechetInceptionDistance):
        def __init__(self, feature: int = 64) -> None:
            super().__init__(feature=_Pixels64(), input_img_size=(1, 8, 8))
            self.set_dtype(torch.float64)

    monkeypatch.setattr("torchmetrics.image.fid.OnPixels", OnPixels, raising=False)
    text = (home / "toy.toml").read_text()
    section = f'[objective]\nname = "torchmetrics"\nreference = "train"\n{lines}\n\n[baselines]\n'
    folder = edited(home, f"torchmetrics-{features}", (objective_section(text), section))
    theirs = run(folder, *SMALL)
    own = run(home, *SMALL, ("name", "own"))
    for name in ("last", "uniform"):
        found = rows(theirs, name)["torchmetrics", "digits/train"]
        assert found["features"] == features
        assert found["value"] == pytest.approx(rows(own, name)["fid", "digits/train"]["value"], rel=1e-6)


def test_an_objective_on_weights_has_no_samples_and_no_fresh_noise(home: Path) -> None:
    text = (home / "toy.toml").read_text()
    lines = 'name = "callable"\nlabel = "size"\nfunction = "mine.py:size"\non = "weights"\ndirection = "minimize"\n'
    folder = edited(home, "weights", (objective_section(text), f"[objective]\n{lines}\n[baselines]\n"))
    (folder / "mine.py").write_text('def size(weights):\n    return float(weights["mean"].abs().mean())\n')
    made = run(folder, *SMALL)
    found = json.loads(made.results.read_text())
    assert found["optimism"] is None
    assert found["objective"]["samples"] == 0
    assert {row["samples"] for row in found["scores"]} == {0}
    told = [json.loads(line) for line in made.journal.read_text().splitlines()]
    assert "fresh" not in [event.get("name") for event in told]
    (loss,) = [row["value"] for row in found["scores"] if (row["name"], row["split"]) == ("last", "report")]
    assert loss > 0
    shown = results_markdown(RunRecord.load(made.path))
    assert header(made)[1:] == ["size ↓", "change to EMA\\*"]
    for word in ("sample", "features", "Optimism", "noise", "callable"):
        assert word not in shown.replace(str(made.path), ""), word
    card = made.card.read_text()
    assert "which minimised size over 12 evaluations" in card
    assert "| objective | size |" in card


def test_a_mistake_in_a_metric_of_the_report_is_told_before_the_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoints(tmp_path / "checkpoints")
    (tmp_path / "bad.py").write_text("def bad(images):\n    raise KeyError('colour')\n")
    bad = '{name = "callable", function = "%s:bad", on = "images", direction = "minimize"}'
    config = write_toml(tmp_path)
    argv = ["run", str(config), "--plugin", str(PLUGIN), "--set", f"output={tmp_path / 'runs'}", "--budget", "12"]
    assert main([*argv, "--set", f"report.metrics=[{bad % (tmp_path / 'bad.py')}]"]) == 1
    lines = capsys.readouterr().err.splitlines()
    (at,) = [
        number for number, line in enumerate(lines) if line.startswith("warning: the metrics of the report failed")
    ]
    assert "16 samples: KeyError: 'colour'" in lines[at]
    assert at < next(number for number, line in enumerate(lines) if line.startswith("baselines:"))
