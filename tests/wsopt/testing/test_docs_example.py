"""The parameterization and the reader of the docs pass the kit, as the pages say; a careless version does not."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from wsopt.cli import main
from wsopt.testing.conformance import check_parameterization
from wsopt.types import SpaceInfo

DOCS = Path(__file__).parents[3] / "docs"


def block(name: str, page: str = "parameterizations.md") -> str:
    text = (DOCS / page).read_text("utf-8")
    (found,) = re.findall(rf"<!-- file: {re.escape(name)} -->\n```python\n(.*?)```", text, re.DOTALL)
    return str(found)


def run(text: str, name: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": name}
    exec(compile(text, f"{name}.py", "exec"), names)
    return names


def test_the_test_of_the_page_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "smooth", SimpleNamespace(**run(block("smooth.py"), "smooth")))
    run(block("test_smooth.py"), "test_smooth")["test_smooth"]()


def test_its_coefficients_are_polynomials_of_the_step() -> None:
    module = run(block("smooth.py"), "smooth")
    one = module["Smooth"](module["SmoothParams"](degree=2))
    steps = (10, 15, 40, 100, 220)
    one.bind(SpaceInfo(steps))
    alpha = one.coefficients(np.array([[0.7, -1.2]]))[0, 0]
    assert np.abs(np.polyval(np.polyfit(steps, alpha, 2), steps) - alpha).max() < 1e-12


def test_a_matrix_product_in_place_of_the_loop_is_found() -> None:
    text = block("smooth.py")
    loop = "        for number, axis in zip(x.T, self._axes):\n            alpha += number[:, None] * axis\n"
    assert loop in text
    careless = text.replace(loop, "        alpha += (x * len(x)) @ self._axes / len(x)\n")
    module = run(careless, "smooth")
    with pytest.raises(AssertionError, match="depend on how many rows there are"):
        check_parameterization(
            lambda: module["Smooth"](module["SmoothParams"](degree=7)), counts=(8, 30), reaches_all=False
        )


def test_the_reader_of_the_page_passes_and_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "npz_reader.py"
    plugin.write_text(block("npz_reader.py", "plugins.md"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "kit").mkdir()
    run(block("test_npz_reader.py", "plugins.md"), "test_npz_reader")["test_npz"](tmp_path / "kit")
    monkeypatch.delitem(sys.modules, "npz_reader")
    training = tmp_path / "training"
    training.mkdir()
    for step in (10, 20, 30):
        np.savez(training / f"model{step}.npz", w=np.full((2, 3), step, np.float32), count=np.array(7))
    assert main(["inspect", str(training), "--plugin", str(plugin)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "raw 10 .. 30 3 10 2 7 float32 86%, int64 14% 96 B npz" in lines
    out = tmp_path / "mean.safetensors"
    assert main(["merge", str(training), "--profile", "uniform", "--out", str(out), "--plugin", str(plugin)]) == 0
    assert torch.equal(load_file(out)["w"], torch.full((2, 3), 20.0))
