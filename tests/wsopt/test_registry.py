"""Components by kind and name: lookup, shadowing, loading on demand, and the messages about what is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from wsopt.errors import ExitCode, MissingDependencyError, PluginError, UnknownNameError
from wsopt.registry import BrokenPlugin, Component, Kind, Registry


def component(name: str, plugin: str = "toy", target: str = "json:JSONDecoder", kind: Kind = "optimizer") -> Component:
    return Component(kind, name, target, None, None, plugin, f"{plugin}-dist", "1.2")


def test_lookup_by_bare_and_by_qualified_name() -> None:
    registry = Registry()
    added = registry.add(component("lcsc"))
    assert registry.get("optimizer", "lcsc") is added
    assert registry.get("optimizer", "toy:lcsc") is added
    assert registry.all("optimizer") == [added]
    assert registry.all("objective") == []


def test_the_first_of_two_equal_names_keeps_it() -> None:
    registry = Registry()
    first, second = registry.add(component("lcsc")), registry.add(component("lcsc", plugin="late"))
    assert (first.shadowed, second.shadowed) == (False, True)
    assert (first.address, second.address) == ("lcsc", "late:lcsc")
    assert registry.get("optimizer", "lcsc") is first
    assert registry.get("optimizer", "late:lcsc") is second


def test_one_plugin_cannot_register_a_name_twice() -> None:
    registry = Registry()
    registry.add(component("lcsc"))
    with pytest.raises(ValueError, match="optimizer 'lcsc' is registered twice"):
        registry.add(component("lcsc"))


def test_unknown_name_lists_near_and_known_ones() -> None:
    registry = Registry()
    registry.add(component("random"))
    registry.add(component("lcsc"))
    with pytest.raises(UnknownNameError) as caught:
        registry.get("optimizer", "lcs")
    assert str(caught.value) == "unknown optimizer 'lcs'; did you mean 'lcsc'? known: lcsc, random"
    assert caught.value.exit_code == ExitCode.USAGE


def test_unknown_name_without_any_known_one_and_with_blocked_plugins() -> None:
    with pytest.raises(UnknownNameError) as caught:
        Registry(blocked=["cd"]).get("family", "cd")
    assert str(caught.value) == "unknown model family 'cd'; known: none (not loaded, because of WSOPT_PLUGINS: cd)"


def test_a_broken_plugin_may_have_had_the_unknown_name() -> None:
    registry = Registry(broken=[BrokenPlugin("toy", "toy-dist", "1.2", "ImportError: no libfoo")])
    registry.add(component("lcsc", plugin="builtin"))
    with pytest.raises(PluginError) as caught:
        registry.get("optimizer", "toy-es")
    assert str(caught.value) == (
        "unknown optimizer 'toy-es'; it may belong to a plugin that failed to load: "
        "plugin 'toy' (toy-dist 1.2): ImportError: no libfoo. Mend or uninstall that plugin, or use one of: lcsc."
    )
    assert caught.value.exit_code == ExitCode.MISSING
    assert registry.get("optimizer", "lcsc").name == "lcsc"


def test_load_imports_the_class() -> None:
    import json

    assert component("x").load() is json.JSONDecoder


def test_load_names_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_needs.py").write_text("import no_such_package.part\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError) as caught:
        component("es", target="toy_needs:Es").load()
    assert str(caught.value) == (
        "optimizer 'es' of plugin 'toy' (toy-dist 1.2) needs the package no_such_package, which could not be imported "
        "(ModuleNotFoundError: No module named 'no_such_package'). Install it, or the extra of toy-dist that brings it."
    )
    assert caught.value.exit_code == ExitCode.MISSING


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("raise RuntimeError('bad\\nday')", "RuntimeError: bad"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import toy_failing.inner", "ModuleNotFoundError: No module named 'toy_failing.inner'; 'toy_failing' is not"),
        ("pass", "AttributeError: module 'toy_failing' has no attribute 'Es'"),
    ],
)
def test_load_reports_any_other_failure(code: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_failing.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "toy_failing", raising=False)
    with pytest.raises(PluginError) as caught:
        component("es", target="toy_failing:Es").load()
    expected = f"optimizer 'es' of plugin 'toy' (toy-dist 1.2) could not be imported from toy_failing:Es ({cause}"
    assert str(caught.value).startswith(expected)
    assert str(caught.value).endswith("). Mend or update the plugin.")
    sys.modules.pop("toy_failing", None)


def test_load_passes_errors_of_wsopt_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from wsopt.errors import MissingDependencyError\nraise MissingDependencyError('pip install it')"
    (tmp_path / "toy_polite.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match=r"^pip install it$"):
        component("es", target="toy_polite:Es").load()


def test_load_wants_a_class() -> None:
    with pytest.raises(PluginError, match="should be a class, but json:dumps is <function dumps"):
        component("es", target="json:dumps").load()


@pytest.mark.parametrize("name", ["", "two words", "a:b", "-x", "a/b"])
def test_malformed_names(name: str) -> None:
    with pytest.raises(ValueError, match=r"cannot name a component \(optimizer\)"):
        component(name)


@pytest.mark.parametrize("target", ["json", "json.JSONDecoder", "json:", ":X", "js on:X"])
def test_malformed_targets(target: str) -> None:
    with pytest.raises(ValueError, match="not 'module:Class'"):
        component("x", target=target)


def test_params_cannot_take_the_keys_of_the_section() -> None:
    class Bad(BaseModel):
        reference: str

    with pytest.raises(ValueError, match="the params of objective 'x' have a field 'reference'"):
        Component("objective", "x", "json:JSONDecoder", Bad, None, "toy", "toy-dist", "1.2")
    assert Component("optimizer", "x", "json:JSONDecoder", Bad, None, "toy", "toy-dist", "1.2").params is Bad
