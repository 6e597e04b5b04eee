"""Random numbers: one root seed, children by name, and noise per sample index.

Nothing here touches the global generators of numpy, torch or random.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CACHE_BYTES = 256 << 20


def child_sequence(seed: int, *names: str | int) -> np.random.SeedSequence:
    """The seed sequence of the child `names` of root `seed`.

    Children are addressed by name, so adding one never moves another, and the address does not depend on
    PYTHONHASHSEED.
    """
    digest = hashlib.sha256("/".join(str(name) for name in names).encode()).digest()
    key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
    return np.random.SeedSequence(seed, spawn_key=key)


def child_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator for the child `names` of root `seed`."""
    return np.random.Generator(np.random.PCG64(child_sequence(seed, *names)))


def child_seed(seed: int, *names: str | int) -> int:
    """A 63-bit integer for the child `names` of root `seed`, for libraries that take one number (torch.Generator)."""
    return int(child_sequence(seed, *names).generate_state(1, np.uint64)[0] >> np.uint64(1))


class SampleNoise:
    """Standard normal noise of one split, addressed by sample index.

    Every index has its own counter-based generator, so the noise of a sample does not depend on batch size, order,
    worker or device, and all candidates see the same noise.
    """

    def __init__(self, seed: int, split: str) -> None:
        self.seed = seed
        self.split = split
        self._keys: dict[str, NDArray[np.uint64]] = {}
        self._cache: dict[tuple[str, tuple[int, ...], int], NDArray[np.float32]] = {}
        self._cached_bytes = 0

    def normal(self, indices: Sequence[int], shape: tuple[int, ...], stream: str = "initial") -> NDArray[np.float32]:
        """Noise of the samples `indices`.

        Args:
            indices: sample indices within the split, each at least 0.
            shape: shape of one sample's noise.
            stream: which of the sample's independent noises: ``initial``, or ``step-1``, ``step-2``, ... of a
                stochastic sampler.

        Returns:
            ``[len(indices), *shape]`` float32.
        """
        out = np.empty((len(indices), *shape), dtype=np.float32)
        for row, index in enumerate(indices):
            out[row] = self._one(stream, shape, int(index))
        return out

    def _one(self, stream: str, shape: tuple[int, ...], index: int) -> NDArray[np.float32]:
        address = (stream, shape, index)
        found = self._cache.get(address)
        if found is None:
            if stream not in self._keys:
                sequence = child_sequence(self.seed, "noise", self.split, stream)
                self._keys[stream] = sequence.generate_state(2, np.uint64).astype(np.uint64)
            # Philox advances the low counter words as it draws; the index sits in the highest word.
            bits = np.random.Philox(key=self._keys[stream], counter=[0, 0, 0, index])
            found = np.random.Generator(bits).standard_normal(shape, dtype=np.float32)
            if self._cached_bytes + found.nbytes <= _CACHE_BYTES:
                self._cache[address] = found
                self._cached_bytes += found.nbytes
        return found
