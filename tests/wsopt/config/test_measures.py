"""What is measured: features with parameters, presets, further metrics, parts, and files in their keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from wsopt.config import Config, load_config
from wsopt.config._presets import PRESETS
from wsopt.config.params import CallableParams, FunctionRef, InceptionParams
from wsopt.errors import ConfigError
from wsopt.registry import Registry

Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path, registry: Registry) -> Load:
    def loaded(text: str, *overrides: tuple[str, str]) -> Config:
        head = 'name = "t"\nbudget = 4\n[family]\nname = "toy"\n[checkpoints]\npath = "weights"\n'
        path = tmp_path / "c.toml"
        path.write_text(head + text)
        return load_config(path, overrides, lambda _: registry)[0]

    return loaded


def problems(load: Load, text: str, *overrides: tuple[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, *overrides)
    return [f"{problem.key}: {problem.text}" for problem in caught.value.problems]


FID = '[objective]\nfeatures = "digits"\nreference = "train"\n'


# ---- features


def test_features_without_a_section_are_the_extractor_of_that_name(load: Load) -> None:
    config = load(FID + '[report]\nfeatures = ["digits", "pixels"]\n')
    assert {name: one.name for name, one in config.features.items()} == {"digits": "digits", "pixels": "pixels"}
    assert config.resolved()["features"] == {"digits": {"name": "digits"}, "pixels": {"name": "pixels"}}


def test_a_section_gives_parameters_and_a_name_of_its_own(load: Load, tmp_path: Path) -> None:
    (tmp_path / "w.pth").touch()
    text = '[objective]\nfeatures = "mine"\nreference = "train"\n'
    text += '[features.mine]\nname = "inception"\nweights = "w.pth"\n'
    mine = load(text).features["mine"]
    assert mine.name == "inception"
    assert mine.params == InceptionParams(weights=tmp_path / "w.pth", resize="tf1")


def test_features_that_nothing_uses_and_wrong_keys_are_problems(load: Load) -> None:
    found = problems(load, FID + "[features.pixels]\nwidth = 3\n[features.digits]\nscale = 1\n")
    assert found == [
        "features.pixels: no objective uses these features; name them as features = 'pixels', or leave the section out",
        "features.digits.scale: unknown key for feature extractor 'digits'; did you mean 'optimizer.scale'?",
    ] or found[0].startswith("features.pixels: no objective uses these features")
    assert any(one.startswith("features.digits.scale: unknown key for feature extractor 'digits'") for one in found)
    assert len(found) == 2


def test_a_features_section_that_is_none_and_an_unknown_extractor(load: Load) -> None:
    text = '[objective]\nfeatures = "mine"\nreference = "train"\n'
    (found,) = problems(load, text)
    assert found.startswith("objective.features: unknown feature extractor 'mine'")
    (found,) = problems(load, text + '[features.mine]\nname = "incepton"\n')
    assert found.startswith("features.mine.name: unknown feature extractor 'incepton'; did you mean 'inception'?")
    (found,) = problems(load, text + "[features]\nmine = 3\n")
    assert found == "features.mine: must be a section [features.mine], not 3"


# ---- conventions


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_quantisation_and_the_resize_of_inception(load: Load, preset: str) -> None:
    text = f'[objective]\nfeatures = "inception"\nreference = "train"\npreset = "{preset}"\n'
    config = load(text)
    expected = PRESETS[preset]  # type: ignore[index]
    assert config.objective.quantize == expected.quantize
    params = config.features["inception"].params
    assert isinstance(params, InceptionParams)
    assert params.resize == expected.resize


def test_what_is_said_beside_a_preset(load: Load) -> None:
    text = '[objective]\nfeatures = "inception"\nreference = "train"\npreset = "lcsc"\nquantize = '
    assert load(text + '"trunc"\n').objective.quantize == "trunc"
    assert problems(load, text + '"round"\n') == [
        "objective.quantize: preset 'lcsc' sets it to 'trunc': leave one of the two out"
    ]
    own = load(text + '"trunc"\n[features.inception]\nresize = "clean"\n').features["inception"].params
    assert isinstance(own, InceptionParams)
    assert own.resize == "clean"


# ---- references


def test_a_reference_is_a_split_or_a_file_that_is_there(load: Load, tmp_path: Path) -> None:
    (tmp_path / "stats.npz").touch()
    config = load(FID.replace("train", "stats.npz") + '[report]\nreferences = ["test", "stats.npz"]\n')
    assert config.objective.reference == str(tmp_path / "stats.npz")
    assert config.report.references == ("test", str(tmp_path / "stats.npz"))
    text = "must be 'train', 'validation', 'test' or a file of reference statistics, not 'nothing.npz': "
    text += f"{tmp_path / 'nothing.npz'} does not exist"
    assert problems(load, FID.replace("train", "nothing.npz")) == [f"objective.reference: {text}"]
    (typo,) = problems(load, FID.replace("train", "tran"))
    assert typo.endswith(f"not 'tran': did you mean 'train'? {tmp_path / 'tran'} does not exist")
    found = problems(load, FID + '[validation]\nsamples = 4\nreference = "nothing.npz"\n')
    assert found == [f"validation.reference: {text}"]


def test_a_number_sign_is_a_part_or_belongs_to_the_name(load: Load, tmp_path: Path) -> None:
    (tmp_path / "#1").mkdir()
    for name in ("#1/stats.npz", "a#clip"):
        (tmp_path / name).touch()
        assert load(FID.replace("train", name)).objective.reference == str(tmp_path / name)
    part = load(FID.replace("train", "#1/stats.npz#clip"))
    assert part.objective.reference == f"{tmp_path / '#1' / 'stats.npz'}#clip"


def test_references_that_are_no_files(load: Load, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (folder,) = problems(load, FID.replace("train", "images"))
    assert folder.endswith(f"{tmp_path / 'images'} is a folder; wsopt reference make makes a file of the images in one")
    (long,) = problems(load, FID.replace("train", "x" * 5000))
    assert long.endswith("does not exist")


def test_a_wrong_reference_of_the_objective_is_told_once(load: Load) -> None:
    found = problems(load, FID.replace("train", "nothing.npz") + '[[report.metrics]]\nname = "kid"\n')
    assert [problem.split(":")[0] for problem in found] == ["objective.reference"]


@pytest.mark.parametrize("text", ["", " ", "a\\nb", "\\u001b[31m"])
def test_names_that_no_table_could_show(load: Load, text: str) -> None:
    (problem,) = problems(load, f'{FID}label = "{text}"\n')
    assert problem.startswith(("objective.label: must be text of one line", "objective.label: must have at least 1"))


def test_models_are_folders_or_ids(load: Load, tmp_path: Path) -> None:
    clip = FID.replace("digits", "clip") + '[features.clip]\nmodel = "{}"\n'
    assert load(clip.format("./clip")).features["clip"].params.model == tmp_path / "clip"  # type: ignore[attr-defined]
    assert load(clip.format("openai/clip")).features["clip"].params.model == "openai/clip"  # type: ignore[attr-defined]
    for wrong in ("", "./a\\u0000"):
        (problem,) = problems(load, clip.format(wrong))
        assert problem.startswith("features.clip.model: must be a folder or a Hugging Face id, not ")


def test_arguments_hold_no_dates(load: Load) -> None:
    text = '[objective]\nname = "callable"\non = "images"\ndirection = "minimize"\nfunction = "a:b"\n'
    text += "arguments = { day = [2020-01-01] }\n"
    (problem,) = problems(load, text)
    assert problem.endswith("holds a date or time; write it as text in quotes")


def test_messages_about_tables_of_lists(load: Load) -> None:
    metric = f"{FID}[[report.metrics]]\nname = "
    (weight,) = problems(load, f'{metric}"kid"\nweight = 1\n')
    assert weight.endswith("did you mean 'objective.parts.weight'?")
    (result,) = problems(load, f'{metric}"torchmetrics"\nmetric = "MeanMetric"\nresult = 1.5\n')
    assert result == "report.metrics[0].result: must be text in quotes or a whole number, not 1.5"
    (direction,) = problems(load, f'{metric}"callable"\non = "images"\nfunction = "a:b"\n')
    assert direction.endswith("direction: missing: say whether its number is to be small or large")


# ---- further metrics


def test_a_metric_takes_over_what_it_needs_from_the_objective(load: Load) -> None:
    text = '[[report.metrics]]\nname = "kid"\n[[report.metrics]]\nname = "fid"\nfeatures = "pixels"\n'
    kid, fid = load(FID + text).report.metrics
    assert (kid.name, kid.features, kid.reference) == ("kid", "digits", "train")
    assert (fid.name, fid.features, fid.reference) == ("fid", "pixels", "train")


def test_metrics_of_one_name_have_to_be_told_apart(load: Load) -> None:
    same = '[[report.metrics]]\nname = "fid"\n'
    (found,) = problems(load, FID + same)
    assert found.startswith("report.metrics[0]: is called 'fid' like another metric of the report")
    (metric,) = load(FID + same + 'label = "again"\n').report.metrics
    assert metric.title == "again"


def test_mistakes_in_a_metric_name_its_place(load: Load) -> None:
    text = '[[report.metrics]]\nname = "kid"\n[[report.metrics]]\nname = "kidd"\n'
    text += '[[report.metrics]]\nfeatures = "digits"\n'
    found = problems(load, FID + text + '[[report.metrics]]\nname = "kid"\nlabel = "b"\nfoo = 1\nfeatures = 3\n')
    assert found[0].startswith("report.metrics[1].name: unknown objective 'kidd'; did you mean 'kid'?")
    assert found[1] == "report.metrics[2].name: missing: give the name of an objective"
    assert any(one.startswith("report.metrics[3].foo: unknown key for objective 'kid'") for one in found)
    assert "report.metrics[3].features: must be text in quotes, not 3" in found


def test_a_missing_reference_is_told_where_nothing_gives_one(load: Load) -> None:
    text = '[objective]\nname = "inception-score"\nfeatures = "digits"\n[[report.metrics]]\nname = "fid"\n'
    (found,) = problems(load, text)
    assert found.startswith("report.metrics[0].reference: missing: objective 'fid' needs the split of the data set")


# ---- parts

PARTS = """
[objective]
name = "weighted"
features = "digits"
reference = "train"
[[objective.parts]]
name = "fid"
[[objective.parts]]
name = "precision"
weight = 2.5
"""


def test_parts_are_objectives_with_a_weight(load: Load) -> None:
    objective = load(PARTS).objective
    assert [(part.name, part.weight, part.features) for part in objective.parts] == [
        ("fid", 1.0, "digits"),
        ("precision", 2.5, "digits"),
    ]
    assert [part["weight"] for part in objective.resolved()["parts"]] == [1.0, 2.5]


def test_only_a_sum_has_parts_and_it_has_some(load: Load) -> None:
    (found,) = problems(load, '[objective]\nname = "weighted"\n')
    assert found == "objective.parts: missing: objective 'weighted' sums the objectives of [[objective.parts]]"
    (found,) = problems(load, FID + '[[objective.parts]]\nname = "fid"\n')
    assert found == "objective.parts: objective 'fid' has no parts: leave them out"
    found = problems(load, PARTS + '[[objective.parts]]\nname = "weighted"\n')[0]
    assert found == "objective.parts[2].name: 'weighted' has parts of its own and stands in [objective] only"
    assert load(PARTS, ("objective.name", "fid")).objective.parts == ()


# ---- functions and the way back


def test_files_of_functions_start_from_the_config_and_decide_the_run(load: Load, tmp_path: Path) -> None:
    text = '[objective]\nname = "callable"\nfunction = "mine.py:loss"\non = "weights"\ndirection = "minimize"\n'
    assert problems(load, text) == [
        f"objective.function: {tmp_path / 'mine.py'} cannot be read (No such file or directory): give the path of a "
        "Python file"
    ]
    (tmp_path / "mine.py").write_text("def loss(weights): return 1.0\n")
    first = load(text)
    assert isinstance(first.objective.params, CallableParams)
    assert first.objective.params.function == FunctionRef.model_validate(f"{tmp_path / 'mine.py'}:loss")
    assert first.objective.params.function.load()({}) == 1.0
    (tmp_path / "mine.py").write_text("def loss(weights): return 2.0\n")
    assert load(text).run_hash() != first.run_hash()
    (found,) = problems(load, text.replace("mine.py:loss", "mine"))
    assert found == 'objective.function: must be "module:function" or "FILE.py:function", not \'mine\''


def test_a_resolved_config_is_a_config(load: Load, tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "mine.py").write_text("def loss(weights): return 1.0\n")
    text = PARTS + '[[report.metrics]]\nname = "callable"\nlabel = "mine"\nfunction = "mine.py:loss"\n'
    config = load(text + 'on = "weights"\ndirection = "minimize"\n[search]\nsamples = 100\nrace = [20, 50]\n')
    path = tmp_path / "resolved.json"
    path.write_text(json.dumps(config.resolved()))
    again, _ = load_config(path, (), lambda _: registry)
    assert again.resolved() == config.resolved()
    assert again.run_hash() == config.run_hash()


# ---- racing


def test_stages_of_a_race_stay_below_the_samples(load: Load) -> None:
    race = FID + "[search]\nsamples = 100\nrace = "
    assert load(race + "[20, 50]\n").search.race == (20, 50)
    assert problems(load, race + "[20, 100]\n") == ["search.race: must stay below search.samples (100), not 100"]
    assert problems(load, race + "[50, 20]\n") == [
        "search.race: must be ascending sample counts from 2 on, not [50, 20]"
    ]
