"""Parameters of the built-in components: what their config sections take. Neither torch nor numpy is imported here."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field


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


class RandomParams(Params):
    """Random search around the best start."""

    scale: float = Field(
        default=0.1,
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="standard deviation of the steps, in the space's units",
    )


class FidParams(Params):
    """The Frechet distance between Gaussians fitted to features."""

    section_needs: ClassVar[tuple[str, ...]] = ("features", "reference")
    """Keys of ``[objective]`` that are optional in general and that this objective cannot do without."""

    blocks: int = Field(default=10, ge=2, description="blocks of the jackknife that gives the standard error")
