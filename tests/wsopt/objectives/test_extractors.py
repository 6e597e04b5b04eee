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

from wsopt.datasets import DatasetSplit, Digits
from wsopt.errors import InputError
from wsopt.objectives import _extractors
from wsopt.objectives._base import FeatureExtractor
from wsopt.objectives._extractors import DigitsClassifier, DigitsMlp, Pixels, load_weights, weights_digest
from wsopt.objectives.digits import CNN, MLP, Network, recipe, to_model_range

ALL: tuple[Callable[[], FeatureExtractor], ...] = (DigitsClassifier, DigitsMlp, Pixels)
WEIGHTS = Path(recipe.__file__).parent


def grey(split: DatasetSplit, noise: float = 0.0) -> Tensor:
    images = torch.from_numpy(Digits().images(split))
    generator = torch.Generator().manual_seed(0)
    images = (images + noise * torch.randn(images.shape, generator=generator)).clamp(-1, 1)
    return torch.round((images + 1.0) * 127.5)


def frechet(first: Tensor, second: Tensor) -> float:
    """An independent formula: eigenvalues of the product of the covariances."""
    a, b = first.double().numpy(), second.double().numpy()
    c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(c @ d).real.clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c) + np.trace(d) - 2 * roots)


@pytest.mark.parametrize(("network", "least"), [(CNN, 0.985), (MLP, 0.97)])
def test_accuracy_of_the_shipped_weights(network: type[Network], least: float) -> None:
    images = to_model_range(grey("test"))
    found = network.logits(load_weights(network), images).argmax(1).numpy()
    assert (found == Digits().labels("test")).mean() >= least


@pytest.mark.parametrize("network", [CNN, MLP])
def test_metadata_states_recipe_and_accuracy(network: type[Network]) -> None:
    path = WEIGHTS / f"{network.name}.safetensors"
    with safe_open(path, "pt") as opened:
        facts = opened.metadata()
    assert facts["recipe"] == f"wsopt.objectives.digits.recipe:{network.name}"
    stated = float(facts["test_accuracy"])
    assert recipe.accuracy(network, load_file(path), "test") == pytest.approx(stated, abs=0.006)
    assert path.stat().st_size < 300 * 1024


@pytest.mark.parametrize(("make", "dimension"), [(DigitsClassifier, 64), (DigitsMlp, 48), (Pixels, 64)])
def test_shape_and_type(make: Callable[[], FeatureExtractor], dimension: int) -> None:
    extractor = make()
    features = extractor(grey("validation").requires_grad_())
    assert features.shape == (200, dimension)
    assert extractor.dimension == dimension
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert extractor(grey("validation")[:0]).shape == (0, dimension)


@pytest.mark.parametrize("make", [DigitsClassifier, DigitsMlp])
def test_features_are_standardised_on_the_training_images(make: Callable[[], FeatureExtractor]) -> None:
    features = make()(grey("train")).double()
    torch.testing.assert_close(features.mean(0), torch.zeros(features.shape[1]).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.var(0), torch.ones(features.shape[1]).double(), atol=1e-3, rtol=0)
    assert np.linalg.matrix_rank(np.cov(features.numpy(), rowvar=False)) == features.shape[1]


def test_pixels_are_the_pixels() -> None:
    images = grey("test")
    expected = images.reshape(400, 64) / 127.5 - 1.0
    torch.testing.assert_close(Pixels()(images), expected, atol=0, rtol=0)
    assert Pixels(image_shape=(3, 4, 5)).dimension == 60


@pytest.mark.parametrize("make", ALL)
def test_deterministic_and_independent_of_batch_size(make: Callable[[], FeatureExtractor]) -> None:
    images = grey("test")
    whole = make()(images)
    torch.testing.assert_close(make()(images), whole, atol=0, rtol=0)
    for size in (1, 7, 251):
        parts = torch.cat([make()(images[i : i + size]) for i in range(0, 100, size)])[:100]
        torch.testing.assert_close(parts, whole[:100], atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", ALL)
def test_distance_has_a_low_floor_and_reacts_to_noise(make: Callable[[], FeatureExtractor]) -> None:
    extractor = make()
    train = extractor(grey("train"))
    values = [frechet(extractor(grey("test", noise)), train) for noise in (0.0, 0.05, 0.1, 0.2)]
    assert values == sorted(values)
    assert values[0] < 1.5
    assert values[3] > 2 * values[0]
    if extractor.name != "pixels":
        assert values[3] > 4 * values[0]
        assert values[2] > 1.5 * values[0]


def test_digests_tell_extractors_apart_and_stay() -> None:
    digests = [make().digest for make in ALL]
    assert len(set(digests)) == 3
    assert digests == [make().digest for make in ALL]
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


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (2, 64), (8, 8)])
def test_other_shapes_are_refused(make: Callable[[], FeatureExtractor], shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        make()(torch.zeros(shape))
    assert "[N, 1, 8, 8]" in str(caught.value)
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
    short = recipe.Recipe(MLP, seed=5, steps=60)
    first, second = recipe.train(short), recipe.train(short)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=0, rtol=0)
    assert recipe.accuracy(MLP, first, "validation") > 0.5
    assert {name: tuple(value.shape) for name, value in first.items()} == MLP.stored()
    assert recipe.write(short, tmp_path).name in capsys.readouterr().out
    DigitsClassifier()(grey("validation"))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert str(np.random.get_state()) == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]
