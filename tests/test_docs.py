"""The pages say what the code does: tables are compared with it, examples are run."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load_file

from pages import DOCS, FILES, PAGES, ROOT, blocks
from toy_run import PLUGIN, write_checkpoints
from wsopt import hookspecs
from wsopt.cli import main
from wsopt.config import load_config
from wsopt.config.params import (
    CallableFeaturesParams,
    CallableParams,
    ClipParams,
    ClipScoreParams,
    CmaesParams,
    CoordinateParams,
    DifferenceParams,
    Dinov2Params,
    DirectParams,
    FidParams,
    ImageRewardParams,
    InceptionParams,
    InceptionScoreParams,
    KidParams,
    LayerwiseParams,
    LcscParams,
    LoraParams,
    ModuleParams,
    NevergradParams,
    OnePlusOneParams,
    PickScoreParams,
    PrecisionParams,
    RandomParams,
    RecallParams,
    TorchmetricsParams,
    WinRateParams,
)
from wsopt.config.sections import (
    BaselinesSection,
    CheckpointsSection,
    ObjectiveSection,
    ReportSection,
    SearchSection,
    TopSection,
    ValidationSection,
    WeightspaceSection,
)
from wsopt.diffusion import SongUNet
from wsopt.errors import ExitCode
from wsopt.objectives import to_grey_levels
from wsopt.plugin_manager import load_plugins
from wsopt.registry import HOOKS
from wsopt.run import RunFolder
from wsopt.seeding import SampleNoise
from wsopt_cd.params import CDParams, CDRecipe, NetworkParams

SECTIONS: dict[str, tuple[type[BaseModel] | None, str | None]] = {
    "Top of the file": (TopSection, None),
    "[data]": (None, '`"digits"`'),
    "[family]": (None, "required"),
    "[family] cd": (CDParams, None),
    "[family] cd: [family.network]": (NetworkParams, None),
    "[family] module": (ModuleParams, None),
    "[train] cd": (CDRecipe, None),
    "[checkpoints]": (CheckpointsSection, None),
    "[weightspace]": (WeightspaceSection, None),
    "[parameterization]": (None, '`"difference"`'),
    "[parameterization] difference": (DifferenceParams, None),
    "[parameterization] direct": (DirectParams, None),
    "[parameterization] layerwise": (LayerwiseParams, None),
    "[parameterization] lora": (LoraParams, None),
    "[optimizer]": (None, '`"auto"`'),
    "[optimizer] lcsc": (LcscParams, None),
    "[optimizer] one-plus-one": (OnePlusOneParams, None),
    "[optimizer] cmaes": (CmaesParams, None),
    "[optimizer] nevergrad": (NevergradParams, None),
    "[optimizer] coordinate": (CoordinateParams, None),
    "[optimizer] random": (RandomParams, None),
    "[objective]": (ObjectiveSection, '`"fid"`'),
    "[objective] fid": (FidParams, None),
    "[objective] kid": (KidParams, None),
    "[objective] precision": (PrecisionParams, None),
    "[objective] recall": (RecallParams, None),
    "[objective] inception-score": (InceptionScoreParams, None),
    "[objective] pickscore": (PickScoreParams, None),
    "[objective] image-reward": (ImageRewardParams, None),
    "[objective] clip-score": (ClipScoreParams, None),
    "[objective] win-rate": (WinRateParams, None),
    "[objective] torchmetrics": (TorchmetricsParams, None),
    "[objective] callable": (CallableParams, None),
    "[features.NAME]": (None, "NAME"),
    "[features.NAME] inception": (InceptionParams, None),
    "[features.NAME] clip": (ClipParams, None),
    "[features.NAME] dinov2": (Dinov2Params, None),
    "[features.NAME] callable": (CallableFeaturesParams, None),
    "[baselines]": (BaselinesSection, None),
    "[search]": (SearchSection, None),
    "[validation]": (ValidationSection, None),
    "[report]": (ReportSection, None),
}
"""Heading of config.md -> the model of its table, and the default of the key `name` where it has one."""


def tables(page: Path) -> dict[str, list[list[str]]]:
    """Heading (of a third level: after its second) -> the rows of the first table below it."""
    found: dict[str, list[list[str]]] = {}
    second = heading = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            second = heading = line[3:]
        elif line.startswith("### "):
            heading = f"{second.partition(' ')[0]} {line[4:]}"
        elif line.startswith("|"):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            found.setdefault(heading, []).append(cells)
    return {heading: rows[2:] for heading, rows in found.items()}


def first_column(page: str, heading: str) -> list[str]:
    return [name for row in tables(DOCS / page)[heading] for name in re.findall(r"`([^`]+)`", row[0])]


def default(model: type[BaseModel], key: str) -> str:
    field = model.model_fields[key]
    value = field.get_default(call_default_factory=True)
    if field.is_required():
        return "required"
    if isinstance(value, BaseModel):
        return "see below"
    return "—" if value is None else f"`{json.dumps(value, default=str)}`"


# ---- pages


def test_the_index_names_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#]+)", (DOCS / "index.md").read_text(encoding="utf-8")))
    assert linked == {path.name for path in DOCS.glob("*.md")} - {"index.md"} | {"decisions/README.md"}
    listed = re.findall(r"\]\(([^)]+)\)", (DOCS / "decisions" / "README.md").read_text(encoding="utf-8"))
    assert listed == sorted(path.name for path in (DOCS / "decisions").glob("0*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([\w-]+))?\)", text):
        file = page.parent / target if target else page
        assert file.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
    for path in re.findall(r"`((?:wsopt|plugins|tests|benchmarks)/[\w./]*)`", text):
        assert (ROOT / path).exists(), path


def test_named_code_exists() -> None:
    optimizer = (ROOT / "wsopt/optimizers/_lcsc.py").read_text(encoding="utf-8")
    table = "\n".join(row[1] for row in tables(DOCS / "search.md")["Algorithm 1, line by line"])
    names = re.findall(r"`(_?[a-z_]+)`", table)
    assert {"_begin_epoch", "_crossover", "_mutate", "_end_epoch"} <= set(names)
    for name in names:
        assert name in optimizer or name in LcscParams.model_fields, name


# ---- tables


def test_config_has_a_table_for_every_section() -> None:
    assert tables(DOCS / "config.md").keys() == SECTIONS.keys()


@pytest.mark.parametrize("heading", SECTIONS)
def test_config_tables_agree_with_the_models(heading: str) -> None:
    model, name = SECTIONS[heading]
    expected = {} if name is None else {"`name`": name}
    expected |= {f"`{key}`": default(model, key) for key in model.model_fields} if model else {}
    assert {row[0]: row[2] for row in tables(DOCS / "config.md")[heading]} == expected


def test_every_built_in_component_with_parameters_has_a_table() -> None:
    registry = load_plugins([]).registry
    models = {
        model
        for kind in ("objective", "optimizer", "parameterization", "family", "dataset", "extractor")
        for component in registry.all(kind)
        for model in (component.params, component.recipe)
        if model is not None and model.model_fields
    }
    assert models <= {model for model, _ in SECTIONS.values()}


def test_exit_codes() -> None:
    rows = [(int(row[0]), row[1].strip("`")) for row in tables(DOCS / "runs.md")["Exit codes"]]
    assert rows == [(code.value, code.name) for code in ExitCode]


def test_hooks() -> None:
    assert first_column("plugins.md", "Hooks") == list(HOOKS)
    events = {name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "wsopt_spec")} - HOOKS.keys()
    assert set(first_column("plugins.md", "Watching a run")) == events


# ---- examples


def test_every_block_is_labelled() -> None:
    assert [block for block in blocks() if not block.label and block.language] == []
    assert {block.language for block in blocks()} == {"toml", "python"}
    assert len(FILES) == sum(block.label.startswith("file: ") for block in blocks())


def test_the_objective_is_as_short_as_it_is_said_to_be() -> None:
    (body,) = [node for node in ast.parse(FILES["contrast.py"].text).body if isinstance(node, ast.ClassDef)]
    assert sum(len(ast.unparse(node).splitlines()) for node in body.body) <= 12


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.endswith(".toml")))
def test_configs_are_valid(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file, block in FILES.items():
        (tmp_path / file).write_text(block.text)
    assert main(["validate", str(tmp_path / name)]) == 0, capsys.readouterr().err


def test_the_network_of_the_example_has_the_size_that_is_said(tmp_path: Path) -> None:
    for file in ("cifar10.toml", "contrast.py"):
        (tmp_path / file).write_text(FILES[file].text)
    config, _ = load_config(tmp_path / "cifar10.toml", (), lambda files: load_plugins(files).registry)
    assert isinstance(config.family.params, CDParams)
    with torch.device("meta"):
        network = SongUNet(config.family.params.network)
    values = sum(parameter.numel() for parameter in network.parameters())
    page = (DOCS / "checkpoints.md").read_text(encoding="utf-8")
    assert f"{values:,} parameters" in page
    assert round((401 + 16) * 4 * values / 1e9) == 94
    assert "94 GB" in page
    assert round((41 + 16) * 4 * values / 1e9) == 13


def test_torch_files_are_read_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (script,) = [block for block in blocks() if block.label == "script: look.py"]
    monkeypatch.chdir(tmp_path)
    Path("training").mkdir()
    for name, value in (("model759900", 1.0), ("model760000", 2.0), ("model760100", 3.0), ("ema_0.999_760100", 2.5)):
        torch.save({"w": torch.full((2, 3), value).T}, f"training/{name}.pt")
    exec(compile(script.text, script.file, "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["(760000, 760100) ['ema 0.999']", "{'w': [3, 2]}"]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run of the page on plugins, on the analytic family, with the logger of that page."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("contrast.py", "contrast.toml", "log_csv.py"):
        (folder / name).write_text(FILES[name].text)
    write_checkpoints(folder / "checkpoints")
    argv = ["run", str(folder / "contrast.toml"), "--set", "family.name=analytic", "--set", f"output={folder / 'runs'}"]
    argv += ["--set", "validation.samples=100", "--set", "report.curve=[0.5, 1.0]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WSOPT_STRICT_PLUGINS", "1")
        assert main([*argv, "--plugin", str(PLUGIN), "--plugin", str(folder / "log_csv.py")]) == 0
    (run,) = [path.parent for path in (folder / "runs").glob("*/journal.jsonl")]
    return RunFolder(run)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_objective_of_the_page_scores_what_it_says(example: RunFolder) -> None:
    results = read(example.results)
    assert results["objective"]["direction"] == "maximize"
    (last,) = [row for row in results["scores"] if row["name"] == "last" and row["split"] == "report"]
    assert last["metric"] == "contrast"
    assert last["samples"] == 400
    checkpoints = example.path.parents[1] / "checkpoints"
    weights = load_file(max(checkpoints.iterdir()))
    noise = torch.from_numpy(SampleNoise(0, "report").normal(range(400), (1, 8, 8)))
    images = to_grey_levels((weights["mean"] + weights["spread"] * noise).clamp(-1, 1), "round").numpy()
    assert last["value"] == pytest.approx(np.std(images.reshape(400, -1), axis=1, ddof=1).mean(), rel=1e-5)


def test_the_search_of_the_page_maximises(example: RunFolder) -> None:
    events = [json.loads(line) for line in example.journal.read_text().splitlines()]
    told = [event for event in events if event["event"] == "told"]
    assert told
    assert all(event["loss"] == -event["value"] for event in told)
    (best,) = [r for r in read(example.results)["scores"] if r["name"] == "best" and r["split"] == "search"]
    assert best["value"] == max(
        event["value"] for event in events if event["event"] in ("baseline", "told") and "value" in event
    )


def test_the_logger_of_the_page_hears_every_evaluation(example: RunFolder) -> None:
    lines = (example.path / "trials.csv").read_text().splitlines()
    assert len(lines) == 60
    assert lines[0].startswith("last,")


def test_the_run_folder_is_as_described(example: RunFolder) -> None:
    (example.path / "trials.csv").unlink(missing_ok=True)
    files = {path.name + "/" * path.is_dir() for path in example.path.iterdir()}
    assert files == {name for name in first_column("runs.md", "The run folder")}


def test_results_are_as_described(example: RunFolder) -> None:
    rows = {key: row[1] for row in tables(DOCS / "runs.md")["results.json"] for key in re.findall(r"`([^`]+)`", row[0])}
    results = read(example.results)
    assert rows.keys() == results.keys()
    assert results["validation"]["trace"]
    assert set(results["curve"][0]) <= set(re.findall(r"`([^`]+)`", rows["curve"]))
    for key in ("objective", "best", "coefficients", "optimism", "validation", "timing", "memory", "seconds"):
        assert set(results[key]) <= set(re.findall(r"`([^`]+)`", rows[key]))
    assert set(results["scores"][0]) <= set(re.findall(r"`([^`]+)`", rows["scores"]))


def test_journal_events_are_as_described(example: RunFolder) -> None:
    described = {row[0].strip("`"): row[1] for row in tables(DOCS / "runs.md")["The journal"]}
    events = [json.loads(line) for line in example.journal.read_text().splitlines()]
    assert described.keys() == {event["event"] for event in events}
    for event in events:
        assert {*event} - {"event"} <= set(re.findall(r"`([^`]+)`", described[event["event"]]))
