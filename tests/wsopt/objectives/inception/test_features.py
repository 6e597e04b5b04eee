from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from wsopt.config.params import InceptionParams
from wsopt.errors import InputError
from wsopt.objectives.inception import InceptionFeatures, features
from wsopt.objectives.inception._layouts import GRAPH_KEYS
from wsopt.objectives.inception._weights import load_weights, weights_digest


def images(n: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (n, channels, 16, 20), generator=generator).float()


def test_outputs(inception: InceptionFeatures) -> None:
    found = inception.extract(images(1), ("logits", "features", "spatial"))
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "logits": (1, 1008),
        "features": (1, 2048),
        "spatial": (1, 2023),
    }
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert not any(value.requires_grad for value in found.values())
    assert inception.dimension == 2048
    assert inception.outputs == ("features", "logits", "spatial")
    assert inception.extract(images(1), ()) == {}


def test_logits_go_without_the_bias(inception: InceptionFeatures, random_weights: dict[str, Tensor]) -> None:
    found = inception.extract(images(1), ("features", "logits"))
    wanted = found["features"].double() @ random_weights["fc.weight"].double().T
    torch.testing.assert_close(found["logits"].double(), wanted, rtol=1e-5, atol=1e-5)
    assert random_weights["fc.bias"].abs().max() > 0.1


def test_batch_size_does_not_matter(inception: InceptionFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    together = inception(images(3))
    monkeypatch.setattr(features, "_IMAGES_PER_PASS", 2)
    apart = inception(images(3))
    assert together.std(0).max() > 0.01  # the images differ
    torch.testing.assert_close(apart, together, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(inception(images(3)[1:2]), together[1:2], rtol=1e-5, atol=1e-4)


def test_passes_are_small(inception: InceptionFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def forward(folded: object, x: Tensor) -> dict[str, Tensor]:
        seen.append(len(x))
        return {"features": torch.zeros(len(x), 2048)}

    monkeypatch.setattr(features, "forward", forward)
    assert inception(images(20)).shape == (20, 2048)
    assert seen == [8, 8, 4]


def test_the_images_decide_the_device(inception: InceptionFeatures) -> None:
    found = inception.extract(images(2).to("meta"), ("features", "spatial"))
    assert [value.device.type for value in found.values()] == ["meta", "meta"]
    assert tuple(found["features"].shape) == (2, 2048)
    assert inception(images(1)).device.type == "cpu"


def test_no_images(inception: InceptionFeatures) -> None:
    found = inception.extract(images(0), inception.outputs)
    assert [tuple(found[name].shape) for name in inception.outputs] == [(0, 2048), (0, 1008), (0, 2023)]


def test_grey_images(inception: InceptionFeatures) -> None:
    grey = images(1, channels=1)
    assert torch.equal(inception(grey), inception(grey.expand(-1, 3, -1, -1)))


def test_a_sample_that_is_not_finite_harms_no_other(inception: InceptionFeatures) -> None:
    both = images(2)
    both[0] = torch.nan
    found = inception(both)
    assert not found[0].isfinite().all()
    torch.testing.assert_close(found[1:], inception(images(2)[1:]), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (3, 8, 8), (1, 3, 0, 8)])
def test_other_shapes_are_refused(inception: InceptionFeatures, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"images of shape \[N, 3, H, W\] or \[N, 1, H, W\], found \["):
        inception(torch.zeros(shape))


def test_unknown_outputs_are_refused(inception: InceptionFeatures) -> None:
    with pytest.raises(InputError, match=r"no output 'pool3'. They have: 'features', 'logits', 'spatial'"):
        inception.extract(images(1), ("features", "pool3"))


@pytest.mark.usefixtures("untouched_randomness")
def test_resize_decides_features_and_digest(inception: InceptionFeatures, weights_file: Path) -> None:
    other = InceptionFeatures(InceptionParams(weights=weights_file, resize="bilinear"))
    assert other.digest != inception.digest
    assert (other(images(1)) - inception(images(1))).abs().max() > 0.01
    same = InceptionFeatures(InceptionParams(weights=weights_file, resize="tf1"))
    assert same.digest == inception.digest
    assert torch.equal(same(images(1)), inception(images(1)))


def test_weights_decide_the_digest(random_weights: dict[str, Tensor], inception: InceptionFeatures) -> None:
    nudged = random_weights | {"fc.bias": random_weights["fc.bias"].clone()}
    assert weights_digest(nudged, "x") == weights_digest(random_weights, "x")
    assert weights_digest(random_weights, "x") != weights_digest(random_weights, "y")
    nudged["fc.bias"][7] += 1e-6
    assert weights_digest(nudged, "x") != weights_digest(random_weights, "x")
    assert len(bytes.fromhex(inception.digest)) == 32


@pytest.mark.parametrize("form", ["graph", "before torch 1.6", "safetensors"])
def test_every_form_of_the_file(random_weights: dict[str, Tensor], tmp_path: Path, form: str) -> None:
    """The layout of consistency_models, torch's old format, and safetensors hold the same network."""
    wanted = random_weights
    if form == "graph":
        state = {key: random_weights[other] for key, other in GRAPH_KEYS.items()}
        wanted = random_weights | {k: torch.ones_like(v) for k, v in random_weights.items() if k.endswith("bn.weight")}
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    if form == "safetensors":
        save_file(random_weights, path)
    else:
        torch.save(state if form == "graph" else wanted, path, _use_new_zipfile_serialization=form == "graph")
    loaded = load_weights(path)
    path.unlink()
    assert loaded.keys() == wanted.keys()
    assert all(torch.equal(loaded[key], wanted[key]) for key in wanted)


def test_a_mapped_file_may_go(random_weights: dict[str, Tensor], tmp_path: Path) -> None:
    """Nothing of the file is needed once the extractor is made."""
    path = tmp_path / "weights.pth"
    torch.save(random_weights, path)
    made = InceptionFeatures(InceptionParams(weights=path))
    before = made.extract(images(1), ("logits",))["logits"]
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert torch.equal(made.extract(images(1), ("logits",))["logits"], before)
    path.unlink()
