"""What a comparison file spans, and what is said of its mistakes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from toy_run import PLUGIN, TOML
from wsopt.compare import Cells, ComparisonFile, load_cells, read_file
from wsopt.compare._layers import toml_text
from wsopt.errors import ConfigError, InputError

HEAD = 'name = "toys"\nbase = "base.toml"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = TOML.format(seed=0, budget=30, output="runs").replace("[family]", f'plugins = ["{PLUGIN}"]\n[family]', 1)
    (tmp_path / "base.toml").write_text(text)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path


def load(folder: Path, text: str, *overrides: tuple[str, str], head: str = HEAD) -> Cells:
    path = folder / "toys.toml"
    path.write_text(head + text)
    return load_cells(read_file(path), overrides)


def problems(folder: Path, text: str, *overrides: tuple[str, str], head: str = HEAD) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides, head=head)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


# ---- what is spanned


def test_without_tables_there_is_one_cell(folder: Path) -> None:
    cells = load(folder, "")
    (cell,) = cells.cells
    assert (cell.method, cell.instance) == ("lcsc", "seed=0")
    assert cell.overrides == ()
    assert cells.reference is None
    assert cells.folder == Path("runs/toys")
    assert cell.folder.parent == Path("runs")
    assert cell.arguments == ("run", str(folder / "base.toml"))


def test_methods_times_instances_method_by_method(folder: Path) -> None:
    cells = load(
        folder,
        '[common]\nsearch.samples = 100\n"report.samples" = 150\n'
        "[instances]\nseed = [1, 2]\nthreads = [1, 1]\n"
        '[methods.lcsc]\n[methods."a b"]\noptimizer.iter = 7\nsearch.samples = 110\n',
    )
    assert [(cell.method, cell.instance) for cell in cells.cells] == [
        ("lcsc", "seed=1"),
        ("lcsc", "seed=2"),
        ("a b", "seed=1"),
        ("a b", "seed=2"),
    ]
    configs = [cell.config for cell in cells.cells]
    assert [config.seed for config in configs] == [1, 2, 1, 2]
    assert [config.search.samples for config in configs] == [100, 100, 110, 110]
    assert {config.report.samples for config in configs} == {150}
    assert configs[2].optimizer.resolved()["iter"] == 7
    assert cells.reference == "lcsc"
    assert len({cell.folder for cell in cells.cells}) == 4


def test_the_command_of_a_cell_is_that_run(folder: Path) -> None:
    from wsopt.config import load_config

    (cell,) = load(folder, '[common]\nname = "x"\nsearch.starts = ["ema-*", "last"]\n', ("search.samples", "90")).cells
    words = cell.arguments[2:]
    assert words[0::2] == ("--set",) * 3
    pairs = [tuple(word.split("=", 1)) for word in words[1::2]]
    config, _ = load_config(cell.arguments[1], pairs)  # type: ignore[arg-type]
    assert config.run_hash() == cell.config.run_hash()
    assert config.search.starts == ("ema-*", "last")
    assert config.search.samples == 90


def test_instances_that_no_single_key_tells_apart_name_all(folder: Path) -> None:
    cells = load(folder, "[instances]\nseed = [1, 1, 2]\ncheckpoints.interval = [10, 20, 20]\n")
    ends = ("seed=1, checkpoints.interval=10", "seed=1, checkpoints.interval=20", "seed=2, checkpoints.interval=20")
    assert cells.instances == ends


def test_matrix_and_sweep(folder: Path) -> None:
    cells = load(
        folder,
        "[methods.a]\n[methods.b]\noptimizer.m_cp = 3\n"
        "[matrix]\noptimizer.iter = [5, 6]\nparameterization.constraint = ['none', 'convex']\n",
    )
    assert len(cells.methods) == 8
    assert cells.methods[1] == "a, optimizer.iter = 5, parameterization.constraint = convex"

    cells = load(folder, "[sweep]\nsearch.samples = [100, 120, 140]\noptimizer.iter = [5, 10]\n")
    # 120 and 5 are the base's own.
    assert cells.methods == ("lcsc", "search.samples = 100", "search.samples = 140", "optimizer.iter = 10")
    assert [cell.config.search.samples for cell in cells.cells] == [120, 100, 140, 120]

    cells = load(folder, "[methods.a]\n[methods.b]\noptimizer.m_cp = 3\n[sweep]\noptimizer.iter = [6]\n")
    assert cells.methods == ("a", "b", "a, optimizer.iter = 6", "b, optimizer.iter = 6")


def test_another_component_drops_what_was_said_of_the_former(folder: Path) -> None:
    cells = load(
        folder,
        "[common]\noptimizer.iter = 8\n[methods.lcsc]\n"
        '[methods.random.optimizer]\nscale = 0.5\nname = "random"\n'
        '[methods.same.optimizer]\nname = "lcsc"\nm_cp = 3\n',
    )
    found = {cell.method: cell.config.optimizer.resolved() for cell in cells.cells}
    assert found["lcsc"]["iter"] == 8
    assert found["random"] == {"name": "random", "scale": 0.5}
    assert (found["same"]["iter"], found["same"]["m_cp"]) == (8, 3)


def test_paths_start_from_the_comparison(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    (cell,) = load(folder, '[common]\ncheckpoints.path = "others"\nbaselines.runs = ["a", "/b"]\n').cells
    assert cell.config.checkpoints.path == folder / "others"
    assert cell.config.baselines.runs == (folder / "a", Path("/b"))


@pytest.mark.parametrize(
    "value",
    [True, 3, 1e-05, 1e22, float("inf"), 'a "b" \\ \n \x7f ü', [1, [2.5, "x"]], {"pattern": "a.b", "k y": [1]}, {}],
)
def test_values_survive_the_command_line(value: object) -> None:
    text = toml_text(value)
    assert "\n" not in text
    assert tomllib.loads(f"value = {text}")["value"] == value


# ---- mistakes


def test_all_problems_at_once_with_lines_and_methods(folder: Path) -> None:
    text = (
        "[common]\n"  # line 3
        "search.sample = 5\n"
        "[methods.one]\n"
        "optimizer.itr = 3\n"
        "[methods.two.optimizer]\n"
        'name = "lcs"\n'
    )
    found = problems(folder, text)
    assert len(found) == 3
    assert found[0].startswith("toys.toml:4: [common]: search.sample: unknown key; did you mean 'samples'")
    assert found[1].startswith("toys.toml:6: method 'one': optimizer.itr: unknown key")
    assert found[2].startswith("toys.toml:8: method 'two': optimizer.name: ")
    assert "lcsc" in found[2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[instances]\nseed = [1, 2]\ntrain.seed = [1]\n", "toys.toml:3: instances: the lists must be of equal length"),
        ("[instances]\nseed = 3\n", "toys.toml:4: instances.seed: must be a list of values, not 3"),
        ("[sweep]\nseed = []\n", "toys.toml:4: sweep.seed: must be a list of values, not []"),
        ("[methods.a]\n[methods.b]\n", "toys.toml:4: method 'b': a (seed=0) and b (seed=0) resolve to the same run"),
        ("[sweep]\nbudget = [40]\n", "toys.toml:4: method 'budget = 40': lcsc (seed=0) and budget = 40 (seed=0) are"),
        ("[common.search]\n", "toys.toml:3: common.search: is an empty section"),
        (
            "[instances]\nseed = [1]\n[methods.a]\nseed = 4\n",
            "toys.toml:5: method 'a': seed is a key of [instances]; give it in one place",
        ),
        ("[methods.a]\nseed = 1\n[methods.' b']\n", "toys.toml:3: methods: ' b' is no name of a method"),
        ("[tuning]\nlscs = 'by hand'\n", "toys.toml:4: tuning.lscs: no method is called 'lscs'; the methods are lcsc"),
    ],
)
def test_mistakes_of_tables(folder: Path, text: str, expected: str) -> None:
    (found,) = problems(folder, text)
    assert found.startswith(expected)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (HEAD + "referenc = 'a'\n", "toys.toml:3: referenc: unknown key; did you mean 'reference'?"),
        (HEAD + "reference = 'a'\n", "toys.toml:3: reference: no method is called 'a'; the methods are lcsc"),
        (HEAD + "comparisons = [['lcsc', 'b']]\n", "toys.toml:3: comparisons: no method is called 'b'"),
        (HEAD + "comparisons = [['lcsc', 'lcsc']]\n", "toys.toml:3: comparisons: compares 'lcsc' with itself"),
        (HEAD + "comparisons = ['lcsc']\n", "toys.toml:3: comparisons: must be pairs of methods"),
        (HEAD + "jobs = 0\n", "toys.toml:3: jobs: must be at least 1, not 0"),
        (HEAD + "jobs = '2'\n", 'toys.toml:3: jobs: must be a whole number, not "2"'),
        ('name = "a b"\nbase = "base.toml"\n', "toys.toml:1: name: must be letters, digits"),
        ('name = "a"\n', "toys.toml: base: missing: give the config that every cell begins with"),
        ('name = "a"\nbase = "no.toml"\n', "toys.toml:2: base: no.toml does not exist. Give the path"),
        ('name = "a"\nbase = "~no_such_user/a.toml"\n', "toys.toml:2: base: ~no_such_user/a.toml does not exist"),
        ('name = "a"\nbase = ".."\n', "toys.toml:2: base: .. is no file. Give the path of a config in TOML"),
        ('name = "scores"\nbase = "base.toml"\n', "toys.toml:1: name: 'scores' is a folder of the runs themselves"),
        ('name = "a"\nbase = \n', "toys.toml:2: not valid TOML at column 8: invalid value"),
        (HEAD + f"jobs = 0x{'f' * 6000}\n", "toys.toml: has a number with thousands of digits"),
        (HEAD + f"common.a = {'[' * 200}{']' * 200}\n", "toys.toml: is nested more than 100 levels deep"),
        (HEAD + f"common{'.a' * 3000} = 1\n", "toys.toml: is nested more than 100 levels deep"),
    ],
)
def test_mistakes_of_the_top(folder: Path, head: str, expected: str) -> None:
    (found,) = problems(folder, "", head=head)
    assert found.startswith(expected)


def test_a_mistake_of_the_base_is_said_once(folder: Path) -> None:
    base = folder / "base.toml"
    base.write_text(base.read_text().replace("m_cp = 4", "m_pc = 4"))
    found = problems(folder, "[instances]\nseed = [1, 2]\n[methods.a]\n[methods.b]\nbudget = 40\n")
    assert found == [found[0]]
    assert found[0].startswith("base.toml:")
    assert "optimizer.m_pc: unknown key" in found[0]


def test_an_option_is_named_as_it_was_given(folder: Path) -> None:
    (found,) = problems(folder, "", ("search.samples", "many"))
    assert found.startswith("--set search.samples=many: must be a whole number")


@pytest.mark.parametrize("content", [None, b"name = '\xff'"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "toys.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"toys.toml (does not exist|is not UTF-8)"):
        read_file(path)


def test_lines_of_values_over_several_lines(folder: Path) -> None:
    text = '[common]\n# a note\nsearch.starts = [\n  "ema-*",\n]\n\nsearch.samples = 0\nname = """a\nb"""\n'
    found = problems(folder, text)
    assert [one.split(" ")[0] for one in found] == ["toys.toml:9:", "toys.toml:10:"]


@pytest.mark.parametrize("name", ["compare_optimizers", "compare_optimizers_full", "compare_mnist", "ablate_cd"])
def test_the_benchmarks_are_valid(name: str) -> None:
    from wsopt.compare import check_before

    path = Path(__file__).parents[3] / "benchmarks" / f"{name}.toml"
    cells = load_cells(read_file(path))
    check_before(cells, cells.forced)
    assert cells.name == name.replace("_", "-")
    assert cells.reference == "lcsc"
    assert len(cells.instances) == (8 if name.endswith("full") else 3)
    assert all(cell.config.seed == cell.config.train.seed for cell in cells.cells)  # type: ignore[union-attr]


def test_the_file_of_the_page_is_valid(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    page = (root / "docs" / "compare.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"<!-- compare: [\w.]+ -->\n```toml\n(.*?)```\n", page, re.DOTALL)
    path = tmp_path / "steps.toml"
    path.write_text(text.replace('"lcsc_cd.toml"', f'"{root / "benchmarks" / "lcsc_cd.toml"}"'))
    cells = load_cells(read_file(path))
    assert (len(cells.methods), len(cells.instances)) == (2, 3)
    described = set(re.findall(r"^\| `\[?(\w+)", page.partition("## Running")[0], re.MULTILINE))
    assert described == ComparisonFile.model_fields.keys()
