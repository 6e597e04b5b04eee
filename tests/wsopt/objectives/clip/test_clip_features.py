"""CLIP and DINOv2 as feature extractors, on tiny random models saved to disk."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

import transformers

import tiny_clip
from wsopt.config.params import ClipParams, Dinov2Params
from wsopt.errors import InputError, MissingDependencyError
from wsopt.objectives.clip import ClipFeatures, model_folder, network_digest
from wsopt.objectives.clip.features import embedding_of
from wsopt.objectives.dinov2 import Dinov2Features, preprocess


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.save_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def dinov2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.save_dinov2(tmp_path_factory.mktemp("models") / "dinov2")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    def refuse(*args: object, local_files_only: bool = False, **more: object) -> str:
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("nothing cached")
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)


def features(folder: Path, **params: Any) -> ClipFeatures:
    return ClipFeatures(ClipParams(model=folder, **params))


def by_hand(images: Tensor) -> Tensor:
    """Images that already have the right size, normalised."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (tiny_clip.MEAN, tiny_clip.STD))
    return (images / 255 - mean) / std


@pytest.mark.usefixtures("untouched_randomness")
def test_pooled_is_before_and_projected_behind_the_projection(folder: Path) -> None:
    images = tiny_clip.images(5)
    network = tiny_clip.load("CLIPModel", folder)
    with torch.no_grad():
        pooled = network.vision_model(pixel_values=by_hand(images)).pooler_output
        projected = pooled @ network.visual_projection.weight.T
    before, behind = features(folder), features(folder, layer="projected")
    assert (before.dimension, behind.dimension) == (tiny_clip.HIDDEN, tiny_clip.PROJECTED)
    torch.testing.assert_close(before(images), pooled)
    torch.testing.assert_close(behind(images), projected)
    assert before(images).dtype == torch.float32
    assert not before(images).requires_grad


def test_features_do_not_depend_on_the_batch(folder: Path) -> None:
    images = tiny_clip.images(70, size=(24, 20))
    extractor = features(folder)
    together = extractor(images)
    apart = torch.cat([extractor(images[:1]), extractor(images[1:34]), extractor(images[34:])])
    torch.testing.assert_close(together, apart)
    assert extractor(images[:0]).shape == (0, tiny_clip.HIDDEN)


def test_grey_images_are_repeated(folder: Path) -> None:
    grey = tiny_clip.images(2)[:, :1]
    extractor = features(folder)
    torch.testing.assert_close(extractor(grey), extractor(grey.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("shape", [(2, 4, 16, 16), (2, 3, 16)])
def test_images_of_another_shape(folder: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"'clip' takes images of shape \[N, 3, H, W\].*found \[2, "):
        features(folder)(torch.zeros(shape))


def test_the_digest_follows_weights_layer_and_preprocessing(folder: Path, tmp_path: Path) -> None:
    other_weights = tiny_clip.save_clip(tmp_path / "weights", seed=1)
    other_files = tmp_path / "files"
    shutil.copytree(folder, other_files)
    tiny_clip.save_preprocessing(other_files, image_mean=[0.5, 0.5, 0.5])
    digests = [
        features(folder).digest,
        features(folder, layer="projected").digest,
        features(folder, resize="pil").digest,
        features(other_weights).digest,
        features(other_files).digest,
    ]
    assert len(set(digests)) == len(digests)
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert features(moved).digest == digests[0]


def test_the_digest_does_not_depend_on_the_names_of_tensors() -> None:
    one, other = torch.nn.Linear(2, 3, device="meta"), torch.nn.Linear(2, 3, device="meta")
    for network in (one, other):
        network.weight = torch.nn.Parameter(torch.arange(6.0).view(3, 2))
        network.bias = torch.nn.Parameter(torch.arange(3.0))
    renamed = torch.nn.Sequential(other)
    assert network_digest(one, "a") == network_digest(renamed, "a") != network_digest(one, "b")
    other.weight.data = other.weight.data.T.contiguous()
    assert network_digest(one, "a") != network_digest(renamed, "a")


def test_what_both_versions_of_transformers_return() -> None:
    embedding = torch.ones(2, 3)
    assert embedding_of(embedding) is embedding
    assert embedding_of(SimpleNamespace(pooler_output=embedding)) is embedding


@pytest.mark.parametrize("wrap", [lambda tensor: tensor, lambda tensor: SimpleNamespace(pooler_output=tensor)])
def test_projected_features_with_either_version(folder: Path, monkeypatch: pytest.MonkeyPatch, wrap: Any) -> None:
    def image_features(self: Any, pixel_values: Tensor) -> Any:
        return wrap(self.visual_projection(self.vision_model(pixel_values=pixel_values).pooler_output))

    images = tiny_clip.images(2)
    expected = features(folder, layer="projected")(images)
    monkeypatch.setattr(transformers.CLIPModel, "get_image_features", image_features)
    torch.testing.assert_close(features(folder, layer="projected")(images), expected)


def test_an_older_file_that_stores_positions_loads(folder: Path, tmp_path: Path, capfd: Any) -> None:
    shutil.copytree(folder, old := tmp_path / "old")
    weights = tiny_clip.load("CLIPModel", folder).state_dict()
    weights["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    (old / "model.safetensors").unlink()
    torch.save(weights, old / "pytorch_model.bin")
    capfd.readouterr()
    extractor = features(old)
    assert capfd.readouterr() == ("", "")
    assert extractor.digest == features(folder).digest


def test_half_precision_files_are_evaluated_in_single_precision(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, half := tmp_path / "half")
    tiny_clip.load("CLIPModel", folder).half().save_pretrained(half)
    found = features(half)(tiny_clip.images(2))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, features(folder)(tiny_clip.images(2)), rtol=0.05, atol=0.01)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"features\.clip\.model: there is no folder .*nowhere"):
        features(tmp_path / "nowhere")


def test_a_folder_without_weights(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(InputError, match=r"holds no weights \(model\.safetensors or pytorch_model\.bin\)"):
        features(tmp_path)


def test_a_folder_without_preprocessing(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, bare := tmp_path / "bare")
    (bare / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"bare has no preprocessor_config\.json"):
        features(bare)


def test_torn_weights(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, torn := tmp_path / "torn")
    content = (torn / "model.safetensors").read_bytes()
    (torn / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"torn cannot be loaded as CLIPModel"):
        features(torn)


def test_another_network(dinov2_folder: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, foreign := tmp_path / "foreign")
    shutil.copy(dinov2_folder / "model.safetensors", foreign)
    with pytest.raises(InputError, match=r"does not hold the CLIPModel .* tensors are missing or of another size \("):
        features(foreign)


def test_weights_of_another_size_are_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, other := tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["projection_dim"] = tiny_clip.PROJECTED + 1
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"another size \(text_projection\.weight, visual_projection\.weight\)"):
        features(other)


def test_the_preprocessing_must_fit_the_network(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, wrong := tmp_path / "wrong")
    tiny_clip.save_preprocessing(wrong, size=32, crop_size=32)
    with pytest.raises(InputError, match=r"gives images of \(32, 32\), but the network takes 16 x 16"):
        features(wrong)


@pytest.mark.usefixtures("offline")
def test_an_id_that_is_nowhere() -> None:
    with pytest.raises(InputError) as caught:
        ClipFeatures(ClipParams())
    text = str(caught.value)
    assert "'openai/clip-vit-base-patch32' is neither a folder nor in the Hugging Face cache" in text
    assert "ConnectionError: no route to host)" in text
    assert "hf download openai/clip-vit-base-patch32" in text


def test_an_id_in_the_cache_is_not_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def cached(model: str, local_files_only: bool = False, **more: object) -> str:
        assert local_files_only
        assert model == "someone/clip"
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    assert model_folder("someone/clip", "key") == folder


def test_a_download_prefers_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def download(model: str, allow_patterns: Any, local_files_only: bool = False) -> str:
        asked.append((local_files_only, [pattern for pattern in allow_patterns if "json" not in pattern]))
        if "pytorch_model*.bin" in allow_patterns:
            (tmp_path / "pytorch_model.bin").write_bytes(b"")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert model_folder("someone/clip", "key") == tmp_path
    assert asked == [
        (True, ["*.txt"]),
        (False, ["*.txt", "model*.safetensors"]),
        (False, ["*.txt", "pytorch_model*.bin"]),
    ]


def test_without_transformers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'wsopt\[clip\]'"):
        features(folder)


def test_what_a_config_may_call_a_model() -> None:
    assert ClipParams(model="./clip").model == Path("clip")
    assert ClipParams(model="openai/clip").model == "openai/clip"
    assert ClipParams.model_validate({"model": "/models/clip"}).model == Path("/models/clip")


@pytest.mark.usefixtures("untouched_randomness")
def test_dinov2_is_the_normalised_class_token(dinov2_folder: Path) -> None:
    images = tiny_clip.images(3, size=(224, 224))
    extractor = Dinov2Features(Dinov2Params(model=dinov2_folder))
    network = tiny_clip.load("Dinov2Model", dinov2_folder)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = network(pixel_values=(images / 255 - mean) / std).last_hidden_state[:, 0]
    torch.testing.assert_close(extractor(images), expected)
    assert extractor.dimension == 12
    assert preprocess(tiny_clip.images(1, size=(30, 50))).shape == (1, 3, 224, 224)


def test_features_of_a_collapsed_or_broken_model(folder: Path) -> None:
    black = features(folder)(torch.zeros(3, 3, 16, 16))
    assert black.isfinite().all()
    np.testing.assert_array_equal(black[0], black[1])
    assert features(folder)(torch.full((1, 3, 16, 16), torch.nan)).isnan().all()
