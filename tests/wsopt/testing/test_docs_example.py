"""The parameterization of the docs passes the kit, as the page says; a careless version of it does not."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wsopt.testing.conformance import check_parameterization
from wsopt.types import SpaceInfo

PAGE = Path(__file__).parents[3] / "docs" / "parameterizations.md"


def block(name: str) -> str:
    (found,) = re.findall(rf"<!-- file: {re.escape(name)} -->\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
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
