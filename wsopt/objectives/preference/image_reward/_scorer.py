"""ImageReward-v1.0 as a scorer of images for prompts, and the objective that is its mean."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from wsopt.config.params import ImageRewardParams
from wsopt.errors import InputError
from wsopt.objectives.clip import as_rgb
from wsopt.objectives.preference import MeanScore, Scorer
from wsopt.objectives.preference.image_reward._files import VOCABULARY_FILES, WEIGHTS_FILES, locate, read_weights
from wsopt.objectives.preference.image_reward._layout import PUBLISHED, Architecture, check
from wsopt.objectives.preference.image_reward._network import TOKENS, Network
from wsopt.objectives.preference.image_reward._preprocess import preprocess
from wsopt.objectives.preference.image_reward._tokens import Tokens

_PREPROCESSING = "PIL bicubic, centre, CLIP mean and standard deviation; 35 tokens; folded head; version 1"
# Keeps the attention maps of the vision encoder (2.5 MB an image and layer) small beside its weights.
_IMAGES_PER_PASS = 32


class ImageRewardScorer(Scorer):
    """ImageReward-v1.0 (Xu et al. 2023, arXiv:2304.05977): what people would think of an image made for a prompt.

    A BERT that reads the prompt and attends to the tokens of a ViT-L/16 gives one vector; five linear layers without
    activations make a number of it, which is standardised to mean 0 and standard deviation 1 on its authors' data. It
    is unbounded. Only prompts' token ids are kept: the text encoder looks at the image from its first layer on.

    Args:
        params: where the weights and the vocabulary lie.
        architecture: sizes of the network; those of the published weights.

    Raises:
        InputError: where a file is missing or holds something else; the weights must have every tensor of the
            published layout and no unknown one.
        MissingDependencyError: where transformers is not installed.
    """

    name: ClassVar[str] = "image-reward"

    def __init__(self, params: ImageRewardParams, architecture: Architecture = PUBLISHED) -> None:
        self._file = locate(params.weights, WEIGHTS_FILES, "image-reward.weights")
        vocabulary = locate(params.tokenizer, VOCABULARY_FILES, "image-reward.tokenizer")
        self._tokens = Tokens(vocabulary, architecture.vocabulary, TOKENS)
        weights = read_weights(self._file)
        check(weights, self._file, architecture)
        self._network = Network(weights, architecture)
        self._size = architecture.image_size

    @property
    def digest(self) -> str:
        """SHA-256 over the weights file, the vocabulary and the preprocessing."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        with self._file.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(f"{content} {self._tokens.digest} {_PREPROCESSING}".encode()).hexdigest()

    @property
    def scale(self) -> str:
        """``ImageReward``: standardised, unbounded."""
        return "ImageReward"

    def scores(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Rewards of images; higher is better.

        Args:
            images: ``[N, 3, H, W]`` float32 grey levels in [0, 255], or ``[N, 1, H, W]``; any size, the square in the
                centre of an oblong image is seen.
            prompts: N texts; what is beyond 35 tokens is cut off.

        Returns:
            ``[N]`` float32 on the device of the images, no gradient.

        Raises:
            InputError: for images of another shape, or another number of prompts than images.
        """
        images = as_rgb(images, self.name)
        if len(images) != len(prompts):
            raise InputError(f"{self.name}: {len(images)} images and {len(prompts)} prompts. Give one for each image.")
        network = self._network.to(images.device)
        found = [images.new_empty(0, dtype=torch.float32)]
        with torch.no_grad():
            for start in range(0, len(images), _IMAGES_PER_PASS):
                some = slice(start, start + _IMAGES_PER_PASS)
                tokens, mask = (part.to(images.device) for part in self._tokens(prompts[some]))
                found.append(network(preprocess(images[some], self._size), tokens, mask))
            return torch.cat(found)


class ImageReward(MeanScore):
    """Mean ImageReward of the samples (`ImageRewardScorer`)."""

    name = "image-reward"
    scorer_class = ImageRewardScorer
