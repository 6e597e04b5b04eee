"""A merged adapter of a small rank: the best one there is, and how much it loses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from wsopt.checkpoints import LoraAdapter, LoraFactors
from wsopt.errors import InputError
from wsopt.types import FloatArray
from wsopt.weightspace._lora import LoraStack


@dataclass(frozen=True)
class Truncation:
    """Relative errors ||truncated - exact|| / ||exact|| in the Frobenius norm, in [0, 1]; 0 where the change is zero.

    They come from the dropped singular values, before the factors are rounded to float32.

    Args:
        modules: by the adapted weight's name.
        total: over all weights together.
    """

    modules: Mapping[str, float]
    total: float


def truncate(stack: LoraStack, coefficients: FloatArray, rank: int) -> tuple[LoraAdapter, Truncation]:
    """The combination as an adapter of rank at most `rank`, nearest in the Frobenius norm (Eckart and Young).

    With B* = Q_B R_B and A*^T = Q_A R_A, the change is Q_B (R_B R_A^T) Q_A^T: its singular values are those of the
    core in the middle, of sides min(out, sum r_i) and min(in, sum r_i). In float64, one weight after another.

    Args:
        stack: the checkpoints.
        coefficients: ``[G, K]``.
        rank: largest rank of any weight's factors; weights whose change has a smaller one keep that.

    Returns:
        Factors in float32 with scale 1, singular values split evenly between A and B; and the error.

    Raises:
        InputError: where `rank` is below 1.
    """
    if rank < 1:
        raise InputError(f"rank {rank}: an adapter has rank 1 or more.")
    found: dict[str, LoraFactors] = {}
    errors: dict[str, float] = {}
    lost = whole = 0.0
    for factors in stack.combined(coefficients, torch.float64):
        found[factors.name], values = _nearest(factors, rank)
        squares = values.square()
        dropped, all_of_it = float(squares[rank:].sum()), float(squares.sum())
        errors[factors.name] = math.sqrt(dropped / all_of_it) if all_of_it else 0.0
        lost, whole = lost + dropped, whole + all_of_it
    total = math.sqrt(lost / whole) if whole else 0.0
    return LoraAdapter(found, dotted=stack.dotted), Truncation(errors, total)


def _nearest(factors: LoraFactors, rank: int) -> tuple[LoraFactors, Tensor]:
    """Nearest factors of rank at most `rank`, and all singular values, descending."""
    q_b, r_b = torch.linalg.qr(factors.b.flatten(1))
    q_a, r_a = torch.linalg.qr(factors.a.flatten(1).T)
    left, values, right = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    kept = min(rank, len(values))
    roots = values[:kept].sqrt()
    b = (q_b @ left[:, :kept]) * roots
    a = roots[:, None] * (right[:kept] @ q_a.T)
    ones = [1] * (factors.b.dim() - 2)
    shaped = LoraFactors(factors.name, a.float().reshape(kept, *factors.shape[1:]), b.float().reshape(*b.shape, *ones))
    return shaped, values
