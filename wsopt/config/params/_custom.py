"""Parameters of what is made of the user's own functions, of torchmetrics, and of several objectives."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from wsopt.config.params._base import FunctionRef, Params


class CallableParams(Params):
    """An objective that is a Python function."""

    function: FunctionRef = Field(description='the function, as "module:function" or "FILE.py:function"')
    on: Literal["weights", "images"] = Field(
        description="what it is given: a candidate's weights, or all images made with them"
    )
    direction: Literal["minimize", "maximize"] = Field(description="whether its number is to be small or large")
    arguments: dict[str, JsonValue] = Field(default_factory=dict, description="further arguments, by keyword")


class CallableFeaturesParams(Params):
    """Features that a Python function gives."""

    function: FunctionRef = Field(description='the function, as "module:function" or "FILE.py:function"')
    arguments: dict[str, JsonValue] = Field(default_factory=dict, description="further arguments, by keyword")


class ModuleParams(Params):
    """A network of any kind, built by a Python function."""

    build: FunctionRef = Field(
        description='function that returns the torch.nn.Module, as "module:function" or "FILE.py:function"'
    )
    arguments: dict[str, JsonValue] = Field(default_factory=dict, description="its arguments, by keyword")


MetricInput = Literal["images", "uint8", "grey", "features", "logits", "conditions"]
"""What a metric's `update` can be given."""


class TorchmetricsParams(Params):
    """Any metric of torchmetrics."""

    metric: str = Field(
        pattern=r"^[A-Za-z_]\w*([.:][A-Za-z_]\w*)*$",
        description="its class below torchmetrics, for example image.fid.FrechetInceptionDistance",
    )
    arguments: dict[str, JsonValue] = Field(default_factory=dict, description="arguments of its constructor")
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


class WeightedParams(Params):
    """Several objectives at once; they are told in ``[[objective.parts]]``."""

    composite: ClassVar[bool] = True
    """Its section has ``parts`` instead of parameters."""
