"""Parameters of the objectives on feature vectors."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from wsopt.config.params._base import Params


class FidParams(Params):
    """The Frechet distance between Gaussians fitted to features."""

    section_needs: ClassVar[tuple[str, ...]] = ("features", "reference")
    """Keys of ``[objective]`` that are optional in general and that this objective cannot do without."""

    precision: Literal["float64", "float32"] = Field(
        default="float64", description="of products of features; float32 only where it moves a score by less than 1e-6"
    )


class KidParams(Params):
    """The kernel distance (MMD) of features."""

    section_needs: ClassVar[tuple[str, ...]] = ("features", "reference")

    estimator: Literal["blocks", "subsets", "full"] = Field(
        default="blocks", description="parts of samples and reference in turn; random parts, as torchmetrics; all pairs"
    )
    block_size: int = Field(default=2000, ge=2, description="samples of a part, with blocks")
    subsets: int = Field(default=100, ge=1, le=100_000, description="number of parts, with subsets")
    subset_size: int = Field(default=1000, ge=2, description="samples of a part, with subsets")
    seed: int = Field(default=0, ge=0, description="seed that the parts are drawn from, with subsets")
    degree: int = Field(default=3, ge=1, le=10, description="degree of the kernel (gamma x.y + coef)^degree")
    gamma: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="factor of the product; 1 / dimension where not given"
    )
    coef: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="constant of the kernel")


class InceptionScoreParams(Params):
    """The Inception score, on the classes of a feature extractor that has logits."""

    section_needs: ClassVar[tuple[str, ...]] = ("features",)

    splits: int = Field(default=10, ge=1, description="parts of the samples whose scores are averaged")


class PrecisionParams(Params):
    """Share of the generated samples that lie among real ones."""

    section_needs: ClassVar[tuple[str, ...]] = ("features", "reference")

    neighbours: int = Field(default=3, ge=1, le=1000, description="k: a radius reaches to the k-th nearest neighbour")


class RecallParams(PrecisionParams):
    """Share of the real samples that lie among generated ones."""
