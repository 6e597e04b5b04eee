"""CLIP's vision tower as a feature extractor: the feature space of the FCD."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from wsopt.config.params import ClipParams
from wsopt.objectives import FeatureExtractor
from wsopt.objectives.clip._hub import load_network, model_folder, network_digest
from wsopt.objectives.clip._preprocess import Preprocessing, as_rgb, check_size

_ROWS_PER_PASS = 32


def embedding_of(found: Any) -> Tensor:  # noqa: ANN401 - differs between versions
    """The projected embedding: transformers 4 returns it as it is, 5 as the pooled output of a record."""
    embedding: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return embedding


def in_passes(network: Callable[[Tensor], Tensor], images: Tensor, preprocess: Callable[[Tensor], Tensor]) -> Tensor:
    """``[N, d]`` float32: `network` over preprocessed images, a few at a time so that memory stays small.

    Args:
        network: gives ``[n, d]`` for ``[n, 3, h, w]``.
        images: ``[N, 3, H, W]`` grey levels in [0, 255].
        preprocess: gives what goes into the network.
    """
    with torch.no_grad():
        starts = range(0, len(images), _ROWS_PER_PASS)
        return torch.cat([network(preprocess(images[i : i + _ROWS_PER_PASS].float())).float() for i in starts])


class VisionFeatures(FeatureExtractor):
    """What feature extractors on a vision tower have in common: passes, devices, channels.

    Args:
        network: for inference only, on the CPU.
        preprocess: what goes into it.
        dimension: d.
        digest: of weights and preprocessing.
    """

    def __init__(self, network: nn.Module, preprocess: Callable[[Tensor], Tensor], dimension: int, digest: str) -> None:
        self._network = network
        self._preprocess = preprocess
        self._dimension = dimension
        self._digest = digest
        self._device = torch.device("cpu")

    @property
    def dimension(self) -> int:
        """d, the length of a feature vector."""
        return self._dimension

    @property
    def digest(self) -> str:
        """SHA-256 over the weights, the preprocessing and which output is taken."""
        return self._digest

    def __call__(self, images: Tensor) -> Tensor:
        """Features of images.

        Args:
            images: ``[N, 3, H, W]`` float32 grey levels in [0, 255], on any device (the network follows);
                ``[N, 1, H, W]`` is grey.

        Returns:
            ``[N, d]`` float32 on the same device, no gradient.

        Raises:
            InputError: for images of another shape.
        """
        rgb = as_rgb(images, f"features {self.name!r}")
        if not len(rgb):
            return rgb.new_zeros((0, self.dimension), dtype=torch.float32)
        if images.device != self._device:
            self._network, self._device = self._network.to(images.device), images.device
        return in_passes(self._output, rgb, self._preprocess)

    @abstractmethod
    def _output(self, pixels: Tensor) -> Tensor:
        """``[n, d]`` from ``[n, 3, h, w]`` preprocessed images."""


class ClipFeatures(VisionFeatures):
    """CLIP image features (Radford et al. 2021), of any CLIP model that transformers can load.

    The layer decides the metric's value, and the two are not comparable: ``pooled`` is the class token after the
    last layer norm and before the projection (768 numbers for ViT-B/32), the feature space of the FCD of
    consistency_models and of LCSC, which is built on it; ``projected`` is the embedding shared with texts (512
    numbers), which clean-fid and torch-fidelity take. Those programs run CLIP in half precision on a GPU; here it is
    float32 everywhere, on pixels as ``objective.quantize`` says.

    Args:
        params: model, layer and resizing.

    Raises:
        InputError: where the model cannot be found or loaded.
        MissingDependencyError: without transformers.
    """

    name: ClassVar[str] = "clip"

    def __init__(self, params: ClipParams | None = None) -> None:
        chosen = params or ClipParams()
        key = "features.clip.model"
        folder = model_folder(chosen.model, key)
        preprocess = Preprocessing.read(folder, chosen.resize, key)
        # The vision tower's own class takes its projection's size from another key than the whole model's.
        network = load_network("CLIPModel", folder, key)
        del network.text_model, network.text_projection
        config = network.config
        check_size(preprocess, int(config.vision_config.image_size))
        self._projected = chosen.layer == "projected"
        dimension = int(config.projection_dim if self._projected else config.vision_config.hidden_size)
        digest = network_digest(network, f"clip {chosen.layer}; {preprocess.tag}")
        super().__init__(network, preprocess, dimension, digest)

    def _output(self, pixels: Tensor) -> Tensor:
        network: Any = self._network
        if self._projected:
            return embedding_of(network.get_image_features(pixel_values=pixels))
        found: Tensor = network.vision_model(pixel_values=pixels).pooler_output
        return found
