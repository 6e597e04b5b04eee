"""From grey levels to what a vision transformer was trained on: resize, crop, normalise, as the model's files say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wsopt.errors import InputError
from wsopt.objectives.clip._hub import transformers_package

Resize = Literal["torch", "pil"]

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_BICUBIC = 3


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing that a folder's ``preprocessor_config.json`` describes.

    Args:
        folder: of the model or processor.
        how: ``torch`` resizes with torch's antialiased bicubic kernel on the device of the images, and rounds to whole
            grey levels where PIL does; ``pil`` runs transformers' own image processor, on the CPU. They differ by one
            grey level in at most a few pixels of a hundred.
        edge: length of the shorter edge after resizing, or (height, width) for a fixed size; None does not resize.
        crop: (height, width) cut from the centre; None keeps all.
        mean: of each channel, in [0, 1].
        std: of each channel, in [0, 1].
    """

    folder: Path
    how: Resize
    edge: int | tuple[int, int] | None
    crop: tuple[int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path, how: Resize, key: str) -> Preprocessing:
        """From the files of a model.

        Raises:
            InputError: where the file is missing or torn, or asks for what is not supported.
        """
        path, values = _read(folder, key)
        if how == "torch" and (values.get("resample", _BICUBIC) != _BICUBIC or not values.get("do_rescale", True)):
            raise InputError(f'{path} asks for another resampling than bicubic. Set resize = "pil" for this model.')
        try:
            normalised = values.get("do_normalize", True)
            return cls(
                folder=folder,
                how=how,
                edge=_edge(values.get("size", 224)) if values.get("do_resize", True) else None,
                crop=_crop(values.get("crop_size", 224)) if values.get("do_center_crop", True) else None,
                mean=tuple(map(float, values.get("image_mean", _CLIP_MEAN))) if normalised else (0.0,) * 3,
                std=tuple(map(float, values.get("image_std", _CLIP_STD))) if normalised else (1.0,) * 3,
            )
        except (TypeError, ValueError, KeyError) as error:
            raise InputError(f"{path} has values that are not understood ({error}). Download it again.") from error

    @property
    def tag(self) -> str:
        """Everything about it that changes features, for digests."""
        return f"resize {self.how} bicubic {self.edge}; crop {self.crop}; mean {self.mean}; std {self.std}; version 1"

    def __call__(self, images: Tensor) -> Tensor:
        """What goes into the network.

        Args:
            images: ``[N, 3, H, W]`` float32 grey levels in [0, 255].

        Returns:
            ``[N, 3, h, w]`` float32 on the same device.

        Raises:
            InputError: where the images are too small to be cropped.
        """
        if self.how == "pil":
            return self._by_processor(images)
        sized = images if self.edge is None else _resized_as_pil(images, _target(self.edge, images))
        return normalised(self._cropped(sized), self.mean, self.std)

    def _cropped(self, images: Tensor) -> Tensor:
        if self.crop is None:
            return images
        (height, width), (wanted_height, wanted_width) = images.shape[2:], self.crop
        if height < wanted_height or width < wanted_width:
            raise InputError(
                f"{self.folder}: images are {height} x {width} after resizing, too small to crop to {wanted_height} x "
                f"{wanted_width}. Mend size or crop_size in its preprocessor_config.json."
            )
        top, left = (height - wanted_height) // 2, (width - wanted_width) // 2
        return images[:, :, top : top + wanted_height, left : left + wanted_width]

    def _by_processor(self, images: Tensor) -> Tensor:
        pixels = images.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        found = self._processor(images=list(pixels), return_tensors="np", input_data_format="channels_last")
        return torch.from_numpy(np.asarray(found["pixel_values"], dtype=np.float32)).to(images.device)

    @cached_property
    def _processor(self) -> Any:  # noqa: ANN401 - a class of transformers
        package = transformers_package()
        # transformers 5 has a torchvision and a PIL form; in 4 the plain name is the PIL one.
        name = "CLIPImageProcessorPil" if hasattr(package, "CLIPImageProcessorPil") else "CLIPImageProcessor"
        return getattr(package, name)(**_read(self.folder, "resize")[1])


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images of another size by torch's bicubic kernel with antialiasing (a = -0.5, as PIL's), within [0, 255]."""
    if tuple(images.shape[2:]) == size:
        return images
    return functional.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 255)


def _resized_as_pil(images: Tensor, size: tuple[int, int]) -> Tensor:
    """`resized`, rounded to whole grey levels after the width and again after the height, halves upwards, as in PIL."""
    if tuple(images.shape[2:]) == size:
        return images.round()
    across = (resized(images, (images.shape[2], size[1])) + 0.5).floor()
    return (resized(across, size) + 0.5).floor()


def normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """``(images / 255 - mean) / std`` by channel."""
    scale = torch.tensor(std, device=images.device).view(1, -1, 1, 1)
    shift = torch.tensor(mean, device=images.device).view(1, -1, 1, 1)
    return (images / 255 - shift) / scale


def as_rgb(images: Tensor, what: str) -> Tensor:
    """Images with three channels; one channel is repeated.

    Raises:
        InputError: for another number of dimensions or channels.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        found = ", ".join(map(str, images.shape))
        raise InputError(
            f"{what} takes images of shape [N, 3, H, W] (or [N, 1, H, W], grey), found [{found}]. "
            f"Choose what fits the images of this model."
        )
    return images.expand(-1, 3, -1, -1)


def check_size(preprocess: Preprocessing, wanted: int) -> None:
    """Refuse a preprocessing that does not give the ``wanted`` by ``wanted`` images that a network was made for.

    Raises:
        InputError: with both sizes.
    """
    given = preprocess.crop or preprocess.edge
    if given != (wanted, wanted):
        raise InputError(
            f"{preprocess.folder}: the preprocessing gives images of {given}, but the network takes {wanted} x "
            f"{wanted}. Take preprocessor_config.json from the same model as the weights."
        )


def _target(edge: int | tuple[int, int], images: Tensor) -> tuple[int, int]:
    if isinstance(edge, tuple):
        return edge
    height, width = images.shape[2:]
    # The longer edge is truncated, as in transformers and torchvision.
    return (edge, int(edge * width / height)) if height <= width else (int(edge * height / width), edge)


def _read(folder: Path, key: str) -> tuple[Path, dict[str, Any]]:
    """The image processor's own values: in a file of their own, or in that of the processor of texts and images."""
    names = ("preprocessor_config.json", "processor_config.json")
    path = next((folder / name for name in names if (folder / name).is_file()), folder / names[0])
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        values = values.get("image_processor", values)
        return path, dict(values)
    except FileNotFoundError as error:
        raise InputError(
            f"{key}: {folder} has no {names[0]}, which says how images are resized and normalised. Copy that file of "
            f"the model there."
        ) from error
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}). Download it again.") from error


def _edge(size: int | dict[str, int]) -> int | tuple[int, int]:
    if isinstance(size, dict):
        return int(size["shortest_edge"]) if "shortest_edge" in size else (int(size["height"]), int(size["width"]))
    return int(size)


def _crop(size: int | dict[str, int]) -> tuple[int, int]:
    return (int(size["height"]), int(size["width"])) if isinstance(size, dict) else (int(size), int(size))
