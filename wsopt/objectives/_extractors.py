"""Feature extractors for the embedded data sets: small classifiers whose weights are shipped, and the pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import as_file, files
from typing import ClassVar

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wsopt.errors import InputError
from wsopt.objectives import digits, mnist
from wsopt.objectives._base import FeatureExtractor
from wsopt.objectives.classifiers import Network, to_model_range

_DIGIT_SHAPE = (1, 8, 8)
_PREPROCESSING = "grey/127.5-1; hidden layer before activation, standardised; version 1"
# Small enough for the first layer's output to stay in the processor's cache.
_ROWS_PER_PASS = 250


def load_weights(network: type[Network]) -> dict[str, Tensor]:
    """The shipped weights of a network.

    Raises:
        InputError: naming the file, when it is missing, torn, or holds other tensors than the network has.
    """
    resource = files(network.package) / f"{network.name}.safetensors"
    advice = "Reinstall wsopt; the file is part of the package."
    with as_file(resource) as path:
        try:
            weights = load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} cannot be read ({error}). {advice}") from error
        found = {name: tuple(tensor.shape) for name, tensor in weights.items() if tensor.dtype == torch.float32}
        stored = network.stored()
        wrong = sorted(name for name in {*weights, *stored} if name not in stored or found.get(name) != stored[name])
        if wrong:
            raise InputError(f"{path} does not hold the {network.name} network: {', '.join(wrong)} differ. {advice}")
    return weights


def weights_digest(weights: dict[str, Tensor], tag: str) -> str:
    """SHA-256 over names, shapes and bytes of the weights, and a tag that names the preprocessing."""
    digest = hashlib.sha256(tag.encode())
    for name in sorted(weights):
        digest.update(f"\0{name}{list(weights[name].shape)}\0".encode())
        digest.update(weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_images(images: Tensor, shape: tuple[int, int, int], extractor: str) -> None:
    """Refuse images of another shape than ``[N, *shape]``.

    Raises:
        InputError: with the expected and the found shape.
    """
    if tuple(images.shape[1:]) != shape or images.ndim != 4:
        wanted, found = ", ".join(map(str, shape)), ", ".join(map(str, images.shape))
        raise InputError(
            f"features {extractor!r} take images of shape [N, {wanted}], found [{found}]. "
            f"Choose features that fit the images of this model."
        )


def check_outputs(outputs: Sequence[str], extractor: FeatureExtractor) -> None:
    """Refuse outputs that an extractor does not have.

    Raises:
        InputError: naming the first and the known ones.
    """
    unknown = [name for name in outputs if name not in extractor.outputs]
    if unknown:
        known = ", ".join(extractor.outputs)
        raise InputError(f"features {extractor.name!r} have no output {unknown[0]!r}; known: {known}.")


class _ClassifierFeatures(FeatureExtractor):
    outputs: ClassVar[tuple[str, ...]] = ("features", "logits")
    network: ClassVar[type[Network]]

    def __init__(self, params: object = None) -> None:
        del params
        weights = load_weights(self.network)
        self._digest = weights_digest(weights, _PREPROCESSING)
        self._weights = {torch.device("cpu"): weights}

    @property
    def dimension(self) -> int:
        """d, the width of the hidden layer."""
        return self.network.dimension

    @property
    def digest(self) -> str:
        """SHA-256 over the weights and the preprocessing."""
        return self._digest

    def __call__(self, images: Tensor) -> Tensor:
        """Standardised hidden layer: over the training images every feature has mean 0 and variance 1.

        Args:
            images: ``[N, *network.image_shape]`` grey levels in [0, 255], on any device.

        Returns:
            ``[N, d]`` float32 on the same device, no gradient.

        Raises:
            InputError: for images of another shape.
        """
        return self.extract(images, ["features"])["features"]

    def extract(self, images: Tensor, outputs: Sequence[str]) -> dict[str, Tensor]:
        """Features as in `__call__`, and ``logits``: ``[N, 10]`` class logits, from one pass.

        Raises:
            InputError: for images of another shape, or another output.
        """
        check_images(images, self.network.image_shape, self.name)
        check_outputs(outputs, self)
        found: dict[str, list[Tensor]] = {name: [] for name in outputs}
        weights = self._on(images.device)
        with torch.no_grad():
            inputs = to_model_range(images.to(torch.float32))
            for start in range(0, max(len(inputs), 1), _ROWS_PER_PASS):
                hidden = self.network.hidden(weights, inputs[start : start + _ROWS_PER_PASS])
                if "features" in found:
                    found["features"].append(self.network.standardised(weights, hidden))
                if "logits" in found:
                    found["logits"].append(self.network.classify(weights, F.silu(hidden)))
        return {name: torch.cat(parts) for name, parts in found.items()}

    def _on(self, device: torch.device) -> dict[str, Tensor]:
        if device not in self._weights:
            here = self._weights[torch.device("cpu")]
            self._weights[device] = {name: tensor.to(device) for name, tensor in here.items()}
        return self._weights[device]


class DigitsClassifier(_ClassifierFeatures):
    """The 64-wide hidden layer of a small convolutional classifier of digits (`wsopt.objectives.digits.recipe`).

    Args:
        params: nothing; there is nothing to set.
    """

    name: ClassVar[str] = "digits"
    network: ClassVar[type[Network]] = digits.CNN


class DigitsMlp(_ClassifierFeatures):
    """The 48-wide hidden layer of a fully connected classifier of digits, trained apart from `DigitsClassifier`.

    A second opinion: a distance should not be judged only in the features that it was tuned on.

    Args:
        params: nothing; there is nothing to set.
    """

    name: ClassVar[str] = "digits-mlp"
    network: ClassVar[type[Network]] = digits.MLP


class MnistClassifier(_ClassifierFeatures):
    """The 64-wide hidden layer of a small convolutional classifier of MNIST (`wsopt.objectives.mnist.recipe`).

    Args:
        params: nothing; there is nothing to set.
    """

    name: ClassVar[str] = "mnist"
    network: ClassVar[type[Network]] = mnist.CNN


class MnistMlp(_ClassifierFeatures):
    """The 48-wide hidden layer of a fully connected classifier of MNIST, trained apart from `MnistClassifier`.

    Args:
        params: nothing; there is nothing to set.
    """

    name: ClassVar[str] = "mnist-mlp"
    network: ClassVar[type[Network]] = mnist.MLP


class Pixels(FeatureExtractor):
    """The pixels themselves in [-1, 1], flattened.

    Args:
        params: nothing; there is nothing to set.
        image_shape: (channels, height, width) of the images.
    """

    name: ClassVar[str] = "pixels"

    def __init__(self, params: object = None, image_shape: tuple[int, int, int] = _DIGIT_SHAPE) -> None:
        del params
        self._shape = image_shape

    @property
    def dimension(self) -> int:
        """d, the number of values of an image."""
        channels, height, width = self._shape
        return channels * height * width

    @property
    def digest(self) -> str:
        """SHA-256 over the preprocessing and the image shape; there are no weights."""
        return weights_digest({}, f"pixels; grey/127.5-1; {self._shape}; version 1")

    def __call__(self, images: Tensor) -> Tensor:
        """Flattened images.

        Args:
            images: ``[N, C, H, W]`` grey levels in [0, 255].

        Returns:
            ``[N, C * H * W]`` float32 in [-1, 1], no gradient.

        Raises:
            InputError: for images of another shape.
        """
        check_images(images, self._shape, self.name)
        return to_model_range(images.detach().to(torch.float32)).flatten(1)
