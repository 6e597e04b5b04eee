"""The rules that every parameterization keeps, as one function that checks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

import numpy as np

from wsopt.errors import InputError
from wsopt.parameterizations import Parameterization
from wsopt.testing._rng import untouched_random_state
from wsopt.types import FloatArray, SpaceInfo

TENSORS: Final[Mapping[str, tuple[int, ...]]] = {
    "input_blocks.0.weight": (4, 3),
    "input_blocks.0.bias": (4,),
    "middle_block.weight": (4, 4),
    "output_blocks.0.weight": (3, 4),
    "output_blocks.0.bias": (3,),
}
"""Shapes by name of a small network."""


def check_parameterization(
    make: Callable[[], Parameterization],
    *,
    tensors: Mapping[str, tuple[int, ...]] = TENSORS,
    counts: Sequence[int] = (2, 3, 8),
    representation: Literal["dense", "lora"] = "dense",
    sums_to_one: bool = True,
    reaches_all: bool = True,
    seed: int = 0,
) -> None:
    """Check a parameterization against its contract, on random walks of weights.

    Args:
        make: gives a new one, not yet bound.
        tensors: shapes by name of the network that `grouping` is asked about.
        counts: numbers of checkpoints K that it is bound to, each at least 2.
        representation: of the checkpoints.
        sums_to_one: whether coefficients sum to 1 in every group, whatever the search vector.
        reaches_all: whether the uniform average and every single checkpoint can be reached, the same in all groups.
            Where not, the nearest coefficients have to be stable: taking them as the start gives them again.
        seed: of the weights and the search vectors.

    Raises:
        AssertionError: for the first rule that is broken, in words.
    """
    groups = _check_grouping(make(), tensors)
    _check_too_few(make, groups, representation)
    for count in counts:
        generator = np.random.Generator(np.random.PCG64([seed, count]))
        info = _space(generator, make().needs_gram, groups, tensors, count, representation)
        what = f"with {count} checkpoints and {info.num_groups} groups"
        with untouched_random_state(f"the parameterization {what}"):
            one = _bound(make, info)
            _check_sizes(one, info, what)
            x = generator.standard_normal((5, one.dimension)) * one.scale()
            _check_coefficients(one, info, x, sums_to_one, what)
            _check_rows(one, _bound(make, info), x, what)
            _check_inverse(one, one.coefficients(x), "of coefficients that it gave", what)
            _check_starts(one, info, reaches_all, what)
            if groups is not None:
                _check_group_order(one, info, x[0], what)


def synthetic_gram(generator: np.random.Generator, count: int, size: int) -> FloatArray:
    """Gram matrix ``[K, K]`` of the differences of `count` checkpoints of `size` weights: a drift and a random walk."""
    drift = np.linspace(0.0, 2.0, count)[:, None] * generator.standard_normal(size)
    weights = drift + np.cumsum(0.3 * generator.standard_normal((count, size)), axis=0)
    differences = weights - weights[0]
    return np.asarray(differences @ differences.T)


# ---- before binding


def _check_grouping(one: Parameterization, tensors: Mapping[str, tuple[int, ...]]) -> Mapping[str, str] | None:
    given = dict(tensors)
    groups = one.grouping(given)
    assert given == dict(tensors), "grouping() changed the tensors that it was given"
    assert groups == one.grouping(given), "grouping() gave two answers to one question"
    if groups is None:
        return None
    missing = [name for name in tensors if name not in groups]
    assert not missing, f"grouping() gives no group to {missing[0]!r}: every tensor needs one"
    wrong = [group for group in groups.values() if not isinstance(group, str) or not group]
    assert not wrong, f"grouping() gives a group the name {wrong[0]!r}: names are text, and not empty"
    return groups


def _check_too_few(
    make: Callable[[], Parameterization],
    groups: Mapping[str, str] | None,
    representation: Literal["dense", "lora"],
) -> None:
    names = tuple(dict.fromkeys(groups.values())) if groups else ("all",)
    info = SpaceInfo((10,), names, np.zeros((len(names), 1, 1)), representation)
    try:
        make().bind(info)
    except InputError:
        return
    raise AssertionError("bind() accepted a window of one checkpoint: raise wsopt.errors.InputError, it spans nothing")


def _space(
    generator: np.random.Generator,
    needs_gram: bool,
    groups: Mapping[str, str] | None,
    tensors: Mapping[str, tuple[int, ...]],
    count: int,
    representation: Literal["dense", "lora"],
) -> SpaceInfo:
    sizes: dict[str, int] = {}
    for name, shape in tensors.items():
        group = "all" if groups is None else groups[name]
        sizes[group] = sizes.get(group, 0) + int(np.prod(shape))
    steps = tuple(int(step) for step in 100 + np.cumsum(generator.integers(1, 20, count)))
    gram = np.stack([synthetic_gram(generator, count, size) for size in sizes.values()]) if needs_gram else None
    return SpaceInfo(steps, tuple(sizes), gram, representation)


def _bound(make: Callable[[], Parameterization], info: SpaceInfo) -> Parameterization:
    one = make()
    one.bind(info)
    return one


# ---- after


def _check_sizes(one: Parameterization, info: SpaceInfo, what: str) -> None:
    assert isinstance(one.dimension, int), f"{what}: dimension is {type(one.dimension).__name__}, not int"
    assert one.dimension >= 1, f"{what}: dimension is {one.dimension}, so there is nothing to search"
    scale = one.scale()
    _check_array(scale, (one.dimension,), f"{what}: scale()")
    assert (scale > 0).all(), f"{what}: scale() has entries that are not positive"


def _check_array(found: object, shape: tuple[int, ...], what: str) -> None:
    assert isinstance(found, np.ndarray), f"{what} gives {type(found).__name__}, not a numpy array"
    assert found.shape == shape, f"{what} has shape {list(found.shape)}, not {list(shape)}"
    assert found.dtype == np.float64, f"{what} has dtype {found.dtype}, not float64"
    assert np.isfinite(found).all(), f"{what} has entries that are not finite"


def _check_coefficients(one: Parameterization, info: SpaceInfo, x: FloatArray, sums_to_one: bool, what: str) -> None:
    far = np.concatenate([x, np.zeros_like(x[:1]), -x[:1], 1e3 * x[:2]])
    for rows in (far, far[:1]):
        given = rows.copy()
        alpha = one.coefficients(given)
        _check_array(alpha, (len(rows), info.num_groups, info.num_checkpoints), f"{what}: coefficients()")
        assert np.array_equal(given, rows), f"{what}: coefficients() changed the search vectors that it was given"
        if sums_to_one:
            off = np.abs(alpha.sum(axis=2) - 1.0) / (1.0 + np.abs(alpha).sum(axis=2))
            assert off.max() < 1e-12, f"{what}: coefficients do not sum to 1; the largest error is {off.max():.2g}"


def _check_rows(one: Parameterization, other: Parameterization, x: FloatArray, what: str) -> None:
    together = one.coefficients(x)
    assert np.array_equal(together, other.coefficients(x)), (
        f"{what}: two instances that are bound alike give different coefficients"
    )
    apart = np.concatenate([one.coefficients(row[None]) for row in x])
    assert np.array_equal(together, apart), (
        f"{what}: a row's coefficients depend on how many rows there are. Matrix products round differently at another "
        f"height: sum over the search vector with elementwise operations"
    )
    strided = np.asfortranarray(np.concatenate([x, x])[::-2][::-1])
    again = one.coefficients(strided)
    assert np.array_equal(again, one.coefficients(np.ascontiguousarray(strided))), (
        f"{what}: coefficients depend on how the search vectors lie in memory"
    )


def _check_inverse(one: Parameterization, alphas: FloatArray, which: str, what: str) -> None:
    for alpha in alphas:
        given = alpha.copy()
        x = one.initial(given)
        _check_array(x, (one.dimension,), f"{what}: initial()")
        assert np.array_equal(given, alpha), f"{what}: initial() changed the coefficients that it was given"
        back = one.coefficients(x[None])[0]
        error = float(np.abs(back - alpha).max() / (1.0 + np.abs(alpha).max()))
        assert error < 1e-8, (
            f"{what}: initial() {which} does not lead back to them; the largest relative error is {error:.2g}"
        )


def _check_starts(one: Parameterization, info: SpaceInfo, reaches_all: bool, what: str) -> None:
    count = info.num_checkpoints
    for shared in (np.full(count, 1.0 / count), *np.eye(count)):
        alpha = np.tile(shared, (info.num_groups, 1))
        if reaches_all:
            _check_inverse(one, alpha[None], "of the uniform average or a single checkpoint", what)
        nearest = one.coefficients(one.initial(alpha)[None])
        _check_inverse(one, nearest, "of the coefficients nearest to a start", what)


def _check_group_order(one: Parameterization, info: SpaceInfo, x: FloatArray, what: str) -> None:
    """Coefficients of another group than the one that was changed stay as they are."""
    alpha = one.coefficients(x[None])[0]
    for group in range(info.num_groups):
        changed = alpha.copy()
        changed[group] = 1.0 / info.num_checkpoints
        back = one.coefficients(one.initial(changed)[None])[0]
        others = np.arange(info.num_groups) != group
        moved = np.abs(back - alpha)[others].max(initial=0.0)
        assert moved <= 1e-8 * (1.0 + np.abs(alpha).max()), (
            f"{what}: changing the coefficients of group {info.groups[group]!r} changed another group's: "
            f"row g belongs to the g-th of the groups that bind() is told"
        )
