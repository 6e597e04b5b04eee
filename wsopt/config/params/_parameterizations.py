"""Parameters of the built-in parameterizations."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from wsopt.config.params._base import Params


class ConstraintParams(Params):
    """What is done to coefficients that the search proposes."""

    constraint: Literal["none", "convex", "clip"] = Field(
        default="none",
        description="none; convex: negative coefficients to 0, then to the sum 1; clip: to the limits below",
    )
    upper: float = Field(
        default=1.0, allow_inf_nan=False, description="with constraint = 'clip': the largest coefficient"
    )
    lower: float | None = Field(
        default=None, allow_inf_nan=False, description="with constraint = 'clip': the smallest coefficient"
    )

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if self.constraint != "clip":
            for key in ("upper", "lower"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"{key} is a limit of constraint = 'clip'; the constraint is {self.constraint!r}")
        elif self.lower is not None and self.lower >= self.upper:
            raise ValueError(f"lower must be less than upper ({self.upper:g}), not {self.lower:g}")
        return self


SumOne = Literal["difference", "sum-zero", "pca", "sqrt-whitened", "whitened"]
"""Coordinates whose coefficients sum to 1."""


class DifferenceParams(ConstraintParams):
    """Coefficients that sum to 1, shared by all layers."""

    coordinates: Literal["auto", SumOne] = Field(
        default="auto",
        description="what a search vector holds: alpha_2..alpha_K, or steps along other axes; auto: as the optimizer "
        "works best",
    )


class DirectParams(ConstraintParams):
    """All K coefficients, shared by all layers."""

    normalize: bool = Field(default=False, description="bring the coefficients to the sum 1")


class GroupPattern(Params):
    """A layer group: the tensors whose names a regular expression is found in."""

    pattern: str = Field(min_length=1, description="regular expression, found anywhere in a tensor's name")
    name: str | None = Field(default=None, min_length=1, description="name of the group; the pattern where not given")

    @field_validator("pattern")
    @classmethod
    def _is_one(cls, value: str) -> str:
        try:
            re.compile(value)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from error
        return value


class LayerwiseParams(ConstraintParams):
    """A vector of coefficients for each group of layers."""

    grouping: Literal["depth", "tensor", "patterns"] = Field(
        default="depth", description="a group for every block of the network, for every tensor, or by `patterns`"
    )
    patterns: tuple[GroupPattern, ...] = Field(
        default=(), description="with grouping = 'patterns': the groups; the first pattern that is found decides"
    )
    unmatched: Literal["group", "error"] = Field(
        default="group", description="tensors that no pattern matches: a group named rest, or an error"
    )
    coordinates: Literal["auto", SumOne, "direct"] = Field(
        default="auto", description="what each group's part of a search vector holds"
    )
    normalize: bool = Field(
        default=False, description="with coordinates = 'direct': bring each group's coefficients to the sum 1"
    )

    @model_validator(mode="after")
    def _belonging(self) -> Self:
        if self.grouping == "patterns" and not self.patterns:
            raise ValueError("grouping = 'patterns' needs patterns = [{ pattern = \"...\" }, ...]")
        if self.grouping != "patterns" and self.patterns:
            raise ValueError(f"patterns belong to grouping = 'patterns'; the grouping is {self.grouping!r}")
        if self.grouping != "patterns" and self.unmatched != "group":
            raise ValueError(f"unmatched belongs to grouping = 'patterns'; the grouping is {self.grouping!r}")
        if self.normalize and self.coordinates != "direct":
            raise ValueError(
                f"normalize belongs to coordinates = 'direct'; with {self.coordinates!r} the sum is 1 already"
            )
        return self


class LoraParams(LayerwiseParams):
    """Coefficients of LoRA checkpoints, shared by all layers or by group."""

    grouping: Literal["shared", "depth", "tensor", "patterns"] = Field(  # type: ignore[assignment]
        default="shared", description="all layers share their coefficients, or as in layerwise"
    )
