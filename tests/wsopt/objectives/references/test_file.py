"""wsopt's own file of reference statistics: what is written is what is read, and what is wrong is said."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from wsopt.errors import InputError
from wsopt.objectives.references import DerivedCache, Reference, ReferenceFacts, read_reference, write_reference

D = 7
FACTS = ReferenceFacts(source="pictures", params={"resize": "tf1", "n": 3}, resize="tf1", image_shape=(3, 4, 5))


def reference(seed: int = 0, vectors: bool = True) -> Reference:
    rows = np.random.Generator(np.random.PCG64(seed)).normal(size=(30, D)).astype(np.float32)
    return Reference(
        name="pictures",
        features="inception",
        extractor_digest="ab" * 32,
        quantize="uint8",
        mean=rows.mean(axis=0, dtype=np.float64),
        covariance=np.cov(rows.astype(np.float64), rowvar=False),
        samples=30,
        vectors=rows if vectors else None,
        output="features",
    )


def metadata(path: Path) -> dict[str, object]:
    with safe_open(path, framework="numpy") as file:
        found: dict[str, object] = json.loads(file.metadata()["wsopt-reference"])
    return found


def rewritten(path: Path, said: object, **tensors: np.ndarray) -> None:
    """The file with other metadata and tensors."""
    save_file(load_file(path) | tensors, path, {"wsopt-reference": said if isinstance(said, str) else json.dumps(said)})


@pytest.mark.parametrize("vectors", [True, False])
def test_round_trip_is_exact(tmp_path: Path, vectors: bool) -> None:
    made = reference(vectors=vectors)
    path = tmp_path / "deep" / "r.safetensors"
    write_reference(path, made, FACTS)
    read = read_reference(path)
    for name in ("name", "features", "extractor_digest", "quantize", "samples", "output", "digest"):
        assert getattr(read, name) == getattr(made, name), name
    assert read.mean.tobytes() == made.mean.tobytes()
    assert read.covariance.tobytes() == made.covariance.tobytes()
    assert read.mean.dtype == read.covariance.dtype == np.float64
    if vectors:
        assert read.vectors is not None
        assert made.vectors is not None
        assert read.vectors.dtype == np.float32
        assert read.vectors.tobytes() == made.vectors.tobytes()
    else:
        assert read.vectors is None
    assert read.facts is not None
    assert replace(read.facts, layout="", made_by="") == FACTS
    assert read.facts.made_by.startswith("wsopt ")
    assert metadata(path)["ddof"] == 1
    assert list(path.parent.iterdir()) == [path]


def test_other_memory_layouts_are_written_as_they_read(tmp_path: Path) -> None:
    made = reference()
    turned = replace(made, covariance=np.asfortranarray(made.covariance), mean=np.repeat(made.mean, 2)[::2])
    write_reference(tmp_path / "r", turned, FACTS)
    assert np.array_equal(read_reference(tmp_path / "r").covariance, made.covariance)
    assert np.array_equal(read_reference(tmp_path / "r").mean, made.mean)


def test_the_name_of_the_file_does_not_matter(tmp_path: Path) -> None:
    write_reference(tmp_path / "stats.npz", reference(), FACTS)
    assert read_reference(tmp_path / "stats.npz").features == "inception"


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    write_reference(path, reference(0), FACTS)
    before = path.read_bytes()
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import wsopt.files
os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)
from test_file import FACTS, reference
from wsopt.objectives.references import write_reference
from pathlib import Path
write_reference(Path({str(path)!r}), reference(1), FACTS)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert path.read_bytes() == before
    assert read_reference(path).digest == reference(0).digest
    write_reference(path, reference(1), FACTS)
    assert read_reference(path).digest == reference(1).digest
    assert [one.name for one in tmp_path.iterdir()] == ["r.safetensors"]


# ---- what is wrong


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    write_reference(path, reference(), FACTS)
    whole = path.read_bytes()
    for length in [0, 5, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"r\.safetensors"):
            read_reference(path)


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    write_reference(path, reference(), FACTS)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="changed or damaged"):
        read_reference(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2 of the format, this wsopt reads version 1"),
        ({"samples": "many"}, "samples"),
        ({"extractor_digest": None}, "extractor_digest"),
        ({"image_shape": [1, 2]}, "image_shape"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read"),
        ('{"version": 1}', "damaged"),
    ],
)
def test_damaged_metadata(tmp_path: Path, change: dict[str, object] | str, message: str) -> None:
    path = tmp_path / "r.safetensors"
    write_reference(path, reference(), FACTS)
    rewritten(path, change if isinstance(change, str) else metadata(path) | change)
    with pytest.raises(InputError, match=message) as caught:
        read_reference(path)
    assert str(path) in str(caught.value)


def test_tensors_of_wrong_shape(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    write_reference(path, reference(), FACTS)
    rewritten(path, metadata(path), vectors=np.zeros((3, D + 1), np.float32))
    with pytest.raises(InputError, match=rf"expected float32\[n, {D}\]"):
        read_reference(path)
    rewritten(path, metadata(path), covariance=np.zeros((D + 1, D + 1)))
    with pytest.raises(InputError, match=f"mean has {D} entries and covariance is for {D + 1}"):
        read_reference(path)


def test_a_checkpoint_is_no_reference(tmp_path: Path) -> None:
    save_file({"layer.weight": np.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"without reference statistics \(its tensors: layer\.weight\)"):
        read_reference(tmp_path / "model.safetensors")
    save_file({"mean": np.zeros(3)}, tmp_path / "half.safetensors", {"wsopt-reference": '{"version": 1}'})
    with pytest.raises(InputError, match="damaged"):
        read_reference(tmp_path / "half.safetensors")


@pytest.mark.parametrize("name", ["missing.npz", "."])
def test_what_cannot_be_opened(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_reference(tmp_path / name)


def test_foreign_content(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_text("<html>Not found</html>")
    with pytest.raises(InputError, match="foreign content"):
        read_reference(tmp_path / "x.npz")


# ---- what is derived


def test_what_is_derived_lies_beside_the_file_and_follows_its_content(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    calls = []

    def factor(of: Reference) -> np.ndarray:
        calls.append(1)
        return np.linalg.cholesky(of.covariance)

    for seed, expected in ((0, 1), (0, 1), (1, 2), (0, 2)):
        write_reference(path, reference(seed), FACTS)
        read = read_reference(path)
        found = read.derived("factor-v1", lambda read=read: factor(read))  # type: ignore[misc]
        assert np.array_equal(found, np.linalg.cholesky(reference(seed).covariance))
        assert len(calls) == expected
    assert len(list((tmp_path / "r.safetensors.derived").iterdir())) == 2


def test_a_torn_or_unwritable_cache_costs_time_only(tmp_path: Path) -> None:
    value = np.arange(4.0)
    cache = DerivedCache(tmp_path / "c")
    assert np.array_equal(cache.array("d" * 64, "k", lambda: value), value)
    (file,) = (tmp_path / "c").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    assert np.array_equal(cache.array("d" * 64, "k", lambda: value), value)
    assert np.array_equal(cache.array("d" * 64, "k", lambda: np.zeros(1)), value)
    (tmp_path / "file").write_text("")
    assert np.array_equal(DerivedCache(tmp_path / "file" / "c").array("d" * 64, "k", lambda: value), value)
