from __future__ import annotations

from pathlib import Path

import pytest

from toy_run import write_checkpoints, write_toml


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A folder with checkpoints/ and toy.toml."""
    write_checkpoints(tmp_path / "checkpoints")
    write_toml(tmp_path)
    return tmp_path


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the figures, which take longer than the rest of a toy run."""
    monkeypatch.setattr("wsopt.run._execute.write_figures", lambda folder: [])
