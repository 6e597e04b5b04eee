"""A scorer that needs no network: the mean grey level, plus the length of the prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wsopt.objectives.preference import Scorer


class Brightness(Scorer):
    """Scores ``mean of the image / 100 + number of the prompt's letters``; counts the images that it has seen."""

    name = "brightness"
    digest = "00"
    scale = "hundreds of grey levels"

    def __init__(self, params: object = None) -> None:
        self.seen = 0

    def scores(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        self.seen += len(images)
        return images.mean(dim=(1, 2, 3)) / 100 + torch.tensor([float(len(prompt)) for prompt in prompts])
