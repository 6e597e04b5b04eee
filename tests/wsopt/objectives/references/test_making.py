"""Making references: one result for the same images however they are stored, batched or spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wsopt.datasets import Digits
from wsopt.errors import InputError
from wsopt.objectives import DigitsClassifier, FeatureExtractor, Pixels, reference_from_images
from wsopt.objectives.references import Reference, moments_of, read_reference, shuffled, write_reference
from wsopt.objectives.references.making import Made, MakeOptions, make_from_dataset, make_from_path
from wsopt.progress import SilentProgress

PIXELS = Pixels(None, (1, 8, 8))
OPTIONS = MakeOptions("pixels")
GREY = np.random.Generator(np.random.PCG64(3)).integers(0, 256, (90, 8, 8), dtype=np.uint8)


def make(source: object, extractor: FeatureExtractor = PIXELS, options: MakeOptions = OPTIONS) -> Made:
    return make_from_path(str(source), extractor, options, SilentProgress())


def features(images: np.ndarray) -> np.ndarray:
    rows: np.ndarray = PIXELS(torch.from_numpy(images).float()[:, None]).numpy()
    return rows


def same(first: Reference, second: Reference, tolerance: float) -> None:
    np.testing.assert_allclose(first.mean, second.mean, rtol=0, atol=tolerance)
    np.testing.assert_allclose(first.covariance, second.covariance, rtol=0, atol=tolerance)
    assert first.samples == second.samples


@pytest.fixture
def array(tmp_path: Path) -> Path:
    np.savez(tmp_path / "x.npz", GREY)
    return tmp_path / "x.npz"


def test_moments_are_those_of_the_features(array: Path) -> None:
    made = make(array).reference
    rows = features(GREY).astype(np.float64)
    np.testing.assert_allclose(made.mean, rows.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(made.covariance, np.cov(rows, rowvar=False), atol=1e-13)
    assert (made.samples, made.quantize, made.features, made.extractor_digest) == (90, "uint8", "pixels", PIXELS.digest)
    assert made.vectors is not None
    assert np.array_equal(made.vectors, shuffled(features(GREY)))


def test_a_folder_equals_the_array(array: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(GREY):
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    first, second = make(array).reference, make(folder).reference
    assert first.digest == second.digest


def test_digits_equal_what_a_run_makes_of_them() -> None:
    images, extractor = Digits().images("train"), DigitsClassifier()
    for quantize in ("round", "trunc", "none"):
        options = MakeOptions("digits", quantize=quantize)
        made = make_from_dataset("digits/train", images, extractor, options, SilentProgress()).reference
        within = reference_from_images("digits/train", images, extractor, quantize, vectors=True)
        assert made.digest == within.digest
        assert made.quantize == within.quantize == quantize
        assert within.images is not None
        assert within.images() is images
        assert made.vectors is not None
        assert within.vectors is not None
        assert np.array_equal(made.vectors, within.vectors)


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_batches_do_not_matter(array: Path, size: int) -> None:
    made = make(array, options=replace(OPTIONS, batch_size=size)).reference
    assert made.digest == make(array).reference.digest


@pytest.mark.parametrize("sizes", [[1024], [1023, 1, 3], [3000], [500] * 5, [1, 2500, 2]])
def test_sums_round_alike_whatever_the_batches(sizes: list[int]) -> None:
    """More rows than are added at a time, and more than are kept before they are folded into sums."""
    rows = np.random.Generator(np.random.PCG64(5)).standard_normal((sum(sizes), 6)).astype(np.float32) + 3
    mean, covariance, count = moments_of("here", "rows", np.split(rows, np.cumsum(sizes)[:-1]))
    whole = moments_of("here", "rows", [rows])
    assert np.array_equal(mean, whole[0])
    assert np.array_equal(covariance, whole[1])
    assert count == whole[2] == len(rows)
    np.testing.assert_allclose(covariance, np.cov(rows.astype(np.float64), rowvar=False), atol=1e-12)


def test_limit_and_vectors_are_spread_over_all(array: Path) -> None:
    made = make(array, options=replace(OPTIONS, limit=30, vectors=10)).reference
    same(made, make_of(GREY[::3], array.with_name("third.npz")).reference, 1e-13)
    assert made.vectors is not None
    assert np.array_equal(made.vectors, shuffled(features(GREY[::9])))
    assert make(array, options=replace(OPTIONS, vectors=0)).reference.vectors is None
    assert make(array, options=replace(OPTIONS, limit=1000, vectors=89)).reference.samples == 90


def make_of(images: np.ndarray, path: Path) -> Made:
    np.savez(path, images)
    return make(path)


def test_memory_does_not_grow_with_the_images(array: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = Pixels.__call__

    def recorded(self: Pixels, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return original(self, images)

    monkeypatch.setattr(Pixels, "__call__", recorded)
    make(array, options=replace(OPTIONS, batch_size=20))
    assert seen == [20, 20, 20, 20, 10]


def test_written_and_read_again(array: Path, tmp_path: Path) -> None:
    made = make(array)
    write_reference(tmp_path / "r.safetensors", made.reference, made.facts)
    read = read_reference(tmp_path / "r.safetensors")
    assert read.digest == made.reference.digest
    assert read.facts is not None
    assert (read.facts.source, read.facts.image_shape) == ("x.npz", (1, 8, 8))


def test_few_images_are_noted() -> None:
    images = Digits().images("train")[:60]
    made = make_from_dataset("d", images, PIXELS, OPTIONS, SilentProgress())
    assert "60 images for d = 64" in made.notes[0]


# ---- labelling public statistics


def public(path: Path, images: np.ndarray | None = None, shift: float = 0.0) -> Path:
    rows = features(GREY).astype(np.float64)
    arrays = {} if images is None else {"arr_0": images}
    np.savez(path, mu=rows.mean(axis=0) + shift, sigma=np.cov(rows, rowvar=False), **arrays)  # type: ignore[arg-type]
    return path


def test_labelling_keeps_the_numbers(tmp_path: Path) -> None:
    path = public(tmp_path / "stats.npz")
    made = make(path, options=replace(OPTIONS, samples=50_000))
    found = made.reference
    assert found.digest == read_reference(path).digest
    assert (found.features, found.extractor_digest, found.quantize) == ("pixels", PIXELS.digest, "uint8")
    assert (found.samples, found.vectors, found.name) == (50_000, None, "stats.npz")
    assert make(path, options=replace(OPTIONS, quantize="none")).reference.quantize == "none"


def test_vectors_come_from_the_images_of_a_reference_batch(tmp_path: Path) -> None:
    path = public(tmp_path / "VIRTUAL.npz", GREY[..., None])
    made = make(path, options=replace(OPTIONS, vectors=45))
    assert made.notes == ()
    assert made.reference.vectors is not None
    assert np.array_equal(made.reference.vectors, shuffled(features(GREY[::2])))
    np.testing.assert_allclose(made.reference.mean, features(GREY).mean(axis=0, dtype=np.float64), atol=1e-14)
    assert make(path, options=replace(OPTIONS, vectors=0)).reference.vectors is None


def test_a_wrong_label_is_noticed_where_there_are_images(tmp_path: Path) -> None:
    made = make(public(tmp_path / "VIRTUAL.npz", GREY[..., None], shift=0.5))
    assert "standard errors away" in made.notes[0]


def test_features_of_a_file_are_cut_to_what_is_kept(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", pool_3=features(GREY))
    found = make(tmp_path / "f.npz", options=replace(OPTIONS, vectors=20)).reference
    assert (found.samples, None if found.vectors is None else found.vectors.shape) == (90, (20, 64))
    assert make(tmp_path / "f.npz", options=replace(OPTIONS, vectors=0)).reference.vectors is None


# ---- what is wrong


class _Broken(Pixels):
    def __init__(self, what: str) -> None:
        super().__init__(None, (1, 8, 8))
        self.what = what

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        rows = super().__call__(images)
        if self.what == "raise":
            raise ValueError("too small")
        if self.what == "memory":
            raise torch.OutOfMemoryError("no room")
        if self.what == "shape":
            return rows[:, 1:]
        rows[3] = torch.nan
        return rows


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("memory", "Give a smaller --batch-size"),
        ("raise", r"could not be computed of the real images \(ValueError: too small\)"),
        ("shape", r"gave shape \[40, 63\] for 40 images, expected \[40, 64\]"),
        ("nan", r"features of number 3 are not finite"),
    ],
)
def test_extractors_that_fail(array: Path, what: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(array, _Broken(what), replace(OPTIONS, batch_size=40))


def cases() -> Sequence[tuple[str, MakeOptions, str]]:
    return [
        ("x.npz", replace(OPTIONS, samples=3), "images are counted"),
        ("x.npz", replace(OPTIONS, limit=1), "1 of features are too few"),
        ("x.npz", replace(OPTIONS, device="cuda:77"), "--device cuda:77"),
        ("x.npz", replace(OPTIONS, device="teapot"), "--device teapot"),
        ("s.npz", replace(OPTIONS, limit=3), "cannot be limited"),
        ("t.npz", OPTIONS, "has d = 3, features 'pixels' have d = 64"),
        ("p.npz#spatial", OPTIONS, "statistics of the output 'spatial', which features 'pixels' do not have"),
        ("own", OPTIONS, "labelled already, with features 'pixels'"),
        ("wide.npz", OPTIONS, r"take images of shape \[N, 1, 8, 8\]"),
        ("nothing", OPTIONS, "cannot be read"),
    ]


@pytest.mark.parametrize(("source", "options", "message"), cases())
def test_refusals(array: Path, tmp_path: Path, source: str, options: MakeOptions, message: str) -> None:
    public(tmp_path / "s.npz")
    np.savez(tmp_path / "t.npz", mu=np.zeros(3), sigma=np.eye(3))
    np.savez(tmp_path / "p.npz", mu=np.zeros(3), sigma=np.eye(3), mu_s=np.zeros(3), sigma_s=np.eye(3))
    np.savez(tmp_path / "wide.npz", GREY.reshape(45, 8, 16))
    made = make(array)
    write_reference(tmp_path / "own", made.reference, made.facts)
    with pytest.raises(InputError, match=message):
        make(tmp_path / source, options=options)
