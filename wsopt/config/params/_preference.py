"""Parameters of the objectives that score images for their prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from wsopt.config.params._base import Params
from wsopt.config.params._extractors import ModelSource, Resize


class PickScoreParams(Params):
    """PickScore: how much people would like an image for its prompt."""

    model: ModelSource = Field(
        default="yuvalkirstain/PickScore_v1",
        description="the weights: a folder (`./PickScore_v1`), or a Hugging Face id",
    )
    processor: ModelSource = Field(
        default="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        description="the tokenizer and the preprocessing: a folder, or a Hugging Face id",
    )
    resize: Resize = "torch"


class ClipScoreParams(Params):
    """CLIP score: how well an image fits its prompt."""

    model: ModelSource = Field(
        default="openai/clip-vit-large-patch14",
        description="a CLIP model that transformers can load: its folder, or its Hugging Face id",
    )
    scale: Literal["cosine", "torchmetrics", "hessel", "logit"] = Field(
        default="torchmetrics",
        description="the mean cosine; 100 times it, at least 0 (torchmetrics); 2.5 times the mean of the positive "
        "parts (Hessel et al. 2021); or exp(logit_scale) times it (consistency_models)",
    )
    resize: Resize = "torch"


class ImageRewardParams(Params):
    """ImageReward-v1.0: how much people would like an image for its prompt."""

    weights: ModelSource = Field(
        default="THUDM/ImageReward",
        description="`ImageReward.pt`: the file, its folder (`./ImageReward`), or a Hugging Face id in the cache",
    )
    tokenizer: ModelSource = Field(
        default="bert-base-uncased",
        description="BERT's `vocab.txt` or `tokenizer.json`: the file, its folder, or a Hugging Face id in the cache",
    )


# Further scorers are defined above this line: the win rate has them all.
class WinRateParams(Params):
    """How often images are preferred to a baseline's for the same prompt and noise."""

    scorer: Literal["pickscore", "clip-score", "image-reward"] = Field(
        default="pickscore", description="what says which of two images is the better one"
    )
    baseline: Path = Field(
        description="the baseline's images: a folder of files named by sample index (`17.png`), or an npz with uint8 "
        "`images` [N, H, W, 3] and perhaps `indices` and `prompts`; for one split"
    )
    value: Literal["rate", "preference", "gap"] = Field(
        default="rate",
        description="share of samples preferred, ties half; mean of sigmoid(score gap), the paper's Table 6; or the "
        "mean score gap, which is smooth",
    )
    threshold: float = Field(
        default=0.0, ge=0, lt=1, description="two images tie where their preferences differ by no more than this"
    )
    pickscore: PickScoreParams = Field(default=PickScoreParams(), description="parameters of the scorer `pickscore`")
    clip_score: ClipScoreParams = Field(default=ClipScoreParams(), description="parameters of the scorer `clip-score`")
    image_reward: ImageRewardParams = Field(
        default=ImageRewardParams(), description="parameters of the scorer `image-reward`"
    )

    @model_validator(mode="after")
    def _only_the_chosen(self) -> Self:
        tables = {"pickscore", "clip_score", "image_reward"} & self.model_fields_set
        unused = sorted(tables - {self.scorer.replace("-", "_")})
        if unused:
            raise ValueError(f"has parameters for {unused[0]}, but the scorer is {self.scorer!r}")
        return self
