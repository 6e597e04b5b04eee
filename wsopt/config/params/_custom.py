"""Parameters of what is made of the user's own functions, of torchmetrics, and of several objectives."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue, field_validator

from wsopt.config.params._base import FunctionRef, Params

_DOTTED = re.compile(r"[A-Za-z_]\w*([.:][A-Za-z_]\w*)*")


def _no_dates(value: JsonValue) -> JsonValue:
    """`value`, unless it holds a date or time: the loader gives none in their place, which TOML itself has not."""
    if value is None:
        raise ValueError("holds a date or time; write it as text in quotes")
    for inside in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _no_dates(inside)
    return value


Arguments = dict[str, Annotated[JsonValue, AfterValidator(_no_dates)]]
"""Arguments by keyword, as TOML has values."""


class CallableParams(Params):
    """An objective that is a Python function."""

    function: FunctionRef = Field(description='the function, as "module:function" or "FILE.py:function"')
    on: Literal["weights", "images"] = Field(
        description="what it is given: a candidate's weights, or all images made with them"
    )
    direction: Literal["minimize", "maximize"] = Field(description="whether its number is to be small or large")
    arguments: Arguments = Field(default_factory=dict, description="further arguments, by keyword")


class CallableFeaturesParams(Params):
    """Features that a Python function gives."""

    function: FunctionRef = Field(description='the function, as "module:function" or "FILE.py:function"')
    arguments: Arguments = Field(default_factory=dict, description="further arguments, by keyword")


class ModuleParams(Params):
    """A network of any kind, built by a Python function."""

    build: FunctionRef = Field(
        description='function that returns the torch.nn.Module, as "module:function" or "FILE.py:function"'
    )
    arguments: Arguments = Field(default_factory=dict, description="its arguments, by keyword")


MetricInput = Literal["images", "uint8", "grey", "features", "logits", "conditions"]
"""What a metric's `update` can be given."""


class TorchmetricsParams(Params):
    """Any metric of torchmetrics."""

    metric: str = Field(
        description="its class below torchmetrics, for example image.fid.FrechetInceptionDistance",
    )
    arguments: Arguments = Field(default_factory=dict, description="arguments of its constructor")
    direction: Literal["minimize", "maximize"] | None = Field(
        default=None, description="None: as the metric says (its higher_is_better)"
    )
    inputs: tuple[MetricInput, ...] | None = Field(
        default=None,
        min_length=1,
        description="what update() gets, in its order; None: by the names of its arguments",
    )
    result: str | int | None = Field(
        default=None, description="key or position of the number, where compute() gives several; None: the first"
    )

    @field_validator("metric")
    @classmethod
    def _dotted(cls, value: str) -> str:
        if not _DOTTED.fullmatch(value):
            raise ValueError(f"must be a name with dots, as image.fid.FrechetInceptionDistance, not {value!r}")
        return value


class WeightedParams(Params):
    """Several objectives at once; they are told in ``[[objective.parts]]``."""

    composite: ClassVar[bool] = True
    """Its section has ``parts`` instead of parameters."""
