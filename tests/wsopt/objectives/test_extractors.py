from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from wsopt.datasets import Dataset, DatasetSplit, Digits, Mnist
from wsopt.errors import InputError
from wsopt.objectives import _extractors
from wsopt.objectives._base import FeatureExtractor
from wsopt.objectives._extractors import (
    DigitsClassifier,
    DigitsMlp,
    MnistClassifier,
    MnistMlp,
    Pixels,
    load_weights,
    weights_digest,
)
from wsopt.objectives.classifiers import to_model_range, training
from wsopt.objectives.classifiers.training import Recipe
from wsopt.objectives.digits import MLP
from wsopt.objectives.digits import recipe as digits_recipe
from wsopt.objectives.mnist import recipe as mnist_recipe

Make = Callable[[], FeatureExtractor]
NETWORKS: tuple[tuple[Make, type[Dataset]], ...] = (
    (DigitsClassifier, Digits),
    (DigitsMlp, Digits),
    (MnistClassifier, Mnist),
    (MnistMlp, Mnist),
)
ALL: tuple[tuple[Make, type[Dataset]], ...] = (*NETWORKS, (Pixels, Digits))
SHAPES: dict[type[Dataset], str] = {Digits: "[N, 1, 8, 8]", Mnist: "[N, 1, 16, 16]"}
RECIPES = (*digits_recipe.RECIPES, *mnist_recipe.RECIPES)
WEIGHTS = Path(digits_recipe.__file__).parent


def grey(dataset: type[Dataset], split: DatasetSplit, noise: float = 0.0) -> Tensor:
    images = torch.from_numpy(dataset().images(split))
    generator = torch.Generator().manual_seed(0)
    images = (images + noise * torch.randn(images.shape, generator=generator)).clamp(-1, 1)
    return torch.round((images + 1.0) * 127.5)


def frechet(first: Tensor, second: Tensor) -> float:
    """An independent formula: eigenvalues of the product of the covariances."""
    a, b = first.double().numpy(), second.double().numpy()
    c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(c @ d).real.clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c) + np.trace(d) - 2 * roots)


@pytest.mark.parametrize(("recipe", "least"), list(zip(RECIPES, (0.985, 0.97, 0.97, 0.96), strict=True)))
def test_accuracy_of_the_shipped_weights(recipe: Recipe, least: float) -> None:
    images = to_model_range(grey(recipe.dataset, "test"))
    found = recipe.network.logits(load_weights(recipe.network), images).argmax(1).numpy()
    assert (found == recipe.dataset().labels("test")).mean() >= least


@pytest.mark.parametrize("recipe", RECIPES)
def test_metadata_states_recipe_and_accuracy(recipe: Recipe) -> None:
    path = WEIGHTS.parent / recipe.dataset.name / f"{recipe.network.name}.safetensors"
    with safe_open(path, "pt") as opened:
        facts = opened.metadata()
    assert facts["recipe"] == f"wsopt.objectives.{recipe.dataset.name}.recipe:{recipe.network.name}"
    assert facts["data"] == f"{recipe.dataset.name}/train"
    stated = float(facts["test_accuracy"])
    assert training.accuracy(recipe, load_file(path), "test") == pytest.approx(stated, abs=0.006)
    assert path.stat().st_size < 300 * 1024


@pytest.mark.parametrize(("make", "dataset"), ALL)
def test_shape_and_type(make: Make, dataset: type[Dataset]) -> None:
    extractor = make()
    dimension = {"digits": 64, "digits-mlp": 48, "mnist": 64, "mnist-mlp": 48, "pixels": 64}[extractor.name]
    images = grey(dataset, "validation")
    features = extractor(images.requires_grad_())
    assert features.shape == (len(images), dimension)
    assert extractor.dimension == dimension
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert extractor(images[:0]).shape == (0, dimension)


@pytest.mark.parametrize(("make", "dataset"), NETWORKS)
def test_features_are_standardised_on_the_training_images(make: Make, dataset: type[Dataset]) -> None:
    features = make()(grey(dataset, "train")).double()
    torch.testing.assert_close(features.mean(0), torch.zeros(features.shape[1]).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.var(0), torch.ones(features.shape[1]).double(), atol=1e-3, rtol=0)
    assert np.linalg.matrix_rank(np.cov(features.numpy(), rowvar=False)) == features.shape[1]


def test_pixels_are_the_pixels() -> None:
    images = grey(Digits, "test")
    expected = images.reshape(400, 64) / 127.5 - 1.0
    torch.testing.assert_close(Pixels()(images), expected, atol=0, rtol=0)
    assert Pixels(image_shape=(3, 4, 5)).dimension == 60


@pytest.mark.parametrize(("make", "dataset"), ALL)
def test_deterministic_and_independent_of_batch_size(make: Make, dataset: type[Dataset]) -> None:
    images = grey(dataset, "test")
    whole = make()(images)
    torch.testing.assert_close(make()(images), whole, atol=0, rtol=0)
    for size in (1, 7, 251):
        parts = torch.cat([make()(images[i : i + size]) for i in range(0, 100, size)])[:100]
        torch.testing.assert_close(parts, whole[:100], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("make", "dataset"), ALL)
def test_distance_has_a_low_floor_and_reacts_to_noise(make: Make, dataset: type[Dataset]) -> None:
    extractor = make()
    train = extractor(grey(dataset, "train"))
    values = [frechet(extractor(grey(dataset, "test", noise)), train) for noise in (0.0, 0.05, 0.1, 0.2)]
    assert values == sorted(values)
    assert values[0] < 1.5
    assert values[3] > 2 * values[0]
    if extractor.name != "pixels":
        assert values[3] > 4 * values[0]
        assert values[2] > 1.5 * values[0]


def test_digests_tell_extractors_apart_and_stay() -> None:
    digests = [make().digest for make, _ in ALL]
    assert len(set(digests)) == len(ALL)
    assert digests == [make().digest for make, _ in ALL]
    assert Pixels(image_shape=(3, 4, 5)).digest != Pixels().digest
    assert all(len(digest) == 64 for digest in digests)


def test_digest_covers_bytes_names_and_tag() -> None:
    weights = load_weights(MLP)
    before = weights_digest(weights, "tag")
    assert weights_digest(dict(reversed(weights.items())), "tag") == before
    assert weights_digest(weights, "other") != before
    renamed = {("x" if name == "mean" else name): value for name, value in weights.items()}
    assert weights_digest(renamed, "tag") != before
    weights["head.bias"][0] += 1e-6
    assert weights_digest(weights, "tag") != before


@pytest.mark.parametrize(("make", "dataset"), ALL)
@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (2, 64), (8, 8)])
def test_other_shapes_are_refused(make: Make, dataset: type[Dataset], shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        make()(torch.zeros(shape))
    assert SHAPES[dataset] in str(caught.value)
    assert f"[{', '.join(map(str, shape))}]" in str(caught.value)


def test_bad_weights_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_extractors, "files", lambda package: tmp_path)
    path = tmp_path / "mlp.safetensors"
    with pytest.raises(InputError, match=r"mlp\.safetensors cannot be read"):
        load_weights(MLP)
    path.write_bytes((WEIGHTS / path.name).read_bytes()[:-100])
    with pytest.raises(InputError, match=r"mlp\.safetensors cannot be read"):
        load_weights(MLP)
    save_file({**load_file(WEIGHTS / path.name), "extra": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="extra differ"):
        load_weights(MLP)
    save_file({n: t.double() if n == "mean" else t for n, t in load_file(WEIGHTS / path.name).items()}, path)
    with pytest.raises(InputError, match="mean differ"):
        load_weights(MLP)


def test_recipe_trains_from_its_own_generator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()  # noqa: NPY002 - reads the state only
    short = Recipe(MLP, Digits, seed=5, steps=60)
    first, second = training.train(short), training.train(short)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=0, rtol=0)
    assert training.accuracy(short, first, "validation") > 0.5
    assert {name: tuple(value.shape) for name, value in first.items()} == MLP.stored()
    assert training.write(short, tmp_path).name in capsys.readouterr().out
    DigitsClassifier()(grey(Digits, "validation"))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert str(np.random.get_state()) == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]
