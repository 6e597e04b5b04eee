"""Parameters of the built-in components: what their config sections take. Neither torch nor numpy is imported here."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Params(BaseModel):
    """Base of parameter models: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NoParams(Params):
    """A component without parameters."""


class LcscParams(Params):
    """The evolutionary search of the LCSC paper (algorithm 1)."""

    epochs: int | None = Field(
        default=None, ge=1, description="number of epochs (paper: Epoch); None: as many as the budget allows"
    )
    iter: int = Field(default=20, ge=1, description="candidates per epoch (paper: Iter)")
    m_cp: int = Field(default=10, ge=1, description="largest number of candidate parents (paper: M_CP)")
    mix_probability: float = Field(
        default=0.5, ge=0, le=1, description="probability of mixing two parents before the mutation"
    )
    mutation_scale: float = Field(
        default=0.01,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="standard deviation of the mutation, in the space's units",
    )
    keep_sum: bool = Field(
        default=False, description="shift each child evenly, so that the sum of its numbers stays that of its parents"
    )


class RandomParams(Params):
    """Random search around the best start."""

    scale: float = Field(
        default=0.01,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="standard deviation of the steps, in the space's units",
    )


Step = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
"""A length in the space's units."""


class OnePlusOneParams(Params):
    """The (1+1) evolution strategy with the 1/5 success rule."""

    step: Step = Field(default=0.01, description="initial standard deviation of the steps, in the space's units")
    success_rate: float = Field(
        default=0.2, gt=0, lt=1, description="share of successes at which the step stays as it is (Rechenberg: 1/5)"
    )
    increase: float = Field(
        default=1.4, gt=1, le=100, description="factor of the step after a success (Kern et al.: 1.4; nevergrad: 2)"
    )
    slope: bool = Field(
        default=False, description="shift each child down the slope that a regression on the latest losses finds"
    )


class CoordinateParams(Params):
    """Line searches along the axes of the coordinate system, in turn (Powell)."""

    step: Step = Field(default=0.01, description="first step along each axis, in the space's units")


class CmaesParams(Params):
    """CMA-ES, through pycma."""

    covariance: Literal["full", "separable", "vd", "vkd"] = Field(
        default="full", description="covariance matrix: any; diagonal; D (I + v v') D; D (I + V V') D with few columns"
    )
    step_adaptation: Literal["csa", "tpa"] | None = Field(
        default=None, description="cumulative (csa) or two-point (tpa); csa where not given, vkd has one of its own"
    )
    popsize: int | None = Field(
        default=None, ge=4, le=100_000, description="candidates per generation; 4 + 3 ln D where not given"
    )
    step: Step = Field(default=0.01, description="initial standard deviation, in the space's units")
    surrogate: Literal["none", "lq"] = Field(
        default="none", description="lq: a model of the losses ranks each generation, and only some are evaluated"
    )

    @model_validator(mode="after")
    def _own_adaptation(self) -> Self:
        if self.covariance == "vkd" and self.step_adaptation is not None:
            raise ValueError("covariance = 'vkd' comes with a two-point step adaptation of its own: leave the key out")
        return self


class NevergradParams(Params):
    """An optimizer of nevergrad."""

    optimizer: str = Field(
        default="OnePlusOne", min_length=1, description="name in nevergrad's registry: OnePlusOne, CMA, NGOpt, ..."
    )
    step: Step = Field(default=0.01, description="what nevergrad takes for one, in the space's units")


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


class FidParams(Params):
    """The Frechet distance between Gaussians fitted to features."""

    section_needs: ClassVar[tuple[str, ...]] = ("features", "reference")
    """Keys of ``[objective]`` that are optional in general and that this objective cannot do without."""

    blocks: int = Field(default=10, ge=2, description="blocks of the jackknife that gives the standard error")
