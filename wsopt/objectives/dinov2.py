"""DINOv2 features (Oquab et al. 2023): the feature space of FD-DINOv2. Needs the extra ``clip`` (transformers)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from wsopt.config.params import Dinov2Params
from wsopt.objectives.clip import VisionFeatures, load_network, model_folder, network_digest, normalised, resized

_SIZE = (224, 224)
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def preprocess(images: Tensor) -> Tensor:
    """Images as DINOv2 is evaluated on for FD-DINOv2 (Stein et al. 2023): squeezed to 224 x 224, nothing cropped.

    Args:
        images: ``[N, 3, H, W]`` float32 grey levels in [0, 255].

    Returns:
        ``[N, 3, 224, 224]`` float32: antialiased bicubic, not rounded, with ImageNet's mean 0 and deviation 1.
    """
    return normalised(resized(images, _SIZE), _MEAN, _STD)


class Dinov2Features(VisionFeatures):
    """The class token of DINOv2 after its last layer norm (1024 numbers for ViT-L/14).

    The Hugging Face models hold the weights that torch.hub's ``dinov2_vitl14`` has. The size and the normalisation are
    FD-DINOv2's, not those in the model's ``preprocessor_config.json``, which resizes to 256 and crops.

    Args:
        params: the model.

    Raises:
        InputError: where the model cannot be found or loaded.
        MissingDependencyError: without transformers.
    """

    name: ClassVar[str] = "dinov2"

    def __init__(self, params: Dinov2Params | None = None) -> None:
        key = "features.dinov2.model"
        folder = model_folder((params or Dinov2Params()).model, key)
        network = load_network("Dinov2Model", folder, key)
        config: Any = network.config
        tag = f"dinov2 class token; bicubic antialias {_SIZE}; mean {_MEAN}; std {_STD}; version 1"
        super().__init__(network, preprocess, int(config.hidden_size), network_digest(network, tag))

    def _output(self, pixels: Tensor) -> Tensor:
        network: Any = self._network
        found: Tensor = network(pixel_values=pixels).pooler_output
        return found
