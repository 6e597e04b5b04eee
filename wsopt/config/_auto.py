"""What ``auto`` stands for: one table, resolved while a config is loaded, so that a run knows concrete names only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from wsopt.config.params import DifferenceParams, LayerwiseParams

AUTO: Final = "auto"

AUTO_OPTIMIZER: Final[tuple[str, Mapping[str, Any]]] = ("one-plus-one", {"slope": True, "step": 0.003})
"""Name and keys of the optimizer; chosen by measurement, see docs/optimizers.md."""

AUTO_COORDINATES: Final[Mapping[str, str]] = {"lcsc": "difference", "one-plus-one": "whitened"}
"""Optimizer -> coordinates that it searches in: the paper's search as in the paper, the others as they did best."""

OTHER_AUTO_COORDINATES: Final = "sqrt-whitened"
"""Coordinates of every other optimizer."""


def auto_optimizer() -> dict[str, Any]:
    """The ``[optimizer]`` section that ``name = "auto"`` stands for."""
    name, keys = AUTO_OPTIMIZER
    return {"name": name, **keys}


def with_coordinates(params: BaseModel, optimizer: str) -> BaseModel:
    """The parameters of a parameterization with the coordinates that ``auto`` means beside `optimizer`."""
    if not isinstance(params, DifferenceParams | LayerwiseParams) or params.coordinates != AUTO:
        return params
    return params.model_copy(update={"coordinates": AUTO_COORDINATES.get(optimizer, OTHER_AUTO_COORDINATES)})
