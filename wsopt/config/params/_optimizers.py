"""Parameters of the built-in optimizers."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from wsopt.config.params._base import Params, Step


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
