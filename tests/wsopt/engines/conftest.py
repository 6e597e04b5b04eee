from __future__ import annotations

from pathlib import Path

import pytest

from toy_run import write_checkpoints, write_toml


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with toy.toml and eight checkpoints, for tests that leave both as they are."""
    path = tmp_path_factory.mktemp("toy")
    write_checkpoints(path / "checkpoints", 8)
    write_toml(path)
    return path
