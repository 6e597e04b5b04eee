"""Statistics of public evaluators, as files with the keys and types that those write."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsopt.errors import InputError
from wsopt.objectives import to_grey_levels
from wsopt.objectives.references import ArrayFile, Reference, layout_of, read_reference

D = 6
ROWS = np.random.Generator(np.random.PCG64(5)).normal(size=(40, D)) * 3 + 1
MU, SIGMA = ROWS.mean(axis=0), np.cov(ROWS, rowvar=False)
IMAGES = np.random.Generator(np.random.PCG64(6)).integers(0, 256, (11, 4, 5, 3), dtype=np.uint8)


def check_unlabelled(found: Reference, mu: np.ndarray = MU, sigma: np.ndarray = SIGMA) -> None:
    assert (found.features, found.extractor_digest, found.quantize) == ("", "", "")
    assert np.array_equal(found.mean, mu)
    assert np.array_equal(found.covariance, sigma)
    assert found.mean.dtype == found.covariance.dtype == np.float64
    assert found.cache is not None


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_moments(tmp_path: Path, save: Any, order: Any) -> None:
    path = tmp_path / "cifar10-32x32.npz"
    save(path, mu=MU, sigma=np.asarray(SIGMA, order=order))
    found = read_reference(path)
    check_unlabelled(found)
    assert (found.name, found.samples, found.vectors, found.images) == ("cifar10-32x32.npz", 0, None, None)
    assert found.cache is not None
    assert found.cache.folder == tmp_path / "cifar10-32x32.npz.derived"


def test_float32_moments_become_float64(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", mu=MU.astype("f4"), sigma=SIGMA.astype("f4"))
    check_unlabelled(read_reference(tmp_path / "f.npz"), MU.astype("f4").astype("f8"), SIGMA.astype("f4").astype("f8"))


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """A consistency_models reference batch, which is an ADM one with the two CLIP arrays added."""
    path = tmp_path / "VIRTUAL_lsun.npz"
    clip, spatial = np.diag([1.0, 2.0, 3.0]), np.diag([4.0, 5.0])
    moments = {"mu": MU, "sigma": SIGMA, "mu_s": np.zeros(2), "sigma_s": spatial}
    np.savez(path, arr_0=IMAGES, **moments, mu_clip=np.ones(3), sigma_clip=clip)
    return path


def test_reference_batch(batch: Path) -> None:
    found = read_reference(batch)
    check_unlabelled(found)
    assert found.images is not None
    images = found.images()
    assert images.shape == (11, 3, 4, 5)
    assert images.dtype == np.float32
    assert images.min() >= -1
    assert images.max() <= 1
    for quantize in ("trunc", "round"):
        levels = to_grey_levels(torch.from_numpy(images), quantize).numpy()
        assert np.array_equal(levels, IMAGES.transpose(0, 3, 1, 2)), quantize


def test_parts_of_a_reference_batch(batch: Path) -> None:
    for clip in (read_reference(batch, "clip"), read_reference(f"{batch}#clip")):
        check_unlabelled(clip, np.ones(3), np.diag([1.0, 2.0, 3.0]))
        assert (clip.name, clip.output) == ("VIRTUAL_lsun.npz#clip", "features")
    spatial = read_reference(batch, which="spatial")
    check_unlabelled(spatial, np.zeros(2), np.diag([4.0, 5.0]))
    assert spatial.output == "spatial"
    assert read_reference(batch, "inception").digest == read_reference(batch).digest
    with pytest.raises(InputError, match=r"no part 'vgg': choose inception, clip, spatial"):
        read_reference(f"{batch}#vgg")
    np.savez(batch, mu=MU, sigma=SIGMA)
    with pytest.raises(InputError, match="holds no clip statistics, only inception"):
        read_reference(batch, "clip")
    hashed = batch.rename(batch.with_name("run#1.npz"))
    check_unlabelled(read_reference(hashed))


def test_another_first_array_is_no_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", np.arange(3), mu=MU, sigma=SIGMA)
    found = read_reference(tmp_path / "x.npz")
    check_unlabelled(found)
    assert found.images is None


def test_a_folder_may_have_a_number_sign(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run#2/none\.npz cannot be read"):
        read_reference(tmp_path / "run#2" / "none.npz")


def test_images_are_not_read_for_moments(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = ArrayFile.load

    def recorded(self: ArrayFile, name: str) -> Any:
        loaded.append(name)
        return load(self, name)

    monkeypatch.setattr(ArrayFile, "load", recorded)
    read_reference(batch)
    assert loaded == ["mu", "sigma"]


@pytest.mark.parametrize("key", ["pool_3", "feats"])
def test_features(tmp_path: Path, key: str) -> None:
    rows = ROWS.astype(np.float32)
    np.savez(tmp_path / "f.npz", **{key: rows})  # type: ignore[arg-type]
    found = read_reference(tmp_path / "f.npz")
    assert found.samples == 40
    assert found.vectors is not None
    assert sorted(map(tuple, found.vectors)) == sorted(map(tuple, rows))
    assert not np.array_equal(found.vectors, rows), "files are sorted by class, blocks of vectors should not be"
    assert np.allclose(found.mean, rows.astype("f8").mean(axis=0), rtol=1e-13)
    assert np.allclose(found.covariance, np.cov(rows.astype("f8"), rowvar=False), rtol=1e-12)


@pytest.mark.parametrize("keys", [("m", "s"), ("mu", "sigma")])
@pytest.mark.parametrize("kind", ["numpy", "tensor", "float32", "legacy"])
def test_statistic_pth(tmp_path: Path, keys: tuple[str, str], kind: str) -> None:
    mu, sigma = (MU.astype("f4"), SIGMA.astype("f4")) if kind == "float32" else (MU, SIGMA)
    values: list[Any] = [torch.from_numpy(array) if kind == "tensor" else array for array in (mu, sigma)]
    torch.save(
        dict(zip(keys, values, strict=True)),
        tmp_path / "statistic.pth",
        _use_new_zipfile_serialization=kind != "legacy",
    )
    assert layout_of(tmp_path / "statistic.pth") == "torch"
    check_unlabelled(read_reference(tmp_path / "statistic.pth"), mu.astype("f8"), sigma.astype("f8"))


def test_statistic_pth_of_numpy_1(tmp_path: Path) -> None:
    """numpy 1 wrote the module's former name."""
    buffer = io.BytesIO()
    torch.save({"m": MU, "s": SIGMA}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(tmp_path / "s.pth", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    check_unlabelled(read_reference(tmp_path / "s.pth"))


# ---- refusals


class _Evil:
    def __reduce__(self) -> Any:
        return os.system, ("echo gotcha",)


def test_what_would_run_code_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.save({"m": _Evil(), "s": SIGMA}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match=r"more than arrays, which may run code and is not read \(\w+\.system\)"):
        read_reference(tmp_path / "evil.pth")
    np.savez(tmp_path / "evil.npz", mu=np.array([_Evil()], dtype=object), sigma=SIGMA)
    with pytest.raises(InputError, match="pickled Python objects"):
        read_reference(tmp_path / "evil.npz")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(InputError, match="is a pickle, which may run code"):
        read_reference(tmp_path / "evil.pkl")
    assert "gotcha" not in capfd.readouterr().out


def test_the_advice_for_edm2_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"mu": MU, "sigma": SIGMA}
    path = tmp_path / "img512.pkl"
    path.write_bytes(pickle.dumps({"num_images": 40, "fid": both, "fd_dinov2": both}))
    with pytest.raises(InputError) as caught:
        read_reference(path)
    script = str(caught.value).split('python -c "')[1].split('"')[0]
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a one-liner leaves closing to the end of the process
        exec(compile(script, "advice", "exec"), {})
    check_unlabelled(read_reference(tmp_path / "reference.npz"))


BAD: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "half": ({"mu": MU}, r"lacks 'sigma' \(found mu float64\[6\]\)"),
    "not square": ({"mu": MU, "sigma": SIGMA[:-1]}, r"sigma has shape \[5, 6\], expected a square"),
    "other d": ({"mu": MU[1:], "sigma": SIGMA}, "mu has 5 entries and sigma is for 6 dimensions"),
    "mean of two axes": ({"mu": MU[None], "sigma": SIGMA}, r"mu has shape \[1, 6\]"),
    "no d": ({"mu": MU[:0], "sigma": SIGMA[:0, :0]}, r"mu has shape \[0\]"),
    "NaN": ({"mu": MU, "sigma": SIGMA * np.nan}, "sigma holds NaN or infinite"),
    "infinite": ({"mu": MU * np.inf, "sigma": SIGMA}, "mu holds NaN or infinite"),
    "asymmetric": ({"mu": MU, "sigma": SIGMA + np.triu(np.ones((D, D)), 1)}, "sigma is not symmetric"),
    "negative": ({"mu": MU, "sigma": -SIGMA}, "negative variances"),
    "text": ({"mu": np.array(["a"]), "sigma": SIGMA}, "mu holds <U1, expected real numbers"),
    "complex": ({"mu": MU, "sigma": SIGMA * 1j}, "sigma holds complex128"),
    "unknown": ({"w": MU}, r"found w float64\[6\]; expected mu and sigma, m and s, pool_3 or feats"),
    "images": ({"arr_0": IMAGES}, "holds images and no statistics. Make them: wsopt reference make"),
    "one vector": ({"feats": ROWS[:1]}, "at least two rows"),
    "flat features": ({"feats": ROWS[0]}, r"feats is float64\[6\]"),
    "NaN features": ({"feats": np.vstack([ROWS[:7], ROWS[:2] * np.nan])}, "feats of number 7 are not finite"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_statistics(tmp_path: Path, case: str) -> None:
    arrays, message = BAD[case]
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message) as caught:
        read_reference(path)
    assert str(path) in str(caught.value)


def test_symmetric_up_to_float32_is_symmetric(tmp_path: Path) -> None:
    skew = SIGMA * (1 + 1e-7 * np.triu(np.ones((D, D)), 1))
    np.savez(tmp_path / "f.npz", mu=MU, sigma=skew)
    assert np.array_equal(read_reference(tmp_path / "f.npz").covariance, skew)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_torn_npz(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "torn.npz"
    save(path, mu=MU, sigma=SIGMA)
    whole = path.read_bytes()
    for length in (3, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="torn"):
            read_reference(path)
    at = whole.index(b"sigma.npy") + 180
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
    with pytest.raises(InputError, match="torn"):
        read_reference(path)


@pytest.mark.parametrize("value", [[1, 2], {"epoch": 3}, {"m": MU}, {"m": 3.0, "s": SIGMA}])
def test_other_torch_files(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"x\.pth"):
        read_reference(tmp_path / "x.pth")


def test_torn_torch_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"m": MU, "s": SIGMA}, path)
    whole = path.read_bytes()
    for length in (3, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="torn"):
            read_reference(path)


def test_one_array_is_no_reference(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    with pytest.raises(InputError, match="one array and no statistics"):
        read_reference(tmp_path / "x.npy")
