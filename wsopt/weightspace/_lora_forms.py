"""The K adapters of one weight, held as factors or as dense differences.

Both forms hold a block of candidates and give the change of the weight of any of them. With R the sum of the ranks and
P the number of the weight's values, the factored form holds R (out + in) values and costs a matrix product of 2 R P
operations per candidate; the dense form holds K P values and a block of candidates, and costs 2 K P operations.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence, Set
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from wsopt.checkpoints import LoraFactors
from wsopt.types import FloatArray

FormName: TypeAlias = Literal["dense", "factored"]


class LoraForm(ABC):
    """The K adapters of one weight.

    Args:
        factors: of the K checkpoints, of one name and shape.
    """

    kind: FormName

    def __init__(self, factors: Sequence[LoraFactors]) -> None:
        self.name = factors[0].name
        self.shape = factors[0].shape

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that stay resident, with one block of candidates."""

    @abstractmethod
    def merge(self, coefficients: FloatArray) -> None:
        """Take a block of candidates, ``[width, K]`` float64; unused rows are zero."""

    @abstractmethod
    def delta(self, row: int) -> Tensor:
        """Change of the weight in candidate `row`, float32, in the weight's shape; valid until the next call."""

    @abstractmethod
    def gram(self) -> FloatArray:
        """``[K, K]`` float64 inner products of Delta_i - Delta_1; row and column 0 are zero."""


class Factored(LoraForm):
    """A* ``[R, in]`` and B* ``[out, R]``, the stacked factors: a candidate is (B* diag) A*, exact.

    The factors stay in the files' dtype where all agree on half precision (lossless), else in float32.
    """

    kind = "factored"

    def __init__(self, factors: Sequence[LoraFactors], width: int, device: torch.device) -> None:
        super().__init__(factors)
        dtype = stored_dtype(factors)
        self.ranks = tuple(one.rank for one in factors)
        self.scales = np.array([one.scale for one in factors])
        self.a = torch.cat([one.a.to(device, dtype).flatten(1) for one in factors])
        self.b = torch.cat([one.b.to(device, dtype).flatten(1) for one in factors], dim=1)
        self._diagonals = torch.zeros(width, sum(self.ranks), device=device)

    @property
    def nbytes(self) -> int:
        """See `LoraForm.nbytes`."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (self.a, self.b, self._diagonals))

    def merge(self, coefficients: FloatArray) -> None:
        """See `LoraForm.merge`."""
        diagonals = np.repeat(coefficients * self.scales, self.ranks, axis=1)
        self._diagonals.copy_(torch.from_numpy(diagonals))

    def delta(self, row: int) -> Tensor:
        """See `LoraForm.delta`."""
        return torch.mm(self.b.float() * self._diagonals[row], self.a.float()).view(self.shape)

    def gram(self) -> FloatArray:
        """See `LoraForm.gram`. <Delta_i, Delta_j> is the sum of (B_i^T B_j) * (A_i A_j^T); no delta is formed."""
        a, b = self.a.double(), self.b.double()
        starts = np.cumsum((0, *self.ranks))[:-1]
        inner = np.zeros((len(starts), len(starts)))
        for i, start in enumerate(starts):
            mine, rest = slice(start, start + self.ranks[i]), slice(start, None)
            product = (a[mine] @ a[rest].T) * (b[:, mine].T @ b[:, rest])
            inner[i, i:] = np.add.reduceat(product.sum(dim=0).cpu().numpy(), starts[i:] - start)
        inner *= np.outer(self.scales, self.scales)
        inner += np.triu(inner, 1).T
        gram: FloatArray = inner - inner[:1] - inner[:, :1] + inner[0, 0]
        gram[0] = gram[:, 0] = 0.0
        # Of equal adapters, rounding may leave a square below zero.
        np.fill_diagonal(gram, np.maximum(gram.diagonal(), 0.0))
        return gram

    def combined(self, coefficients: FloatArray, dtype: torch.dtype = torch.float32) -> LoraFactors:
        """One pair of factors of rank sum r_i (where alpha_i is not 0) that gives sum alpha_i s_i B_i A_i; scale 1.

        Args:
            coefficients: ``[K]``; coefficient and scale enter factor B.
            dtype: of the result.
        """
        taken = [i for i, alpha in enumerate(coefficients) if alpha != 0] or [0]
        ends = np.cumsum((0, *self.ranks))
        columns = torch.cat([torch.arange(int(ends[i]), int(ends[i + 1])) for i in taken]).to(self.a.device)
        diagonal = torch.from_numpy(np.repeat(coefficients * self.scales, self.ranks)).to(self.a.device)[columns]
        a = self.a[columns].to(dtype)
        b = (self.b[:, columns].double() * diagonal).to(dtype)
        ones = [1] * (len(self.shape) - 2)
        return LoraFactors(self.name, a.reshape(-1, *self.shape[1:]), b.reshape(*b.shape, *ones))


class Dense(LoraForm):
    """Delta_1 and the differences Delta_i - Delta_1, dense; a block of candidates is one matrix product."""

    kind = "dense"

    def __init__(self, factors: Sequence[LoraFactors], width: int, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(factors)
        first = factors[0].delta().reshape(-1)
        self.anchor = first.to(device, torch.float32)
        self.differences = torch.empty(len(factors) - 1, first.numel(), dtype=dtype, device=device)
        for row, one in zip(self.differences, factors[1:], strict=True):
            row.copy_(one.delta().reshape(-1) - first)
        self._block = torch.zeros(width, first.numel(), device=device)

    @property
    def nbytes(self) -> int:
        """See `LoraForm.nbytes`."""
        held = (self.anchor, self.differences, self._block)
        return sum(tensor.numel() * tensor.element_size() for tensor in held)

    def merge(self, coefficients: FloatArray) -> None:
        """See `LoraForm.merge`."""
        weights = torch.from_numpy(coefficients).to(self._block.device, torch.float32)
        sums = torch.from_numpy(coefficients.sum(axis=1)).to(self._block.device, torch.float32)
        torch.mm(weights[:, 1:], self.differences.float(), out=self._block)
        self._block.addcmul_(sums[:, None], self.anchor[None])

    def delta(self, row: int) -> Tensor:
        """See `LoraForm.delta`."""
        return self._block[row].view(self.shape)

    def gram(self) -> FloatArray:
        """See `LoraForm.gram`."""
        count = self.differences.shape[0] + 1
        gram = np.zeros((count, count))
        wide = self.differences.double()
        gram[1:, 1:] = (wide @ wide.T).cpu().numpy()
        return gram


def make_form(
    factors: Sequence[LoraFactors],
    width: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    form: Literal["auto", "dense", "factored"] = "auto",
) -> LoraForm:
    """Hold the K adapters of one weight.

    Args:
        factors: of the K checkpoints.
        width: candidates merged in one pass.
        device: where they are held.
        dtype: of dense differences.
        form: ``auto`` takes the one of fewer bytes, the factored one where they are equal.
    """
    if form == "auto":
        dense, factored = form_bytes(factors, width, dtype)
        form = "dense" if dense < factored else "factored"
    if form == "dense":
        return Dense(factors, width, device, dtype)
    return Factored(factors, width, device)


def form_bytes(factors: Sequence[LoraFactors], width: int, dtype: torch.dtype) -> tuple[int, int]:
    """Resident bytes of the dense and of the factored form."""
    ranks = [one.rank for one in factors]
    return plan_form_bytes(ranks, factors[0].shape, stored_dtype(factors), width, dtype)


def plan_form_bytes(
    ranks: Sequence[int], shape: tuple[int, ...], stored: torch.dtype, width: int, dtype: torch.dtype
) -> tuple[int, int]:
    """Resident bytes of the dense and of the factored form.

    Args:
        ranks: of the K checkpoints.
        shape: of the weight.
        stored: dtype of factors that are held.
        width: candidates merged in one pass.
        dtype: of dense differences.
    """
    dense = math.prod(shape) * (4 + 4 * width + (len(ranks) - 1) * dtype.itemsize)
    sides = shape[0] + math.prod(shape[1:])
    return dense, sum(ranks) * (sides * stored.itemsize + 4 * width)


def stored_dtype(factors: Sequence[LoraFactors]) -> torch.dtype:
    """See `common_dtype`, of all factors."""
    return common_dtype({tensor.dtype for one in factors for tensor in (one.a, one.b)})


def common_dtype(dtypes: Set[torch.dtype]) -> torch.dtype:
    """The dtype in which factors are held: half precision where all have the same one, else float32."""
    (only, *others) = dtypes
    return only if not others and only in (torch.float16, torch.bfloat16) else torch.float32
