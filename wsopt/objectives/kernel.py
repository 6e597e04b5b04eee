"""The squared maximum mean discrepancy with a polynomial kernel, from sums of kernels between jackknife blocks.

Sums rather than kernel matrices: the estimate without a block of samples follows from the sums between blocks, so ten
replicates cost no kernel more than the value. Products are float32, a slab of rows at a time; sums are float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsopt.types import FloatArray

_SLAB_ROWS = 64, 512
_SLAB_VALUES = 1 << 20  # 4 MB of float32


@dataclass(frozen=True)
class PolynomialKernel:
    """k(x, y) = (gamma x.y + coef)^degree (Binkowski et al. 2018, section 4: degree 3, gamma 1/d, coef 1).

    Args:
        degree: at least 1.
        gamma: None stands for 1/d.
        coef: the constant that is added to the product.
    """

    degree: int = 3
    gamma: float | None = None
    coef: float = 1.0

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Kernel values less coef^degree.

        The constant cancels in the discrepancy. Without it float32 rounds numbers of the size of what is compared.

        Args:
            first: ``[n, d]`` float32.
            second: ``[m, d]`` float32.

        Returns:
            ``[n, m]`` float32.
        """
        gamma = 1.0 / first.shape[1] if self.gamma is None else self.gamma
        product = torch.mm(first, second.T).mul_(gamma)
        if self.degree == 1:
            return product
        # (c + s)^p - c^p = s * (sum over j >= 1 of binomial(p, j) c^(p-j) s^(j-1)), by Horner's rule.
        factors = _binomials(self.degree, self.coef)
        value = product + factors[0]
        for factor in factors[1:]:
            value.mul_(product).add_(factor)
        return value.mul_(product)


def _binomials(degree: int, coef: float) -> list[float]:
    """binomial(p, j) c^(p-j) for j = p - 1 down to 1; that of j = p is 1."""
    factors, binomial = [], 1.0
    for j in range(degree - 1, 0, -1):
        binomial = binomial * (j + 1) / (degree - j)
        factors.append(binomial * coef ** (degree - j))
    return factors


@dataclass(frozen=True)
class KernelSums:
    """Sums of kernels of n generated samples in G groups and m real ones.

    Args:
        counts: ``[G]`` samples per group.
        within: ``[G, G]`` float64 sums over ordered pairs of two different generated samples.
        between: ``[G]`` float64 sums over pairs of a generated and a real sample.
        real: mean over the pairs of two different real samples.
        real_count: m.
    """

    counts: NDArray[np.int64]
    within: FloatArray
    between: FloatArray
    real: float
    real_count: int

    def discrepancy(self, without: int | None = None) -> float:
        """The unbiased estimate of MMD^2 (Gretton et al. 2012, lemma 6), of all groups or of all but one.

        NaN with fewer than two samples on either side.
        """
        keep = np.arange(len(self.counts)) != (-1 if without is None else without)
        n = int(self.counts[keep].sum())
        if n < 2 or self.real_count < 2:
            return float("nan")
        generated = float(self.within[np.ix_(keep, keep)].sum()) / (n * (n - 1))
        across = float(self.between[keep].sum()) / (n * self.real_count)
        return generated + self.real - 2.0 * across


def kernel_sums(
    kernel: PolynomialKernel, samples: Tensor, groups: NDArray[np.int64], count: int, real: Tensor, real_mean: float
) -> KernelSums:
    """The sums that the discrepancy and its replicates are made of.

    n (n + 2 m) d multiplications and additions: of a symmetric kernel only the upper part is computed.

    Args:
        kernel: the kernel.
        samples: ``[n, d]`` float32 generated features.
        groups: ``[n]`` group of each, in [0, count).
        count: G.
        real: ``[m, d]`` float32 features of real data, on the same device.
        real_mean: `mean_within` of `real`.
    """
    order = np.argsort(groups, kind="stable")
    rows = samples[torch.from_numpy(order).to(samples.device)]
    counts = np.bincount(groups, minlength=count)
    between = np.zeros(count)
    for begin, end in _slabs(len(rows), len(real)):
        slab = kernel(rows[begin:end], real)
        for group, first, last in _segments(counts, begin, end):
            between[group] += float(slab[first:last].sum(dtype=torch.float64))
    return KernelSums(counts, _within(kernel, rows, counts), between, real_mean, len(real))


def mean_within(kernel: PolynomialKernel, rows: Tensor) -> float:
    """Mean kernel over the pairs of two different rows of ``[m, d]``; NaN for fewer than two."""
    m = len(rows)
    if m < 2:
        return float("nan")
    return float(_within(kernel, rows, np.array([m])).sum()) / (m * (m - 1))


def _within(kernel: PolynomialKernel, rows: Tensor, counts: NDArray[np.int64]) -> FloatArray:
    """``[G, G]`` sums over ordered pairs of different rows, which are sorted by group."""
    sums = np.zeros((len(counts), len(counts)))
    n = len(rows)
    for begin, end in _slabs(n, n):
        slab = kernel(rows[begin:end], rows[begin:])
        slab.diagonal().zero_()
        square, beyond = _segments(counts, begin, end), _segments(counts, end, n)
        for group, first, last in square:
            columns = slab[first:last].sum(dim=0, dtype=torch.float64).cpu().numpy()
            # The square on the diagonal has both orders of its pairs; each pair beyond it stands for two.
            for other, start, stop in square:
                sums[group, other] += columns[start:stop].sum()
            for other, start, stop in beyond:
                both = columns[end - begin + start : end - begin + stop].sum()
                sums[group, other] += both
                sums[other, group] += both
    return sums


def _slabs(rows: int, columns: int) -> list[tuple[int, int]]:
    """(begin, end) of slabs of rows that stay in a cache while they are raised to a power and added up."""
    size = max(_SLAB_ROWS[0], min(_SLAB_ROWS[1], _SLAB_VALUES // max(1, columns)))
    return [(begin, min(begin + size, rows)) for begin in range(0, rows, size)]


def _segments(counts: NDArray[np.int64], begin: int, end: int) -> list[tuple[int, int, int]]:
    """(group, first, last) of each group that has rows in [begin, end), from `begin` on."""
    ends = np.cumsum(counts)
    firsts, lasts = np.clip(ends - counts, begin, end) - begin, np.clip(ends, begin, end) - begin
    return [(group, int(a), int(b)) for group, (a, b) in enumerate(zip(firsts, lasts, strict=True)) if b > a]
