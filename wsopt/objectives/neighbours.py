"""Balls around points that reach to their k-th nearest neighbour, and which samples lie in one of them.

Most distances are far from a tie, and float32 products decide them; what float32 cannot decide is looked at again in
float64, so the answers are those of float64 throughout. No n x n matrix is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsopt.types import FloatArray

_TILE = 1024
_ROWS = 128
"""Rows whose distances are taken by differences at a time, so that they stay in a cache."""
_SPARE = 4
"""Neighbours kept beyond the k-th, so that rounding seldom decides which are looked at in float64."""
_FEW = 8
"""Balls that a sample may touch for each of them to be looked at by itself."""

_Normed: TypeAlias = tuple[Tensor, Tensor]
"""``[n, d]`` points and ``[n]`` squared norms of them."""


def squared_radii(points: Tensor, neighbours: int) -> FloatArray:
    """Squared distances to the k-th nearest other point (Kynkaanniemi et al. 2019, equation 1).

    n^2 d / 2 multiplications and additions in float32, and n (k + 4) d in float64. A duplicate of a point is another
    point, at distance 0.

    Args:
        points: ``[n, d]`` float32, finite, n > k.
        neighbours: k, at least 1.

    Returns:
        ``[n]`` float64, sums of squared float64 differences.
    """
    ((work, norms),) = _centred(points)
    kept = min(len(points) - 1, neighbours + _SPARE)
    near, which = _nearest(work, norms, kept)
    sure = 2 * _tolerance(norms, norms.max(), work)
    every = torch.arange(len(points), device=points.device)
    # Where the k-th stands apart from the one before and the one after, float32 has found it.
    apart = (near.diff(dim=1) > sure[:, None])[:, max(0, neighbours - 2) : neighbours].all(dim=1)
    radii = torch.empty(len(points), dtype=torch.float64, device=points.device)
    for rows in torch.split(every[apart], _ROWS):
        radii[rows] = _kth(points, rows, which[rows, neighbours - 1 : neighbours], 1)
    for rows in torch.split(every[~apart], _ROWS):
        radii[rows] = _kth(points, rows, which[rows], neighbours)
    if kept < len(points) - 1:
        # A point outside the kept ones is no nearer than this; a radius of 0 cannot shrink.
        outside = near[:, -1].double() - sure
        for rows, others in _nearest_in_float64(points, every[~apart & (outside < radii) & (radii > 0)], kept):
            radii[rows] = _kth(points, rows, others, neighbours)
    return np.asarray(radii.cpu().numpy())


def inside(samples: Tensor, centres: Tensor, radii: FloatArray) -> NDArray[np.bool_]:
    """Which samples lie in the ball of at least one centre; on the sphere is inside (equation 2: distance <= radius).

    At most n m d multiplications and additions: large balls come first, and a sample in one of them is done.

    Args:
        samples: ``[n, d]`` float32, finite.
        centres: ``[m, d]`` float32, finite, on the same device.
        radii: ``[m]`` squared radii (`squared_radii`).

    Returns:
        ``[n]``.
    """
    order = torch.from_numpy(np.argsort(-radii, kind="stable")).to(centres.device)
    limits = torch.from_numpy(radii).to(centres.device)[order]
    centres = centres[order]
    near, far = _centred(centres, samples)
    found = torch.zeros(len(samples), dtype=torch.bool, device=samples.device)
    begin, size = 0, _TILE // 4
    while begin < len(centres) and not bool(found.all()):
        some = slice(begin, begin + size)
        for rows in torch.split(torch.nonzero(~found).flatten(), _TILE):
            tile = _margins((far[0][rows], far[1][rows]), (near[0][some], near[1][some]), limits[some])
            found[rows] = tile.least < -tile.sure
            unsure = torch.nonzero(tile.least.abs() <= tile.sure).flatten()
            if len(unsure):
                found[rows[unsure]] = _decided(samples[rows[unsure]], centres[some], limits[some], tile, unsure)
        begin, size = begin + size, min(2 * size, 2 * _TILE)
    return np.asarray(found.cpu().numpy())


def _decided(samples: Tensor, centres: Tensor, limits: Tensor, tile: _Tile, rows: Tensor) -> Tensor:
    """`inside` of the rows of a tile that it leaves open: by differences where they touch few balls."""
    which, touched = torch.nonzero(tile.margins[rows] <= (tile.sure - tile.own)[rows, None], as_tuple=True)
    if len(which) > _FEW * len(rows):
        return _inside_in_float64(samples, centres, limits)
    hit = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    for row, centre in zip(torch.split(which, _ROWS), torch.split(touched, _ROWS), strict=True):
        within = _squared_distances(samples[row].double(), centres[centre].double()) <= limits[centre]
        hit[row[within]] = True
    return hit


def _inside_in_float64(samples: Tensor, centres: Tensor, limits: Tensor) -> Tensor:
    """`inside` of one tile by float64 products, and by differences where these cannot decide either."""
    samples, centres = samples.double(), centres.double()
    shift = centres.mean(dim=0)
    tile = _margins(_normed(samples - shift), _normed(centres - shift), limits)
    hit = tile.least < -tile.sure
    rows = torch.nonzero(~hit & (tile.least <= tile.sure)).flatten()
    while len(rows):
        nearest = tile.margins[rows].argmin(dim=1)
        hit[rows] = _squared_distances(samples[rows], centres[nearest]) <= limits[nearest]
        tile.margins[rows, nearest] = torch.inf
        rows = rows[~hit[rows] & (tile.margins[rows].amin(dim=1) + tile.own[rows] <= tile.sure[rows])]
    return hit


class _Tile(NamedTuple):
    """Squared distances less squared radii of some samples and centres, up to rounding."""

    margins: Tensor
    """``[n, m]``, short of the squared norms of the samples."""
    own: Tensor
    """``[n]``, these squared norms."""
    least: Tensor
    """``[n]``, the least of each row, squared norm and all."""
    sure: Tensor
    """``[n]``, how far rounding may have moved it."""


def _margins(samples: _Normed, centres: _Normed, limits: Tensor) -> _Tile:
    """A tile of centred samples and centres."""
    (work, own), (others, norms) = samples, centres
    bounds = limits.to(work.dtype)
    margins = torch.addmm(norms - bounds, work, others.T, alpha=-2.0)
    return _Tile(margins, own, margins.amin(dim=1) + own, _tolerance(own, (norms + bounds).max(), work))


def _tolerance(norms: Tensor, largest: Tensor, work: Tensor) -> Tensor:
    """Bound on the rounding of |x|^2 + |y|^2 - 2 x.y: a random walk of d steps, with a wide berth."""
    steps = 8.0 + 4.0 * math.sqrt(work.shape[1])
    return (norms + largest) * (steps * torch.finfo(work.dtype).eps)


def _centred(*sets: Tensor) -> list[_Normed]:
    """Sets less the mean of the first, so that squares are of the size of distances; float64 where these overflow."""
    shift = sets[0].mean(dim=0)
    found = [_normed(points - shift) for points in sets]
    if all(bool(norms.isfinite().all()) for _, norms in found):
        return found
    shift = sets[0].mean(dim=0, dtype=torch.float64)
    return [_normed(points.double() - shift) for points in sets]


def _normed(points: Tensor) -> _Normed:
    """Points and their squared norms."""
    return points, torch.cat([rows.square().sum(dim=1) for rows in torch.split(points, _ROWS)])


def _nearest(work: Tensor, norms: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Squared distances to, and rows of, the `kept` nearest other points, ``[n, kept]`` each, up to rounding."""
    n = len(work)
    near = torch.full((n, kept), torch.inf, dtype=work.dtype, device=work.device)
    which = torch.zeros((n, kept), dtype=torch.int64, device=work.device)
    for a in range(0, n, _TILE):
        for b in range(a, n, _TILE):
            rows, columns = slice(a, min(a + _TILE, n)), slice(b, min(b + _TILE, n))
            tile = torch.addmm(norms[columns], work[rows], work[columns].T, alpha=-2.0).add_(norms[rows, None])
            if a == b:
                tile.fill_diagonal_(torch.inf)
            _fold(near, which, rows, tile, b)
            if a != b:
                _fold(near, which, columns, tile.T.contiguous(), a)
    return near, which


def _fold(near: Tensor, which: Tensor, rows: slice, tile: Tensor, offset: int) -> None:
    """Put what a tile has nearer in place of what was found so far."""
    kept = near.shape[1]
    values, columns = tile.topk(min(kept, tile.shape[1]), dim=1, largest=False)
    best, chosen = torch.cat([near[rows], values], dim=1).topk(kept, dim=1, largest=False)
    near[rows] = best
    which[rows] = torch.cat([which[rows], columns + offset], dim=1).gather(1, chosen)


def _nearest_in_float64(points: Tensor, rows: Tensor, kept: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Some rows and those of their nearest other points: for clusters far smaller than their distance."""
    if not len(rows):
        return
    ((work, norms),) = _centred(points.double())
    for some in torch.split(rows, _ROWS):
        distances = torch.addmm(norms, work[some], work.T, alpha=-2.0).add_(norms[some, None])
        distances[torch.arange(len(some), device=some.device), some] = torch.inf
        yield some, distances.topk(kept, dim=1, largest=False).indices


def _kth(points: Tensor, rows: Tensor, which: Tensor, neighbours: int) -> Tensor:
    """The k-th smallest of the squared distances of points to some others, float64."""
    own = points[rows].double()
    found = [_squared_distances(own, points[which[:, at]].double()) for at in range(which.shape[1])]
    return torch.stack(found, dim=1).sort(dim=1).values[:, neighbours - 1]


def _squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """The one way a distance is computed that is compared with another: a tie is a tie."""
    return (first - second).square().sum(dim=1)
