"""Loading a config: defaults, paths, overrides, and the exact words of every kind of mistake."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from wsopt.config import Config, load_config
from wsopt.errors import ConfigError, ExitCode, InputError, PluginError
from wsopt.registry import BrokenPlugin, Registry

Write = Callable[[str], Path]

OPTIMIZERS = "cmaes, coordinate, lcsc, nevergrad, one-plus-one, random"


class Loader:
    """Loads texts with one registry; `problems` gives the lines of the error, with the file's folder left out."""

    def __init__(self, write: Write, registry: Registry) -> None:
        self.write = write
        self.registry = registry

    def load(self, text: str, *overrides: tuple[str, str], plugins: Sequence[Path] = ()) -> Config:
        config, source = load_config(self.write(text), overrides, lambda files: self.registry, plugins)
        assert source == text
        return config

    def problems(self, text: str, *overrides: tuple[str, str], plugins: Sequence[Path] = ()) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(text, *overrides, plugins=plugins)
        assert caught.value.exit_code == ExitCode.USAGE
        folder = self.write(text).parent
        return str(caught.value).replace(f"{folder}/", "").splitlines()


@pytest.fixture
def loader(write: Write, registry: Registry) -> Loader:
    return Loader(write, registry)


def test_defaults_are_filled_in(loader: Loader, minimal: str, tmp_path: Path) -> None:
    config = loader.load(minimal)
    assert (config.name, config.seed, config.budget, config.threads, config.device) == ("tiny", 0, 40, 1, "cpu")
    assert config.output == Path("runs")
    assert (config.data.name, config.parameterization.name, config.objective.name) == ("digits", "difference", "fid")
    assert config.objective.quantize == "round"
    assert config.train is None
    assert config.checkpoints.path == tmp_path / "weights"
    assert (config.report.features, config.report.references) == (("digits",), ("train",))
    assert (config.search.samples, config.report.samples) == (1000, 5000)


def test_values_of_the_file(loader: Loader, minimal: str) -> None:
    text = minimal.replace(
        "[checkpoints]", "width = 16\nblocks = [3]\n[train]\niterations = 5\n[checkpoints]\nwindow=[1, 9]"
    )
    config = loader.load(text + '[optimizer]\nname = "random"\nscale = 1\n')
    assert config.family.params.model_dump() == {
        "width": 16,
        "blocks": (3,),
        "network": {"channels": 4, "depth": 1},
    }
    assert config.train is not None
    assert config.train.model_dump() == {"seed": 0, "iterations": 5}
    assert config.checkpoints.window == (1, 9)
    assert config.optimizer.params.model_dump() == {"scale": 1.0}


def test_the_config_is_frozen(loader: Loader, minimal: str) -> None:
    config = loader.load(minimal)
    with pytest.raises(ValueError, match="frozen"):
        config.budget = 3


def test_overrides_are_toml_values_or_text(loader: Loader, minimal: str) -> None:
    config = loader.load(
        minimal,
        ("name", "other-name"),
        ("budget", "1e3"),
        ("search.samples", "2_000"),
        ("baselines.ema_rates", "[0.5]"),
        ("optimizer.name", "random"),
        ("family.blocks", "[2, 3.0]"),
    )
    assert (config.name, config.budget, config.search.samples) == ("other-name", 1000, 2000)
    assert type(config.budget) is int
    assert config.baselines.ema_rates == (0.5,)
    assert config.optimizer.name == "random"
    assert config.family.params.model_dump()["blocks"] == (2, 3)


def test_paths_start_from_the_file_and_those_of_options_from_here(
    loader: Loader, minimal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    text = minimal.replace('"weights"', '"../w"\nema_path = "/abs/ema"')
    config = loader.load(text)
    assert config.checkpoints.path == tmp_path.parent / "w"
    assert config.checkpoints.ema_path == Path("/abs/ema")
    assert loader.load(text, ("checkpoints.path", "mine")).checkpoints.path == here / "mine"
    assert loader.load(text, ("output", "out")).output == Path("out")
    runs = text + '[baselines]\nruns = ["../runs/a-1", "/abs/b-2"]\n'
    assert loader.load(runs).baselines.runs == (tmp_path.parent / "runs" / "a-1", Path("/abs/b-2"))
    assert loader.load(text, ("baselines.runs", '["c-3"]')).baselines.runs == (here / "c-3",)
    assert loader.load(text).baselines.runs == ()


def test_plugin_files_are_recorded_with_their_digest(write: Write, registry: Registry, minimal: str) -> None:
    path = write('plugins = ["mine.py"]\n' + minimal)
    mine, more = path.with_name("mine.py"), path.with_name("more.py")
    mine.write_text("a = 1\n")
    more.write_text("b = 1\n")
    asked: list[Path] = []

    def loader(files: Sequence[Path]) -> Registry:
        asked.extend(files)
        return registry

    config, _ = load_config(path, [], loader, [more, mine])
    assert asked == [mine, more]
    assert [(one.path, one.sha256) for one in config.plugins] == [
        (file, hashlib.sha256(file.read_bytes()).hexdigest()) for file in (mine, more)
    ]


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "no.toml"
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert str(caught.value) == f"the config file {path} does not exist. Give the path of a TOML file."


def test_a_folder_and_a_file_that_is_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_config(tmp_path)
    assert str(caught.value) == (
        f"the config file {tmp_path} cannot be read (Is a directory). Give the path of a TOML file."
    )
    path = tmp_path / "latin.toml"
    path.write_bytes('name = "é"'.encode("latin-1"))
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert str(caught.value) == f"the config file {path} is not UTF-8 text (byte 8). Save it as UTF-8."


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = 1\nb 2\n", "c.toml:2: not valid TOML at column 3: expected '=' after a key in a key/value pair"),
        ("a = 1\nb = [1,\n", "c.toml:2: not valid TOML at the end of the file: invalid value"),
        ("a = 1\na = 2\n", "c.toml:2: not valid TOML at column 6: cannot overwrite a value"),
    ],
)
def test_syntax_errors(text: str, problem: str, loader: Loader) -> None:
    assert loader.problems(text) == [problem]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("buget = 4", "c.toml:1: buget: unknown key; did you mean 'budget'?"),
        (
            "samples = 4",
            "c.toml:1: samples: unknown key; did you mean 'search.samples' or 'validation.samples' or "
            "'report.samples'?",
        ),
        ("max_failure = 4", "c.toml:1: max_failure: unknown key; did you mean 'search.max_failures'?"),
        (
            "qqqqqq = 4",
            "c.toml:1: qqqqqq: unknown key; known here: baselines, budget, checkpoints, data, device, family, "
            "features, name, objective, optimizer, output, parameterization, plugins, report, search, seed, threads, "
            "train, validation, weightspace",
        ),
        ("seed = -1", "c.toml:1: seed: must be at least 0, not -1"),
        ("seed = 1.5", "c.toml:1: seed: must be a whole number, not 1.5"),
        ("seed = true", "c.toml:1: seed: must be a whole number, not true"),
        ("seed = '3'", "c.toml:1: seed: must be a whole number, not '3'"),
        ("seed = 2020-01-02", "c.toml:1: seed: must be a whole number, not 2020-01-02"),
        ("device = 3", "c.toml:1: device: must be text in quotes, not 3"),
        ("device = 'gpu'", "c.toml:1: device: must be 'cpu', 'cuda', 'cuda:N' or 'mps', not 'gpu'"),
        ("plugins = 'x.py'", "c.toml:1: plugins: must be a list in square brackets, not 'x.py'"),
        ("plugins = [\n'a', 3]", "c.toml:2: plugins[1]: must be text in quotes, not 3"),
        ("search = 3", "c.toml:1: search: must be a section [search], not 3"),
        ("optimizer = 'lcsc'", "c.toml:1: optimizer: must be a section [optimizer], not 'lcsc'"),
    ],
)
def test_keys_at_the_top(line: str, problem: str, loader: Loader, minimal: str) -> None:
    found = [text for text in loader.problems(f"{line}\n{minimal}") if "plugin file" not in text]
    assert found == [problem]


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        (
            "[optimizer]\nname = 'lcsc'\niteer = 3",
            "c.toml:15: optimizer.iteer: unknown key for optimizer 'lcsc'; did you mean 'iter'?",
        ),
        (
            "[optimizer]\nname = 'lcsc'\nbatch_size = 3",
            "c.toml:15: optimizer.batch_size: unknown key for optimizer 'lcsc'; did you mean 'search.batch_size'?",
        ),
        (
            "[optimizer]\nname = 'random'\nzzz = 3",
            "c.toml:15: optimizer.zzz: unknown key for optimizer 'random'; known here: name, scale",
        ),
        ("[search]\nsample = 3", "c.toml:14: search.sample: unknown key; did you mean 'samples'?"),
        ("[optimizer]\nname = 'lcsc'\niter = 0", "c.toml:15: optimizer.iter: must be at least 1, not 0"),
        (
            "[optimizer]\nname = 'lcsc'\nmutation_scale = 0",
            "c.toml:15: optimizer.mutation_scale: must be greater than 0, not 0",
        ),
        (
            "[optimizer]\nname = 'lcsc'\nmutation_scale = nan",
            "c.toml:15: optimizer.mutation_scale: must be a finite number, not NaN",
        ),
        (
            "[optimizer]\nname = 'lcsc'\nmix_probability = 1.5",
            "c.toml:15: optimizer.mix_probability: must be at most 1, not 1.5",
        ),
        (
            "[baselines]\nema_rates = [\n  0.9,\n  1.0,\n]",
            "c.toml:16: baselines.ema_rates[1]: must be less than 1, not 1.0",
        ),
        ("[search]\nstarts = []", "c.toml:14: search.starts: must have at least 1 entry, not []"),
        ("[search]\nstarts = ['']", "c.toml:14: search.starts[0]: must have at least 1 character, not ''"),
        (
            "[report]\nreferences = ['dev']",
            "c.toml:14: report.references[0]: must be 'train', 'validation', 'test' or a file of reference statistics, "
            "not 'dev': dev does not exist",
        ),
        ("[report]\nreferences = ['test', 'test']", "c.toml:14: report.references: names 'test' twice"),
        (
            "[report]\nfeatures = ['digits', 'digts']",
            "c.toml:14: report.features[1]: unknown feature extractor 'digts'; did you mean 'digits' or 'digits-mlp'? "
            "known: callable, clip, digits, digits-mlp, dinov2, inception, mnist, mnist-mlp, pixels",
        ),
        ("[report]\nsamples = 10", "c.toml:14: report.samples: must be at least search.samples (1000), not 10"),
        ("[search]\nsamples = 6000", "c.toml:14: report.samples: must be at least search.samples (6000), not 5000"),
        (
            "[optimizer]\nname = 'lcs'",
            f"c.toml:14: optimizer.name: unknown optimizer 'lcs'; did you mean 'lcsc'? known: {OPTIMIZERS}",
        ),
        ("[optimizer]\nname = 3", "c.toml:14: optimizer.name: must be text in quotes, not 3"),
        ("[train]\n", "c.toml:13: train.iterations: missing: give the number of training steps"),
        (
            "[train]\niterations = 3\nsed = 1",
            "c.toml:15: train.sed: unknown key for training 'toy'; did you mean 'seed'?",
        ),
        (
            "[family.network]\nchanels = 3",
            "c.toml:14: family.network.chanels: unknown key for model family 'toy'; did you mean 'channels'?",
        ),
        (
            "[family.network]\ndepth = 'x'",
            "c.toml:14: family.network.depth: must be a whole number, not 'x'",
        ),
        (
            "[search]\ndepth = 3",
            "c.toml:14: search.depth: unknown key; did you mean 'family.network.depth'?",
        ),
        (
            "[data]\nx = 3",
            "c.toml:14: data.x: unknown key for data set 'digits'; known here: name",
        ),
    ],
)
def test_keys_of_sections(section: str, problem: str, loader: Loader, minimal: str) -> None:
    assert loader.problems(f"{minimal}{section}\n") == [problem]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('name = "tiny"', "", "c.toml: name: missing: give the name of the run, the first half of its folder's name"),
        (
            'name = "tiny"',
            'name = "a b"',
            "c.toml:1: name: must be letters, digits, '.', '_' and '-', beginning with a letter or digit, not 'a b'",
        ),
        (
            "budget = 40",
            "",
            "c.toml: budget: missing: give the total number of objective evaluations, baselines included",
        ),
        (
            'name = "toy"',
            "",
            "c.toml:4: family.name: missing: give the name of a model family (known: module, toy, fixed)",
        ),
        (
            'path = "weights"',
            "",
            "c.toml:7: checkpoints.path: missing: give the folder of the checkpoints, or a [train] section that makes "
            "them",
        ),
        ('path = "weights"', 'path = "w"\nwindow = [3]', "c.toml:9: checkpoints.window: has too few entries: [3]"),
        (
            'path = "weights"',
            'path = "w"\nwindow = [3, 4, 5]',
            "c.toml:9: checkpoints.window: must have at most 2 entries, not [3, 4, 5]",
        ),
        (
            'path = "weights"',
            'path = "w"\nwindow = [3, 3]',
            "c.toml:9: checkpoints.window: must be [first, last] steps with 0 <= first < last, not [3, 3]",
        ),
        (
            'features = "digits"',
            "",
            "c.toml:10: objective.features: missing: objective 'fid' needs the feature extractor that the objective is "
            "computed in",
        ),
        (
            'features = "digits"',
            "features = 3",
            "c.toml:11: objective.features: must be text in quotes, not 3",
        ),
        (
            "[checkpoints]",
            "width = 0\n[checkpoints]",
            "c.toml:7: family.width: must be at least 1, not 0",
        ),
        (
            'name = "toy"',
            'name = "fixed"\n[train]',
            "c.toml:6: train: model family 'fixed' has no training recipe: remove the section and give "
            "checkpoints.path",
        ),
    ],
)
def test_mistakes_in_what_must_be_there(old: str, new: str, problem: str, loader: Loader, minimal: str) -> None:
    assert loader.problems(minimal.replace(old, new)) == [problem]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (("seed", "-1"), "--set seed=-1: must be at least 0, not -1"),
        (("search.sample", "2"), "--set search.sample=2: unknown key; did you mean 'samples'?"),
        (("optimizer.name", "x"), f"--set optimizer.name=x: unknown optimizer 'x'; known: {OPTIMIZERS}"),
        (("serch.samples", "2"), "--set serch.samples=2: serch: unknown key; did you mean 'search'?"),
        (("budget.x", "2"), "--set budget.x=2: budget is a value, not a section that could have keys"),
        (("a..b", "2"), "--set a..b=2: is not of the form section.key=value"),
        (("budget", "1e-1"), "--set budget=1e-1: must be a whole number, not 0.1"),
        (
            ("baselines.ema_rates", "[0.5, 2]"),
            "--set baselines.ema_rates=[0.5, 2]: baselines.ema_rates[1]: must be less than 1, not 2",
        ),
        (("name", "1\nbudget = 2"), "--set name=1"),
    ],
)
def test_mistakes_in_overrides(override: tuple[str, str], problem: str, loader: Loader, minimal: str) -> None:
    assert loader.problems(minimal, override)[0] == problem


def test_all_problems_at_once_in_the_order_of_the_file(loader: Loader, minimal: str) -> None:
    text = minimal.replace("budget", "buget") + '[optimizer]\nname = "lsc"\n[search]\nsamples = "5"\n'
    assert loader.problems(text, ("seed", "x")) == [
        "c.toml: budget: missing: give the total number of objective evaluations, baselines included",
        "c.toml:2: buget: unknown key; did you mean 'budget'?",
        f"c.toml:14: optimizer.name: unknown optimizer 'lsc'; did you mean 'lcsc'? known: {OPTIMIZERS}",
        "c.toml:16: search.samples: must be a whole number, not '5'",
        "--set seed=x: must be a whole number, not 'x'",
    ]


def test_plugin_files_that_are_not_there(loader: Loader, minimal: str, tmp_path: Path) -> None:
    found = loader.problems('plugins = ["a.py"]\n' + minimal, plugins=[tmp_path / "b.py"])
    assert found == [
        "c.toml:1: plugins[0]: the plugin file a.py cannot be read (No such file or directory): give the path of a "
        "Python file",
        "--plugin b.py: the plugin file b.py cannot be read (No such file or directory): give the path of a "
        "Python file",
    ]


def test_a_name_that_a_broken_plugin_may_have_had(loader: Loader, minimal: str) -> None:
    loader.registry.broken.append(BrokenPlugin("es", "es-dist", "2.0", "ImportError: no libes"))
    with pytest.raises(PluginError) as caught:
        loader.load(minimal + '[optimizer]\nname = "es"\n[search]\nsample = 1\n')
    first, second = str(caught.value).splitlines()
    assert first.endswith(
        "c.toml:14: optimizer.name: unknown optimizer 'es'; it may belong to a plugin that failed to load: plugin 'es' "
        f"(es-dist 2.0): ImportError: no libes. Mend or uninstall that plugin, or use one of: {OPTIMIZERS}."
    )
    assert second.endswith("c.toml:16: search.sample: unknown key; did you mean 'samples'?")
    assert caught.value.exit_code == ExitCode.MISSING
    assert loader.load(minimal).name == "tiny"
