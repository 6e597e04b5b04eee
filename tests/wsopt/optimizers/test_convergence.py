"""How many evaluations each optimizer needs, in 20 dimensions, from one step size."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer_zoo import make, spend
from wsopt.types import FloatArray, Result, Start

D = 20
SCALES = 10 ** np.linspace(0, 3, D)


def sphere(x: FloatArray) -> float:
    return float(((x - 1) ** 2).sum())


def ellipsoid(x: FloatArray) -> float:
    """Condition 1000, along the axes."""
    return float((SCALES * (x - 1) ** 2).sum())


def rotated(x: FloatArray) -> float:
    """Condition 1000, along other directions: a Householder reflection."""
    y = x - 1
    v = np.linspace(-1, 1, D)
    return float((SCALES * (y - 2 * v * (v @ y) / (v @ v)) ** 2).sum())


@pytest.mark.parametrize(
    ("name", "on_sphere", "on_ellipsoid", "on_rotated"),
    [
        # Gain over the start (a factor) within 1000, 2000 and 2000 evaluations.
        ("one-plus-one", 1e3, 1e2, 1e2),
        ("coordinate", 1e9, 1e9, 1e2),
        ("cmaes-full", 1e2, 1e2, 1e2),
        ("cmaes-full-tpa", 1e2, 1e2, 1e2),
        ("cmaes-separable", 1e2, 1e3, 1e2),
        ("cmaes-separable-tpa", 1e2, 1e3, 1e2),
        ("cmaes-vd", 1e2, 1e2, 1e2),
        ("cmaes-vd-tpa", 1e2, 1e2, 1e2),
        ("cmaes-vkd", 1e2, 1e3, 1e2),
        ("nevergrad-oneplusone", 1e3, None, None),
        ("lcsc", 1e1, 1e1, 1e1),
    ],
)
def test_convergence(name: str, on_sphere: float, on_ellipsoid: float | None, on_rotated: float | None) -> None:
    for loss, budget, gain in (
        (sphere, 1000, on_sphere),
        (ellipsoid, 2000, on_ellipsoid),
        (rotated, 2000, on_rotated),
    ):
        if gain is None:  # nevergrad takes seconds
            continue
        begin = loss(np.zeros(D))
        losses = spend(make(name, [Start("origin", np.zeros(D), begin)], budget=budget), loss, budget)
        assert begin / max(min(losses), 1e-300) > gain, loss.__doc__ or "sphere"


def test_random_search_does_not_get_far() -> None:
    begin = sphere(np.zeros(D))
    losses = spend(make("random", [Start("origin", np.zeros(D), begin)]), sphere, 1000)
    assert begin / min(losses) < 3


def test_the_recommended_mean_of_cmaes_is_better_than_its_samples_under_noise() -> None:
    """The reason to recommend the mean: the best sample is the luckiest one."""
    draws = np.random.Generator(np.random.PCG64(5))
    better = 0
    for seed in range(5):
        optimizer = make("cmaes-separable", [Start("origin", np.zeros(D), 20.0)], seed)
        best = (np.inf, np.zeros(D))
        for _ in range(120):
            points = optimizer.ask(100)
            values = [sphere(p.x) + draws.standard_normal() for p in points]
            best = min([best, *zip(values, (p.x for p in points), strict=True)], key=lambda pair: pair[0])
            optimizer.tell([Result(p.id, value) for p, value in zip(points, values, strict=True)])
        better += sphere(optimizer.recommend()) < sphere(best[1])
    assert better >= 4
