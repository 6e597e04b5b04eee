"""Parameters of the feature extractors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from wsopt.config.params._base import Params


def _place(value: Path | str) -> Path | str:
    if not str(value).strip() or "\0" in str(value):
        raise ValueError(f"must be a folder or a Hugging Face id, not {value!r}")
    return Path(value) if isinstance(value, str) and value.startswith((".", "/", "~", "\\")) else value


ModelSource = Annotated[str | Path, AfterValidator(_place)]
"""A model for transformers: a folder where the text starts with ``.``, ``/`` or ``~``, else a Hugging Face id.

A relative folder starts from the config's.
"""
Resize = Annotated[
    Literal["torch", "pil"],
    Field(description="bicubic by torch, on the images' device, or by transformers' own image processor, through PIL"),
]


class InceptionParams(Params):
    """The FID Inception network."""

    weights: Path | None = Field(
        default=None,
        description="weights file, as pytorch-fid, torch-fidelity or consistency_models publish it; looked up in the "
        "caches and downloaded where it is not given",
    )
    resize: Literal["tf1", "bilinear", "antialias", "clean"] | None = Field(
        default=None,
        description="how images become 299 x 299: as TensorFlow 1, pytorch-fid, torchmetrics or clean-fid do it; "
        "`objective.preset` says it where it is not given, else `tf1`",
    )


class ClipParams(Params):
    """CLIP's vision tower."""

    model: ModelSource = Field(
        default="openai/clip-vit-base-patch32",
        description="a CLIP model that transformers can load: its folder (`./clip`), or its Hugging Face id",
    )
    layer: Literal["pooled", "projected"] = Field(
        default="pooled",
        description="before the projection (768 numbers for ViT-B/32; the FCD of LCSC and consistency_models), or "
        "after it (512; clean-fid and torch-fidelity)",
    )
    resize: Resize = "torch"


class Dinov2Params(Params):
    """DINOv2."""

    model: ModelSource = Field(
        default="facebook/dinov2-large",
        description="a DINOv2 model that transformers can load: its folder, or its Hugging Face id",
    )
