"""The package and its settings load without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

import wsopt.diffusion


def test_settings_need_no_torch() -> None:
    code = (
        "import sys; import wsopt.diffusion; from wsopt.diffusion import SongUNetConfig; "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there() -> None:
    assert all(getattr(wsopt.diffusion, name) is not None for name in wsopt.diffusion.__all__)
    assert dir(wsopt.diffusion) == sorted(wsopt.diffusion.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = wsopt.diffusion.nothing
