"""Resizing, cropping and normalising, against PIL and against formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from PIL import Image

import tiny_clip
from wsopt.errors import InputError
from wsopt.objectives.clip import Preprocessing
from wsopt.objectives.clip._preprocess import Resize, resized


def read(folder: Path, how: Resize = "torch", **changes: Any) -> Preprocessing:
    tiny_clip.save_preprocessing(folder, **changes)
    return Preprocessing.read(folder, how, "key")


def smooth(size: tuple[int, int]) -> torch.Tensor:
    """A picture of waves, ``[1, 3, *size]`` whole grey levels."""
    y, x = torch.meshgrid(*(torch.linspace(0, 3, length) for length in size), indexing="ij")
    waves = torch.stack([torch.sin(2 * x + y), torch.cos(x - 3 * y), torch.sin(x * y)])
    return (127.5 * (waves[None] + 1)).round()


@pytest.mark.parametrize("size", [(40, 64), (64, 40), (16, 16), (9, 12), (200, 199)])
def test_torch_is_within_a_grey_level_of_pil(tmp_path: Path, size: tuple[int, int]) -> None:
    ours, theirs = read(tmp_path)(smooth(size)), read(tmp_path, "pil")(smooth(size))
    assert ours.shape == theirs.shape == (1, 3, 16, 16)
    levels = (ours - theirs).abs() * 255 * torch.tensor(tiny_clip.STD).view(1, 3, 1, 1)
    assert levels.max() <= 1.001
    assert levels.mean() < 0.01


def test_by_hand_with_pil(tmp_path: Path) -> None:
    images = tiny_clip.images(1, size=(30, 45))
    picture = Image.fromarray(images[0].permute(1, 2, 0).byte().numpy()).resize((24, 16), Image.Resampling.BICUBIC)
    cut = np.asarray(picture, dtype=np.float64)[:, 4:20]
    expected = (cut / 255 - tiny_clip.MEAN) / tiny_clip.STD
    np.testing.assert_allclose(read(tmp_path, "pil")(images)[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)
    found = read(tmp_path)(images)[0].permute(1, 2, 0).numpy()
    assert (np.abs(found - expected) * 255 * tiny_clip.STD).max() <= 1.01


def test_the_longer_edge_is_truncated_and_the_centre_kept(tmp_path: Path) -> None:
    images = tiny_clip.images(1, size=(16, 21))
    found = read(tmp_path, do_normalize=False)(images)
    torch.testing.assert_close(found, images[:, :, :, 2:18] / 255)


def test_a_bicubic_overshoot_stays_in_range(tmp_path: Path) -> None:
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 255
    grey = read(tmp_path, do_normalize=False)(edge) * 255
    assert (float(grey.min()), float(grey.max())) == (0, 255)
    torch.testing.assert_close(grey, grey.round())


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 16, "crop_size": 16},  # as OpenAI's own files are written
        {"size": {"height": 16, "width": 16}, "do_center_crop": False},
    ],
)
def test_ways_to_write_a_size(tmp_path: Path, changes: dict[str, Any]) -> None:
    images = smooth((32, 32))
    torch.testing.assert_close(read(tmp_path, **changes)(images), read(tmp_path)(images))


def test_a_processor_of_texts_and_images(tmp_path: Path) -> None:
    expected = read(tmp_path)
    values = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": values, "processor_class": "X"}))
    assert Preprocessing.read(tmp_path, "torch", "key") == expected


def test_the_defaults_are_those_of_clip(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text("{}")
    found = Preprocessing.read(tmp_path, "torch", "key")
    assert (found.edge, found.crop) == (224, (224, 224))
    np.testing.assert_allclose(found.mean, [0.4815, 0.4578, 0.4082], atol=1e-4)


def test_without_resizing_the_same_size_comes_back_as_it_is() -> None:
    images = smooth((16, 16))
    assert resized(images, (16, 16)) is images


def test_images_too_small_to_crop(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"16 x 16 after resizing, too small to crop to 20 x 20"):
        read(tmp_path, crop_size=20)(smooth((32, 32)))


def test_another_kernel_needs_the_image_processor(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'another resampling than bicubic. Set resize = "pil"'):
        read(tmp_path, resample=2)
    read(tmp_path, "pil", resample=2)(smooth((32, 32)))


@pytest.mark.parametrize("text", ["{", "[1]", '{"size": {"longest_edge": 3}}', '{"image_mean": 3}'])
def test_a_broken_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(InputError, match=r"preprocessor_config\.json (cannot be read|has values)"):
        Preprocessing.read(tmp_path, "torch", "key")
