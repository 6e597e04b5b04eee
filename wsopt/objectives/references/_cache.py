"""What is derived from a reference at some cost (a factor, sums of kernels, radii), kept on disk by content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from wsopt.files import write_bytes
from wsopt.types import FloatArray


class DerivedCache:
    """Arrays in a folder, one file each, named by the digest of what they were derived from.

    A file that is torn is computed again; a folder that cannot be written keeps nothing. Deleting it is safe.

    Args:
        folder: created when the first array is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def array(self, digest: str, key: str, compute: Callable[[], FloatArray]) -> FloatArray:
        """The array `key` of what has `digest`: read, or computed and kept."""
        path = self.folder / f"{digest[:32]}-{key}.safetensors"
        try:
            return load_file(path)["array"]
        except (OSError, SafetensorError, KeyError):
            found = compute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # safetensors stores an array of other strides scrambled.
            write_bytes(path, save({"array": np.ascontiguousarray(found)}))
        except OSError:  # a folder that cannot be written costs time, not the run
            pass
        return found
