"""The CD family: consistency models distilled from a diffusion model, as a plugin of wsopt."""

from __future__ import annotations

from wsopt.hookspecs import Register, hookimpl
from wsopt_cd.params import CDParams, CDRecipe


@hookimpl
def register_model_families(register: Register) -> None:
    """Offer the family ``cd``."""
    register("cd", "wsopt_cd.family:ConsistencyDistillation", params=CDParams, recipe=CDRecipe)
