"""The cosine between an image's and a text's CLIP embedding: what PickScore and CLIP score are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from wsopt.errors import InputError, MissingDependencyError
from wsopt.objectives.clip._hub import load_network, model_folder, network_digest, transformers_package
from wsopt.objectives.clip._preprocess import Preprocessing, Resize, as_rgb, check_size
from wsopt.objectives.clip.features import embedding_of, in_passes

_VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"))


class ClipSimilarity:
    """Both towers of a CLIP model (Radford et al. 2021). Embeddings of texts are kept.

    Args:
        model: folder or Hugging Face id of the weights.
        processor: the same for the tokenizer and the preprocessing.
        resize: how images are resized.
        key: the config's table that named them.

    Raises:
        InputError: where a model cannot be found or loaded.
        MissingDependencyError: without transformers.
    """

    def __init__(self, model: Path | str, processor: Path | str, resize: Resize, key: str) -> None:
        folder = model_folder(model, f"{key}.model")
        files = folder if processor == model else model_folder(processor, f"{key}.processor", weights=False)
        self._preprocess = Preprocessing.read(files, resize, key)
        self._network: Any = load_network("CLIPModel", folder, f"{key}.model")
        check_size(self._preprocess, int(self._network.config.vision_config.image_size))
        self._length = int(self._network.config.text_config.max_position_embeddings)
        self._tokenizer = load_tokenizer(files, key)
        self._texts: dict[str, Tensor] = {}
        tag = f"clip similarity; text {self._length} tokens; {self._preprocess.tag}"
        self.digest = network_digest(self._network, tag)
        """SHA-256 over the weights of both towers, the preprocessing and the text's length."""
        self.logit_scale = float(self._network.logit_scale.exp())
        """exp(logit_scale), what cosines are multiplied by in training; near 100 in published models."""

    def cosines(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Cosine of each image's embedding with its prompt's.

        Args:
            images: ``[N, 3, H, W]`` float32 grey levels in [0, 255], on any device (the network follows);
                ``[N, 1, H, W]`` is grey.
            prompts: N texts; of a long one the first tokens count (77 with their two markers in published models).

        Returns:
            ``[N]`` float32 in [-1, 1] on the same device, no gradient.

        Raises:
            InputError: for images of another shape, or another number of prompts than images.
        """
        rgb = as_rgb(images, "CLIP")
        if len(prompts) != len(images):
            raise InputError(f"CLIP was given {len(images)} images and {len(prompts)} prompts. Give one prompt each.")
        if not len(images):
            return images.new_zeros(0, dtype=torch.float32)
        self._network.to(images.device)
        seen = functional.normalize(in_passes(self._image_embeddings, rgb, self._preprocess), dim=1)
        return (seen * self._text_embeddings(prompts, images.device)).sum(1)

    def _image_embeddings(self, pixels: Tensor) -> Tensor:
        return embedding_of(self._network.get_image_features(pixel_values=pixels))

    def _text_embeddings(self, prompts: Sequence[str], device: torch.device) -> Tensor:
        """``[N, d]`` of length 1; one text is encoded at a time, so its embedding depends on nothing but itself."""
        for prompt in prompts:
            if prompt not in self._texts:
                tokens = self._tokenizer([prompt], truncation=True, max_length=self._length, return_tensors="pt")
                inputs = {name: tokens[name].to(device) for name in ("input_ids", "attention_mask")}
                with torch.no_grad():
                    found = embedding_of(self._network.get_text_features(**inputs)).float()
                self._texts[prompt] = functional.normalize(found, dim=1)[0].cpu()
        return torch.stack([self._texts[prompt] for prompt in prompts]).to(device)


def load_tokenizer(folder: Path, key: str) -> Any:  # noqa: ANN401 - a class of transformers
    """The tokenizer that a folder describes.

    Raises:
        InputError: where its files are missing or torn.
        MissingDependencyError: without transformers.
    """
    advice = "Copy the tokenizer's files (tokenizer.json, or vocab.json and merges.txt) of the model there."
    # Without a vocabulary transformers 5 makes an empty one, without a word.
    if not any(all((folder / name).is_file() for name in names) for names in _VOCABULARIES):
        raise InputError(f"{key}: {folder} has no tokenizer. {advice}")
    try:
        return transformers_package().AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except MissingDependencyError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exceptions
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{key}: {folder} has no tokenizer that can be loaded ({reason}). {advice}") from error
