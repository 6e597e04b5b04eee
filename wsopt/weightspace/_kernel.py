"""The merge: batched products over groups of blocks, each of which stays in the cache until it is done with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from wsopt.types import FloatArray

# Columns that one batched product takes. On CPUs the product is to fit the caches (a second level of 1 MiB was
# measured with); a GPU needs long launches instead.
_COLUMNS_ALONE = 1 << 17
_COLUMNS_TOGETHER = 1 << 18
_COLUMNS_CONVERTED = 1 << 14
_COLUMNS_ACCELERATOR = 1 << 22


@dataclass
class Shard:
    """The part of the stack that one device merges.

    Args:
        first: its first block in the layout.
        device: where it is merged.
        differences: ``[blocks, K-1, block]`` in the stored dtype, on `device` or, mapped, on the CPU.
        anchor: ``[blocks, 1, block]`` float32 on `device`.
        groups: ``[blocks]`` int64 on `device`, the layer group of each block.
        scales: ``[blocks, K-1]`` float32 on `device`, powers of two that stored differences are multiplied with; None
            where they are stored as they are.
    """

    first: int
    device: torch.device
    differences: Tensor
    anchor: Tensor
    groups: Tensor
    scales: Tensor | None
    _scratch: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def blocks(self) -> range:
        """The blocks of the layout that it holds."""
        return range(self.first, self.first + len(self.anchor))

    def scratch(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A float32 tensor that is kept for the next call: fresh pages would cost as much as the product."""
        if name not in self._scratch or self._scratch[name].shape != shape:
            self._scratch[name] = empty(shape, self.device)
        return self._scratch[name]


def merge(shard: Shard, coefficients: FloatArray, out: Tensor) -> None:
    """Merge candidates in one pass over a shard.

    The bits of a candidate depend on the number of candidates, not on its row, the others, or the number of threads.

    Args:
        shard: what is merged.
        coefficients: ``[n, G, K]``.
        out: ``[blocks, n, block]`` float32 on the shard's device, any strides.
    """
    n, groups, _ = coefficients.shape
    rest = np.ascontiguousarray(coefficients[:, :, 1:].transpose(1, 0, 2))
    weights = torch.from_numpy(rest).to(shard.device, torch.float32)
    # Where the coefficients sum to 1 in float64, the float32 sum is exactly 1 and the anchor enters unrounded.
    sums = torch.from_numpy(coefficients.sum(axis=2).T[:, :, None].copy()).to(shard.device, torch.float32)
    block = shard.anchor.shape[2]
    converts = shard.differences.dtype != torch.float32 or shard.differences.device != shard.device
    length = max(2, _columns(shard.device, n, converts) // block)
    with torch.no_grad(), _full_precision():
        for start, end in chunks(len(shard.anchor), length):
            count = end - start
            taken = shard.differences[start:end]
            if converts:
                taken = shard.scratch("wide", (length + 1, *taken.shape[1:]))[:count].copy_(taken)
            if groups == 1:
                left, total = weights.expand(count, -1, -1), sums
            else:
                left, total = weights[shard.groups[start:end]], sums[shard.groups[start:end]]
            if shard.scales is not None:
                left = left * shard.scales[start:end, None, :]
            product = shard.scratch("product", (length + 1, n, block))[:count]
            torch.bmm(left, taken, out=product)
            torch.addcmul(product, total, shard.anchor[start:end], out=out[start:end])


def chunks(count: int, length: int) -> Iterator[tuple[int, int]]:
    """Ranges of `length` blocks; a single one that would remain joins the last range."""
    start = 0
    while start < count:
        end = min(start + length, count)
        if count - end == 1:
            end = count
        yield start, end
        start = end


def empty(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor of zeros whose pages are not touched yet.

    On the CPU the memory is numpy's, which asks the system for huge pages: merging runs up to 1.7 times as fast.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(shape, f"i{dtype.itemsize}")).view(dtype)


def _columns(device: torch.device, n: int, converts: bool) -> int:
    if device.type != "cpu":
        return _COLUMNS_ACCELERATOR
    if converts:
        return _COLUMNS_CONVERTED
    return _COLUMNS_ALONE if n == 1 else _COLUMNS_TOGETHER


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products in full float32, whatever a network's code asked for (TF32, bfloat16 passes)."""
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
