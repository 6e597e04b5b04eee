"""Who may import whom, and a few habits that hold everywhere. The graph below is the architecture; code follows it."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGINS = {folder.name for folder in (ROOT / "plugins").iterdir() if (folder / "__init__.py").is_file()}

GRAPH: dict[str, set[str]] = {
    # What everything stands on imports nothing of wsopt.
    "errors": set(),
    "files": set(),
    "hookspecs": set(),
    "memory": set(),
    "progress": set(),
    "seeding": set(),
    "tensors": set(),
    "types": set(),
    # Plugins and config: neither torch nor numpy.
    "registry": {"errors"},
    "plugin_manager": {"_builtin", "errors", "hookspecs", "registry"},
    "_builtin": {"config", "hookspecs"},
    "config": {"errors", "plugin_manager", "registry"},
    # The abstractions: they know the records, not each other.
    "checkpoints": {"errors", "files", "tensors"},
    "datasets": {"errors"},
    "families": {"config", "datasets", "errors", "progress", "seeding", "types"},
    "objectives": {"config", "datasets", "errors", "files", "progress", "seeding", "types"},
    "optimizers": {"config", "errors", "types"},
    "parameterizations": {"config", "errors", "types"},
    "weightspace": {"checkpoints", "errors", "files", "tensors", "types"},
    # What family plugins share; the core does not know it.
    "diffusion": {"errors"},
    # The run puts the parts together.
    "engines": {"checkpoints", "config", "datasets", "errors", "families", "files", "objectives", "registry", "seeding",
                "tensors", "types", "weightspace"},
    "run": {
        "checkpoints", "config", "engines", "errors", "families", "files", "memory", "objectives", "optimizers",
        "parameterizations", "progress", "registry", "report", "seeding", "types", "weightspace",
    },
    "report": {"errors", "files", "types"},
    "compare": {"config", "errors", "files", "plugin_manager", "registry", "report", "types"},
    "merge": {
        "checkpoints", "config", "errors", "files", "parameterizations", "progress", "registry", "run", "tensors",
        "types", "weightspace",
    },
    "cli": {"checkpoints", "compare", "config", "errors", "merge", "objectives", "plugin_manager", "progress",
            "registry", "report", "run"},
    "testing": {"checkpoints", "errors", "families", "hookspecs", "parameterizations", "seeding", "tensors", "types"},
}  # fmt: skip
"""Package or module of wsopt -> the others that it imports, function-local and type-checking imports included."""

ABSTRACTIONS = {"checkpoints", "families", "objectives", "optimizers", "parameterizations", "weightspace"}
CONTRACTS = {
    ("weightspace", "checkpoints"): {
        "CheckpointSet", "LoraAdapter", "LoraFactors", "Snapshot", "TensorSpec", "adapter_at", "check_finite",
        "default_style", "export_metadata", "export_tensors", "looks_like_lora", "lora_modules", "read_adapter",
    }
}  # fmt: skip
"""The only names that pass between the abstractions."""
NO_TORCH = {
    "_builtin", "cli", "compare", "config", "datasets", "errors", "files", "hookspecs", "memory", "optimizers",
    "parameterizations", "plugin_manager", "progress", "registry", "report", "seeding", "types",
}  # fmt: skip
NO_NUMPY = {
    "_builtin", "cli", "config", "errors", "files", "hookspecs", "memory", "plugin_manager", "progress", "registry",
}  # fmt: skip
OPTIMIZER_LIBRARIES = {"cma", "nevergrad"}


@dataclass(frozen=True)
class Import:
    """One imported name: `module` where it is found, and `name` in it (empty for the module itself)."""

    path: Path
    line: int
    importer: str
    module: str
    name: str
    typing_only: bool

    @property
    def area(self) -> str:
        """``config`` of ``wsopt.config.params``."""
        return (*self.module.split("."), "")[1]

    @property
    def importing_area(self) -> str:
        return (*self.importer.split("."), "")[1]

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: imports {self.module} {self.name}".rstrip()


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, of wsopt and the plugins."""
    found = {}
    for path in sources("wsopt", "plugins"):
        inside = path.relative_to(ROOT / "plugins" if path.is_relative_to(ROOT / "plugins") else ROOT)
        parts = inside.with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> list[Import]:
    return [one for importer, path in modules().items() for one in _imports_of(importer, path)]


def _imports_of(importer: str, path: Path) -> Iterator[Import]:
    guarded = {
        id(inner)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            pairs = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            module = node.module or ""
            # `from wsopt import hookspecs` names a module, not a value of one.
            pairs = [
                (f"{module}.{alias.name}", "") if f"{module}.{alias.name}" in modules() else (module, alias.name)
                for alias in node.names
            ]
        else:
            continue
        for module, name in pairs:
            yield Import(path, node.lineno, importer, module, name, id(node) in guarded)


def within_wsopt() -> list[Import]:
    return [one for one in imports() if one.importer.startswith("wsopt.") and one.module.startswith("wsopt.")]


def dotted(node: ast.AST) -> str:
    """``np.random.seed`` of an expression of names and attributes; ``?.seed`` where it begins with something else."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "?"


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]


def listed(found: object) -> str:
    return "\n".join(str(one) for one in found) if isinstance(found, list) else str(found)


def test_the_walk_sees_the_code() -> None:
    assert len(modules()) > 60
    assert {one.area for one in within_wsopt() if one.importing_area == "cli"} >= {"run", "config"}  # function-local
    assert any(one.typing_only for one in imports())


def test_every_package_is_in_the_graph() -> None:
    assert {name.split(".")[1] for name in modules() if name.startswith("wsopt.")} == GRAPH.keys()


@pytest.mark.parametrize("area", GRAPH)
def test_imports_follow_the_graph(area: str) -> None:
    edges: dict[str, list[Import]] = defaultdict(list)
    for one in within_wsopt():
        if one.importing_area == area != one.area:
            edges[one.area].append(one)
    beyond = [str(one) for other in edges.keys() - GRAPH[area] for one in edges[other]]
    assert not beyond, listed(beyond)
    assert GRAPH[area] == edges.keys(), f"the graph allows {area} an import that it does not make"


def test_abstractions_exchange_contracts_only() -> None:
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in within_wsopt():
        pair = one.importing_area, one.area
        if ABSTRACTIONS.issuperset(pair) and pair[0] != pair[1]:
            assert one.module == f"wsopt.{one.area}", f"{one}, not from the package itself"
            found[pair].add(one.name)
    assert found == CONTRACTS


def test_components_see_their_own_parameters_and_nothing_else_of_the_config() -> None:
    seen = [one for one in within_wsopt() if one.area == "config" and one.importing_area in {*ABSTRACTIONS, "_builtin"}]
    wrong = [one for one in seen if one.module != "wsopt.config.params"]
    assert seen
    assert not wrong, listed(wrong)


def test_objectives_never_see_coefficients() -> None:
    wrong = [
        one
        for one in within_wsopt()
        if one.importing_area == "objectives" and one.name in {"Candidate", "Coefficients", "SpaceInfo", "Start"}
    ]
    assert not wrong, listed(wrong)


def test_objectives_know_data_sets_only_where_their_networks_are_trained() -> None:
    users = {one.importer for one in within_wsopt() if one.importing_area == "objectives" and one.area == "datasets"}
    assert users == {f"wsopt.objectives.{name}" for name in ("digits.recipe", "mnist.recipe", "classifiers.training")}


def test_the_core_imports_neither_diffusion_nor_a_plugin() -> None:
    wrong = [
        one
        for one in imports()
        if one.importer.partition(".")[0] == "wsopt"
        and one.importing_area != "diffusion"
        and (one.area == "diffusion" or one.module.partition(".")[0] in PLUGINS)
    ]
    assert {"wsopt_cd"} <= PLUGINS
    assert not wrong, listed(wrong)


def test_private_modules_and_names_stay_in_their_package() -> None:
    wrong = []
    for one in imports():
        parts = [*one.module.split("."), *([one.name] if one.name else [])]
        if parts[0] not in {"wsopt", *PLUGINS}:
            continue
        private = next((i for i, part in enumerate(parts) if part.startswith("_")), None)
        if private is None:
            continue
        package = one.importer if one.path.name == "__init__.py" else one.importer.rpartition(".")[0]
        if package != ".".join(parts[:private]):
            wrong.append(one)
    assert not wrong, listed(wrong)


def test_plugins_use_each_other_not_at_all() -> None:
    wrong = [
        one
        for one in imports()
        if (own := one.importer.partition(".")[0]) in PLUGINS and one.module.partition(".")[0] in PLUGINS - {own}
    ]
    assert not wrong, listed(wrong)


@pytest.mark.parametrize(("package", "areas"), [("torch", NO_TORCH), ("numpy", NO_NUMPY)])
def test_who_does_without(package: str, areas: set[str]) -> None:
    heavy = {package, "safetensors.torch"} if package == "torch" else {package}
    wrong = [
        one
        for one in imports()
        if one.importing_area in areas
        and not one.typing_only
        and any(one.module == name or one.module.startswith(f"{name}.") for name in heavy)
    ]
    assert not wrong, listed(wrong)


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        (
            "import wsopt.cli, wsopt.config, wsopt.plugin_manager, wsopt.progress, wsopt._builtin, wsopt.memory\n"
            "from wsopt.cli import _progress, _report, _run, _signals\n"
            "assert wsopt.cli.main(['report', '--help']) == 0",
            {"torch", "numpy", "scipy", "sklearn", "matplotlib", *OPTIMIZER_LIBRARIES},
        ),
        (
            "import wsopt.report, wsopt.optimizers, wsopt.parameterizations, wsopt.datasets, wsopt.seeding",
            {"torch", "scipy", "sklearn", "matplotlib", *OPTIMIZER_LIBRARIES},
        ),
        ("import wsopt_cd, wsopt_cd.params", {"torch", "numpy"}),
    ],
    ids=["the command", "without torch", "registering a family"],
)
def test_what_an_import_brings_along(statement: str, heavy: set[str]) -> None:
    script = f"import sys\n{statement}\nprint('found', sorted({heavy!r} & set(sys.modules)))"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "found []"


def test_files_are_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources("wsopt", "plugins", "tests")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


def test_pickles_run_no_code() -> None:
    wrong = []
    for path in sources("wsopt", "plugins", "tests"):
        for call in calls(path):
            if dotted(call.func) not in ("torch.load", "pickle.load", "pickle.loads", "pickle.Unpickler"):
                continue
            safe = any(
                word.arg == "weights_only" and isinstance(word.value, ast.Constant) and word.value.value is True
                for word in call.keywords
            )
            if not safe:
                wrong.append(f"{path.relative_to(ROOT)}:{call.lineno}")
        wrong += [
            f"{path.relative_to(ROOT)}:{node.lineno}: import the module torch, not its load"
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ImportFrom) and node.module == "torch" and "load" in {a.name for a in node.names}
        ]
    assert not wrong, listed(wrong)


_SEEDS = {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all"}
_TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
_TORCH_DRAWS_WITHOUT_CHOICE = {"rand_like", "randn_like", "randint_like"}  # they take no generator
_TENSOR_DRAWS = {"normal_", "uniform_", "random_", "bernoulli_", "exponential_", "log_normal_", "cauchy_", "geometric_"}
_NUMPY_GENERATORS = {"Generator", "SeedSequence", "PCG64", "Philox", "default_rng", "RandomState", "get_state"}
_STATE_READS = {"getstate", "Random"}


def _global_draw(call: ast.Call) -> bool:
    """True for a call that draws from, or seeds, a generator of the whole process."""
    head, _, last = (name := dotted(call.func)).rpartition(".")
    own_generator = any(word.arg == "generator" for word in call.keywords)
    if name in _SEEDS:
        return True
    if head in ("np.random", "numpy.random"):
        return last not in _NUMPY_GENERATORS or (last in ("default_rng", "RandomState") and not call.args)
    if head == "random":
        return last not in _STATE_READS
    if head == "torch":
        return last in _TORCH_DRAWS_WITHOUT_CHOICE or (last in _TORCH_DRAWS and not own_generator)
    return bool(head) and last in _TENSOR_DRAWS and not own_generator


def test_nobody_touches_global_random_state() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{call.lineno}: {dotted(call.func)}"
        for path in sources("wsopt", "plugins")
        if path.name != "_global_state.py"  # it swaps the states around calls into a library, and back
        for call in calls(path)
        if _global_draw(call)
    ]
    assert not wrong, listed(wrong)


@pytest.mark.parametrize(
    ("code", "is_global"),
    [
        ("torch.manual_seed(0)", True),
        ("torch.Generator().manual_seed(0)", False),
        ("np.random.seed(0)", True),
        ("np.random.default_rng()", True),
        ("np.random.default_rng(3)", False),
        ("random.shuffle(x)", True),
        ("torch.randn(3)", True),
        ("torch.randn(3, generator=g)", False),
        ("torch.randn_like(x)", True),
        ("x.normal_()", True),
        ("generator.normal(size=3)", False),
    ],
)
def test_global_draws_are_recognised(code: str, is_global: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert _global_draw(call) is is_global


@pytest.mark.parametrize("name", sorted(name for name, path in modules().items() if path.name == "__init__.py"))
def test_packages_export_what_they_say(name: str) -> None:
    package = importlib.import_module(name)
    exported = getattr(package, "__all__", None)
    public = {one.name or one.module for one in imports() if one.importer == name and one.name.isidentifier()} - {
        "annotations", "import_module", "TYPE_CHECKING", "Any",
    }  # fmt: skip
    if exported is None:
        assert name in {"wsopt", "wsopt.testing", *PLUGINS}, "a package that others import from has an __all__"
        return
    assert exported == sorted(exported)
    assert len(set(exported)) == len(exported)
    assert [one for one in exported if not hasattr(package, one)] == []
    assert public <= set(exported), "imported into the package, but not in __all__"
