"""Bytes of tensors, and dtypes that torch cannot compute in."""

from __future__ import annotations

import torch
from torch import Tensor


def as_bytes(tensor: Tensor) -> memoryview:
    """The values' bytes in row-major order, for digests and files; shared with `tensor` where it lies so on the CPU."""
    return _flat(tensor.cpu()).numpy().data


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same bytes, so that NaN equals NaN and 0 not -0; shapes and dtypes do not count."""
    return torch.equal(_flat(one), _flat(other).to(one.device))


def widened(tensor: Tensor) -> Tensor:
    """The detached values, 8-bit floats as float32: torch has no isfinite, sums and comparisons for them."""
    values = tensor.detach()
    return values.float() if values.is_floating_point() and values.dtype.itemsize == 1 else values


def _flat(tensor: Tensor) -> Tensor:
    whole = tensor.detach().resolve_conj().resolve_neg().contiguous()
    # With 0 or 1 values any strides pass for contiguous, and torch views as bytes only what has the stride 1.
    return whole.as_strided((whole.numel(),), (1,)).view(torch.uint8)
