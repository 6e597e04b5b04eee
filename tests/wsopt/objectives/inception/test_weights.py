"""Where the weights come from. Small files stand in for them, whose hash is put in place of the published one."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wsopt.errors import InputError
from wsopt.objectives.inception import _weights
from wsopt.objectives.inception._weights import NAMES, URLS, find_weights, load_weights

CONTENT = b"as good as weights"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own cache folder and an empty one of torch.hub; nothing can be downloaded; `CONTENT` is what is published."""
    monkeypatch.setenv("WSOPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(_weights, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    publish(monkeypatch, tmp_path / "published")
    return tmp_path / "cache"


def publish(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The same names with the hash of `CONTENT`, at addresses in `folder`."""
    digits = hashlib.sha256(CONTENT).hexdigest()[:8]
    names = tuple(name.replace("6726825d", digits) for name in NAMES)
    monkeypatch.setattr(_weights, "NAMES", names)
    monkeypatch.setattr(_weights, "URLS", tuple((folder / name).as_uri() for name in names))


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_what_is_published() -> None:
    assert URLS == (
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    )
    assert all(name.endswith(f"-{_weights.SHA256[:8]}.pth") for name in NAMES)
    assert len(bytes.fromhex(_weights.SHA256)) == 32


def test_the_path_of_the_config_comes_first(cache: Path, tmp_path: Path) -> None:
    put(cache / _weights.NAMES[0])
    own = put(tmp_path / "mine.pth", b"anything")
    assert find_weights(own) == own


@pytest.mark.parametrize("position", [0, 1])
def test_caches(cache: Path, tmp_path: Path, position: int) -> None:
    hub = put(tmp_path / "torch/hub/checkpoints" / _weights.NAMES[position])
    assert find_weights(None) == hub
    own = put(cache / _weights.NAMES[position])
    assert find_weights(None) == own


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WSOPT_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert _weights.cache_folders()[0] == tmp_path / ".cache/wsopt"


@pytest.mark.parametrize("position", [0, 1])
def test_download(cache: Path, tmp_path: Path, position: int) -> None:
    """From the first address that has the file."""
    put(tmp_path / "published" / _weights.NAMES[position])
    found = find_weights(None)
    assert found == cache / _weights.NAMES[position]
    assert found.read_bytes() == CONTENT
    assert list(cache.iterdir()) == [found]


def test_a_download_of_another_content_is_not_kept(cache: Path, tmp_path: Path) -> None:
    put(tmp_path / "published" / _weights.NAMES[0], CONTENT[:5])
    digits = hashlib.sha256(CONTENT[:5]).hexdigest()[:8]
    with pytest.raises(InputError, match=f"what came has SHA-256 {digits}"):
        find_weights(None)
    assert list(cache.iterdir()) == []


def test_without_a_network(cache: Path) -> None:
    with pytest.raises(InputError) as caught:
        find_weights(None)
    message = str(caught.value)
    assert all(url in message for url in _weights.URLS)
    assert f"put it there as {cache / _weights.NAMES[0]}, or give its path as `weights`" in message


def test_a_folder_that_cannot_be_made(cache: Path, tmp_path: Path) -> None:
    put(cache)  # a file, where the folder should be
    put(tmp_path / "published" / _weights.NAMES[0])
    with pytest.raises(InputError, match=r"could not be downloaded .*File exists"):
        find_weights(None)


@pytest.mark.parametrize("where", ["cache", "config"])
def test_another_content_under_the_published_name(cache: Path, where: str) -> None:
    path = put(cache / _weights.NAMES[1], b"torn")
    digits = hashlib.sha256(b"torn").hexdigest()[:8]
    with pytest.raises(InputError, match=f"{path.name} has the name of .* SHA-256 begins with {digits}. Delete it"):
        find_weights(path if where == "config" else None)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.pth does not exist. Give the weights file"):
        find_weights(tmp_path / "none.pth")
    with pytest.raises(InputError, match=r"is a folder. Give the weights file"):
        find_weights(tmp_path)


@pytest.mark.parametrize("old_format", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torn_files(tmp_path: Path, suffix: str, old_format: bool) -> None:
    path = tmp_path / f"torn{suffix}"
    torch.save({"fc.weight": torch.ones(50, 50)}, path, _use_new_zipfile_serialization=not old_format)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"torn{suffix} cannot be read as weights .* download it again from https"):
        load_weights(path)


def test_pickles_run_no_code(tmp_path: Path) -> None:
    torch.save({"fc.weight": Path("/")}, tmp_path / "code.pth")
    with pytest.raises(InputError, match=r"code.pth cannot be read as weights"):
        load_weights(tmp_path / "code.pth")


def test_torchscript_is_named(tmp_path: Path) -> None:
    """NVIDIA's file has the name of that of consistency_models, and is a program."""
    path = tmp_path / "inception-2015-12-05.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inception/constants.pkl", b"")
    with pytest.raises(InputError, match=r"inception-2015-12-05.pt is a TorchScript program.* Give pt_inception"):
        load_weights(path)


def test_other_weights_are_named(tmp_path: Path) -> None:
    state: dict[str, Tensor] = {"fc.weight": torch.ones(2)}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other.pth does not hold the FID Inception network: Conv2d_1a_3x3.conv"):
        load_weights(tmp_path / "other.pth")
