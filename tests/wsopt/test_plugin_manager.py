"""Loading plugins: built-ins, entry points and single files, and that a broken one costs a warning and nothing else."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import wsopt
from wsopt.errors import ExitCode, InputError, PluginError
from wsopt.plugin_manager import LoadedPlugins, PluginInfo, load_plugins

Install = Callable[..., None]

GOOD = """
from pydantic import BaseModel
from wsopt.hookspecs import hookimpl

class Params(BaseModel):
    target: float = 0.5

@hookimpl
def register_objectives(register):
    register("brightness", "json:JSONDecoder", params=Params)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Lays out a module with its distribution, as pip would; only such plugins (and the built-ins) are loaded."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("WSOPT_PLUGINS", "")
    monkeypatch.delenv("WSOPT_STRICT_PLUGINS", raising=False)
    installed: list[str] = []
    names: list[str] = []

    def lay_out(name: str, code: str, distribution: str | None = None, module: str | None = None) -> None:
        distribution = distribution or f"{name}-dist"
        module = module or f"wsopt_test_{name}"
        (site / f"{module}.py").write_text(code)
        info = site / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[wsopt]\n{name} = {module}\n")
        installed.append(module)
        names.append(name)
        monkeypatch.setenv("WSOPT_PLUGINS", ",".join(names))

    yield lay_out
    for module in installed:
        sys.modules.pop(module, None)


def loaded(*files: Path) -> tuple[LoadedPlugins, list[str]]:
    warnings: list[str] = []
    return load_plugins(files, warn=warnings.append), warnings


def info(plugins: LoadedPlugins, name: str) -> PluginInfo:
    (found,) = [plugin for plugin in plugins.plugins if plugin.name == name]
    return found


def test_builtins_come_through_the_same_hooks(install: Install) -> None:
    plugins, warnings = loaded()
    builtin = info(plugins, "builtin")
    assert warnings == []
    assert (builtin.distribution, builtin.version, builtin.status) == ("wsopt", wsopt.__version__, "ok")
    assert [(one.kind, one.name) for one in builtin.components] == [
        ("objective", "fid"),
        ("objective", "fcd"),
        ("objective", "fd-clip"),
        ("objective", "kid"),
        ("objective", "inception-score"),
        ("objective", "precision"),
        ("objective", "recall"),
        ("objective", "pickscore"),
        ("objective", "image-reward"),
        ("objective", "clip-score"),
        ("objective", "win-rate"),
        ("objective", "torchmetrics"),
        ("objective", "callable"),
        ("objective", "weighted"),
        ("optimizer", "lcsc"),
        ("optimizer", "one-plus-one"),
        ("optimizer", "cmaes"),
        ("optimizer", "nevergrad"),
        ("optimizer", "coordinate"),
        ("optimizer", "random"),
        ("parameterization", "difference"),
        ("parameterization", "direct"),
        ("parameterization", "layerwise"),
        ("parameterization", "lora"),
        ("family", "module"),
        ("reader", "diffusers"),
        ("reader", "safetensors-sharded"),
        ("reader", "safetensors"),
        ("reader", "torch"),
        ("reader", "edm-pickle"),
        ("reader", "flax"),
        ("extractor", "digits"),
        ("extractor", "digits-mlp"),
        ("extractor", "mnist"),
        ("extractor", "mnist-mlp"),
        ("extractor", "pixels"),
        ("extractor", "inception"),
        ("extractor", "clip"),
        ("extractor", "dinov2"),
        ("extractor", "callable"),
        ("dataset", "digits"),
        ("dataset", "mnist"),
    ]


def test_an_installed_plugin(install: Install) -> None:
    install("toy", GOOD)
    plugins, warnings = loaded()
    component = plugins.registry.get("objective", "brightness")
    assert warnings == []
    assert (component.plugin, component.distribution, component.version) == ("toy", "toy-dist", "1.2")
    assert component.params is not None
    assert set(component.params.model_fields) == {"target"}
    assert info(plugins, "toy").components == (component,)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        (
            GOOD.replace("register_objectives", "register_objective"),
            "LookupError: there is no hook 'register_objective'; did you mean 'register_objectives'?",
        ),
        (
            GOOD.replace("@hookimpl", ""),
            "LookupError: its function register_objectives is not marked with @hookimpl",
        ),
        (
            GOOD.replace("@hookimpl", "@hookimpl(wrapper=True)") + "    yield\n",
            "LookupError: its hook register_objectives is a wrapper, which wsopt does not call: use plain @hookimpl",
        ),
        (
            GOOD + "    register('second', 'no colon')\n",
            "ValueError: the target of objective 'second' is 'no colon', not 'module:Class'",
        ),
        (
            GOOD + "    register('brightness', 'json:JSONDecoder')\n",
            "ValueError: objective 'brightness' is registered twice",
        ),
        (
            GOOD + "@hookimpl\ndef register_optimizers(register):\n    raise RuntimeError('late')\n",
            "RuntimeError: late",
        ),
        (
            GOOD.replace("def register_objectives(register)", "def register_objectives(registry)"),
            "LookupError: Plugin 'bad' for hook 'register_objectives': hookimpl definition: "
            "register_objectives(registry): Argument(s) {'registry'} are declared in the hookimpl but can not be found "
            "in the hookspec",
        ),
        (
            GOOD.replace("def register_objectives", "def reg"),
            "LookupError: there is no hook 'reg'; known: register_objectives, register_optimizers, "
            "register_parameterizations, register_model_families, register_checkpoint_readers, "
            "register_feature_extractors, register_datasets, register_commands, run_started, trial_finished, "
            "run_finished",
        ),
    ],
)
def test_a_broken_plugin_is_one_warning_and_leaves_nothing_behind(code: str, cause: str, install: Install) -> None:
    install("bad", code)
    install("toy", GOOD)
    plugins, warnings = loaded()
    assert warnings == [f"warning: plugin 'bad' (bad-dist 1.2) is not used: {cause}"]
    assert (info(plugins, "bad").status, info(plugins, "bad").error) == ("broken", cause)
    assert info(plugins, "bad").components == ()
    others = [one.qualified for one in plugins.registry.all("objective") if one.plugin != "builtin"]
    assert others == ["toy:brightness"]
    plugins.events.run_started({})
    with pytest.raises(PluginError, match=r"plugin 'bad' \(bad-dist 1.2\)"):
        plugins.registry.get("optimizer", "unheard-of")


def test_strict_mode_raises(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("bad", "import no_such_package")
    monkeypatch.setenv("WSOPT_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError) as caught:
        load_plugins()
    assert str(caught.value) == (
        "plugin 'bad' (bad-dist 1.2): ModuleNotFoundError: No module named 'no_such_package'. "
        "Unset WSOPT_STRICT_PLUGINS to go on without it."
    )
    assert caught.value.exit_code == ExitCode.MISSING


def test_wsopt_plugins_selects_entry_points(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("one", GOOD)
    install("two", GOOD)
    monkeypatch.setenv("WSOPT_PLUGINS", "two")
    plugins, _ = loaded()
    assert (info(plugins, "one").status, info(plugins, "two").status) == ("blocked", "ok")
    assert "wsopt_test_one" not in sys.modules
    monkeypatch.setenv("WSOPT_PLUGINS", "")
    plugins, _ = loaded()
    assert {plugin.name for plugin in plugins.plugins if plugin.status == "ok"} == {"builtin"}


def test_two_plugins_of_one_component_name(install: Install) -> None:
    install("one", GOOD)
    install("two", GOOD)
    plugins, warnings = loaded()
    assert warnings == []
    others = [one.address for one in plugins.registry.all("objective") if one.plugin != "builtin"]
    assert others == ["brightness", "two:brightness"]
    assert plugins.registry.get("objective", "brightness").plugin == "one"


def test_two_distributions_of_one_plugin_name(install: Install) -> None:
    install("toy", GOOD, distribution="a-dist")
    install("toy", GOOD, distribution="b-dist", module="wsopt_test_toy_b")
    plugins, warnings = loaded()
    assert warnings == [
        "warning: plugin 'toy' (b-dist 1.2) is not used: "
        "ValueError: a-dist has a plugin of the same name: uninstall or rename one of the two"
    ]
    assert plugins.registry.get("objective", "brightness").distribution == "a-dist"


def test_a_single_file(install: Install, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from wsopt.hookspecs import hookimpl\n"
        "class Mine:\n    pass\n"
        "@hookimpl\ndef register_objectives(register):\n    register('mine', f'{__name__}:Mine')\n"
    )
    plugins, warnings = loaded(path, path)
    component = plugins.registry.get("objective", "mine")
    assert warnings == []
    assert component.load().__name__ == "Mine"
    assert (component.distribution, component.version) == (str(path), "")
    assert info(plugins, "mine").sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    again, _ = loaded(path)
    assert again.registry.get("objective", "mine").load() is component.load()


def test_a_single_file_that_changed_is_loaded_anew(install: Install, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    code = (
        "from wsopt.hookspecs import hookimpl\n@hookimpl\ndef register_datasets(register):\n    register({!r}, 'a:B')\n"
    )
    path.write_text(code.format("before"))
    assert loaded(path)[0].registry.get("dataset", "before")
    path.write_text(code.format("after"))
    assert [one.name for one in loaded(path)[0].registry.all("dataset")] == ["digits", "mnist", "after"]


def test_a_broken_single_file(install: Install, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def broken(:\n")
    plugins, warnings = loaded(path)
    assert warnings == [f"warning: plugin 'mine' ({path}) is not used: SyntaxError: invalid syntax (mine.py, line 1)"]
    assert info(plugins, "mine").status == "broken"


def test_a_single_file_that_is_no_python(install: Install, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("hello")
    _, warnings = loaded(path)
    assert warnings == [
        f"warning: plugin 'mine' ({path}) is not used: "
        f"ImportError: {path} is not a Python file (its name must end in .py)"
    ]


def test_a_single_file_that_is_missing(install: Install, tmp_path: Path) -> None:
    path = tmp_path / "gone.py"
    with pytest.raises(InputError) as caught:
        load_plugins([path])
    assert str(caught.value) == (
        f"the plugin file {path} cannot be read (No such file or directory). Give the path of a Python file."
    )


def test_warnings_go_to_stderr(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("bad", "1 / 0")
    load_plugins()
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "warning: plugin 'bad' (bad-dist 1.2) is not used: ZeroDivisionError: division by zero\n"


LISTENER = """
from wsopt.hookspecs import hookimpl
heard = []

@hookimpl
def run_started(run):
    run["name"] = "changed"
    heard.append("started")

@hookimpl
def trial_finished(run, trial):
    heard.append((run["name"], trial["id"]))
    raise RuntimeError("disk full")

@hookimpl
def run_finished(run):
    heard.append("finished")
"""


def test_events_reach_plugins_and_change_nothing(install: Install) -> None:
    install("good", LISTENER.replace("raise RuntimeError", "print"))
    install("loud", LISTENER)
    plugins, warnings = loaded()
    run = {"name": "run", "nested": {"budget": 3}}
    plugins.events.run_started(run)
    for trial in range(2):
        plugins.events.trial_finished(run, {"id": trial})
    plugins.events.run_finished(run)
    assert run == {"name": "run", "nested": {"budget": 3}}
    good, loud = sys.modules["wsopt_test_good"], sys.modules["wsopt_test_loud"]
    assert good.heard == ["started", ("run", 0), ("run", 1), "finished"]
    assert loud.heard == ["started", ("run", 0)]
    assert warnings == [
        "warning: plugin 'loud' failed in trial_finished and hears no more of this run: RuntimeError: disk full"
    ]
