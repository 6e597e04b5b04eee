"""Coordinates: their formulas, their units, and what degenerate checkpoints do to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsopt.config.params import DifferenceParams, DirectParams, LayerwiseParams
from wsopt.errors import InputError
from wsopt.parameterizations import DifferenceBase, Direct, Layerwise, Parameterization
from wsopt.types import FloatArray, SpaceInfo

GRAM = ("sum-zero", "pca", "sqrt-whitened", "whitened")
SUM_ONE = ("difference", *GRAM)


def trajectory(count: int, size: int, seed: int = 0) -> FloatArray:
    """Checkpoints ``[K, P]``: a drift, a random walk and noise."""
    generator = np.random.default_rng(seed)
    drift = np.linspace(0, 3, count)[:, None] * generator.standard_normal(size)
    walk = 0.3 * np.cumsum(generator.standard_normal((count, size)), axis=0)
    return np.asarray(5.0 + drift + walk + generator.standard_normal((count, size)))


def gram(weights: FloatArray) -> FloatArray:
    differences = weights - weights[0]
    return np.asarray(differences @ differences.T)


def difference(coordinates: str, weights: FloatArray) -> DifferenceBase:
    one = DifferenceBase(DifferenceParams.model_validate({"coordinates": coordinates}))
    one.bind(SpaceInfo(tuple(range(1, len(weights) + 1)), gram=gram(weights)[None] if one.needs_gram else None))
    return one


def moves(one: Parameterization, weights: FloatArray) -> FloatArray:
    """Displacement of the weights by a unit of each coordinate, ``[D, P]``."""
    units = np.diag(one.scale())
    alpha = one.coefficients(units) - one.coefficients(np.zeros_like(units[:1]))
    return np.asarray(alpha[:, 0] @ weights)


# ---- difference and direct


@given(st.integers(2, 40), st.integers(1, 20), st.integers(0, 2**32))
def test_the_paper_s_coordinates_keep_their_bits(count: int, rows: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((rows, count - 1))
    one = DifferenceBase()
    one.bind(SpaceInfo(tuple(range(1, count + 1))))
    expected = np.concatenate([1.0 - x.sum(axis=1, keepdims=True), x], axis=1)[:, None, :]
    assert np.array_equal(one.coefficients(x), expected)
    assert np.array_equal(one.initial(expected[0]), x[0])
    assert np.array_equal(one.scale(), np.ones(count - 1))
    assert not one.needs_gram


def test_shared_coefficients_of_many_groups_come_back_bit_for_bit() -> None:
    one = DifferenceBase()
    one.bind(SpaceInfo((1, 2, 3), groups=("a", "b", "c")))
    x = np.array([0.1, 0.7])
    assert np.array_equal(one.initial(one.coefficients(x[None])[0]), x)
    mixed = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]])
    np.testing.assert_allclose(one.initial(mixed), [0.5, 1 / 6])


def direct(normalize: bool, count: int) -> Direct:
    one = Direct(DirectParams(normalize=normalize))
    one.bind(SpaceInfo(tuple(range(1, count + 1))))
    return one


def test_direct_is_the_coefficients_themselves() -> None:
    x = np.array([[0.5, -2.0, 3.0]])
    assert np.array_equal(direct(False, 3).coefficients(x)[:, 0], x)
    assert direct(False, 3).dimension == direct(True, 3).dimension == 3


def test_normalised_direct_divides_by_the_sum() -> None:
    x = np.array([[1.0, 2.0, 5.0], [0.5, 0.5, -0.5], [-1.0, 4.0, 1.0]])
    np.testing.assert_allclose(direct(True, 3).coefficients(x)[:, 0], x / x.sum(axis=1, keepdims=True), rtol=1e-15)


@pytest.mark.parametrize("total", [0.5, 0.25, 1e-3, 1e-300, 0.0, -1e-12, -1.0, -100.0])
def test_normalised_direct_is_tame_where_the_sum_is_not(total: float) -> None:
    spread = np.array([1.0, -1.0, 0.0, 0.0])
    (alpha,) = direct(True, 4).coefficients((spread + total / 4)[None])[0]
    assert alpha.sum() == pytest.approx(1.0, abs=1e-12)
    # Twice x and an even share, whatever the sum: 2 * (spread + total / 4) + (1 - 2 * total) / 4
    np.testing.assert_allclose(alpha, 2 * spread + 0.25, atol=1e-9)


def test_normalised_direct_is_continuous() -> None:
    base = np.array([2.0, -1.0, 0.25])
    for total in (0.5, 0.0):
        sides = [base + (total + side - base.sum()) / 3 for side in (-1e-9, 1e-9)]
        below, above = direct(True, 3).coefficients(np.stack(sides))[:, 0]
        assert np.abs(below - above).max() < 1e-7


# ---- the sum-zero family


@pytest.mark.parametrize("coordinates", GRAM)
def test_axes_start_at_the_uniform_average_and_are_orthogonal(coordinates: str) -> None:
    one = difference(coordinates, trajectory(7, 50))
    centre = one.coefficients(np.zeros((1, 6)))[0, 0]
    np.testing.assert_allclose(centre, 1 / 7, rtol=1e-14)
    axes = one.coefficients(np.eye(6))[:, 0] - centre
    np.testing.assert_allclose(axes.sum(axis=1), 0.0, atol=1e-13)
    inner = axes @ axes.T
    np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-12)
    if coordinates in ("sum-zero", "pca"):  # rotations of each other, in one unit
        np.testing.assert_allclose(np.diag(inner), inner[0, 0], rtol=1e-9)


@pytest.mark.parametrize(("coordinates", "power"), [("pca", 0.0), ("sqrt-whitened", 0.5), ("whitened", 1.0)])
def test_axes_are_principal_and_scaled_by_a_power_of_the_singular_value(coordinates: str, power: float) -> None:
    weights = trajectory(9, 300)
    one = difference(coordinates, weights)
    centred = weights - weights.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    axes = one.coefficients(np.eye(8))[:, 0] - 1 / 9
    lengths = np.linalg.norm(axes, axis=1)
    np.testing.assert_allclose(np.abs((axes / lengths[:, None]) @ left[:, :8]), np.eye(8), atol=1e-7)
    np.testing.assert_allclose(lengths / lengths[0], (singular[:8] / singular[0]) ** -power, rtol=1e-7)


@pytest.mark.parametrize("coordinates", SUM_ONE)
@settings(max_examples=10, deadline=None)
@given(count=st.integers(2, 15), size=st.integers(1, 60), seed=st.integers(0, 99))
def test_a_standard_step_moves_the_weights_as_far_in_all_coordinates(
    coordinates: str, count: int, size: int, seed: int
) -> None:
    weights = trajectory(count, size, seed)
    one = difference(coordinates, weights)
    # E |sum_d z_d m_d|^2 = sum_d |m_d|^2 for standard normal z
    distance = (moves(one, weights) ** 2).sum()
    assert distance == pytest.approx(((weights - weights[0]) ** 2).sum(), rel=1e-6)


@pytest.mark.parametrize("coordinates", SUM_ONE)
def test_layers_move_in_their_own_units(coordinates: str) -> None:
    weights = {"a.w": trajectory(6, 30), "b.w": 100 * trajectory(6, 80, seed=1)}
    one = Layerwise(LayerwiseParams.model_validate({"coordinates": coordinates}))
    groups = one.grouping({name: (values.shape[1],) for name, values in weights.items()})
    assert groups == {"a.w": "a", "b.w": "b"}
    one.bind(SpaceInfo(tuple(range(1, 7)), ("a", "b"), np.stack([gram(values) for values in weights.values()])))
    alpha = one.coefficients(np.eye(10)) - one.coefficients(np.zeros((1, 10)))
    for group, values in enumerate(weights.values()):
        moved = alpha[:, group] @ values
        assert (moved**2).sum() == pytest.approx(((values - values[0]) ** 2).sum(), rel=1e-6)
        assert np.abs(moved[np.arange(10) // 5 != group]).max() == 0.0


def test_whitening_takes_the_condition_number_down() -> None:
    weights = trajectory(40, 2000)
    condition = {name: np.linalg.cond(moves(difference(name, weights), weights)) for name in SUM_ONE}
    assert condition["whitened"] == pytest.approx(1.0, abs=1e-6)
    assert condition["pca"] == pytest.approx(condition["sum-zero"], rel=1e-6)
    assert condition["sqrt-whitened"] == pytest.approx(condition["pca"] ** 0.5, rel=1e-6)
    assert condition["difference"] > condition["sum-zero"] > 5


@pytest.mark.parametrize("coordinates", GRAM)
def test_near_duplicates_do_not_blow_up(coordinates: str) -> None:
    weights = trajectory(8, 100)
    weights[5] = weights[4] * (1 + 1e-6)  # nearly the same
    weights[7] = weights[6]  # exactly the same
    one = difference(coordinates, weights)
    axes = one.coefficients(np.eye(7))[:, 0] - 1 / 8
    assert one.dimension == 7
    assert np.linalg.norm(axes, axis=1).max() < 400  # 1 / FLOOR, and the unit on top
    for single in np.eye(8):
        back = one.coefficients(one.initial(single[None])[None])[0, 0]
        np.testing.assert_allclose(back, single, atol=1e-10)
    if coordinates != "sum-zero":
        # The axis between the equal checkpoints comes last, moves nothing and is not stretched: its length is the unit.
        distances = np.linalg.norm(moves(one, weights), axis=1)
        assert distances[-1] < 1e-5
        assert np.linalg.norm(axes[-1]) < 3


@pytest.mark.parametrize("coordinates", GRAM)
def test_more_checkpoints_than_weights(coordinates: str) -> None:
    weights = trajectory(20, 3)
    one = difference(coordinates, weights)
    axes = one.coefficients(np.eye(19))[:, 0] - 1 / 20
    assert np.linalg.norm(axes, axis=1).max() < 10
    assert (np.linalg.norm(moves(one, weights), axis=1) > 1e-6).sum() == (19 if coordinates == "sum-zero" else 3)


def test_signs_and_order_are_fixed() -> None:
    weights = trajectory(10, 500)
    one = difference("pca", weights)
    axes = one.coefficients(np.eye(9))[:, 0] - 1 / 10
    assert all(axis[np.abs(axis).argmax()] > 0 for axis in axes)
    distances = np.linalg.norm(moves(one, weights), axis=1)
    assert (np.diff(distances) < 0).all()
    # The weights mirrored have the same Gram matrix, up to rounding, and so the same axes.
    mirrored = difference("pca", -weights[:, ::-1].copy())
    np.testing.assert_allclose(mirrored.coefficients(np.eye(9))[:, 0] - 1 / 10, axes, atol=1e-9)


def test_a_sign_that_is_a_tie_goes_to_the_first() -> None:
    # Two checkpoints have one axis, (a, -a): either sign is as large.
    for scale in (1.0, 3.7, 1e-8, 1e8):
        weights = scale * trajectory(2, 20)
        (alpha,) = difference("pca", weights).coefficients(np.ones((1, 1)))[0]
        assert alpha[0] > alpha[1]


def test_equal_checkpoints_are_refused() -> None:
    with pytest.raises(InputError, match="all checkpoints of the window are equal"):
        difference("whitened", np.ones((4, 6)))


def test_one_group_of_equal_weights_leaves_the_others_searchable() -> None:
    one = Layerwise(LayerwiseParams(coordinates="whitened"))
    one.bind(SpaceInfo((1, 2, 3), ("still", "moving"), np.stack([np.zeros((3, 3)), gram(trajectory(3, 9))])))
    assert one.dimension == 4
    assert np.isfinite(one.coefficients(np.ones((2, 4)))).all()


def test_a_gram_matrix_that_is_not_finite_is_refused() -> None:
    one = DifferenceBase(DifferenceParams(coordinates="pca"))
    with pytest.raises(InputError, match="are not finite"):
        one.bind(SpaceInfo((1, 2), gram=np.full((1, 2, 2), np.nan)))


@pytest.mark.parametrize("given", [None, np.zeros((1, 3, 3)), np.zeros((2, 2, 2))])
def test_a_missing_gram_matrix_is_the_caller_s_mistake(given: FloatArray | None) -> None:
    one = DifferenceBase(DifferenceParams(coordinates="pca"))
    with pytest.raises(ValueError, match=r"need the Gram matrix \(1, 2, 2\)"):
        one.bind(SpaceInfo((1, 2), gram=given))


def test_groups_that_share_add_their_gram_matrices() -> None:
    parts = trajectory(5, 30), trajectory(5, 10, seed=3)
    whole = difference("whitened", np.concatenate(parts, axis=1))
    split = DifferenceBase(DifferenceParams(coordinates="whitened"))
    split.bind(SpaceInfo(tuple(range(5)), ("a", "b"), np.stack([gram(part) for part in parts])))
    np.testing.assert_allclose(
        split.coefficients(np.eye(4)), np.repeat(whole.coefficients(np.eye(4)), 2, axis=1), atol=1e-9
    )


def test_use_before_binding_is_said() -> None:
    with pytest.raises(ValueError, match="used before it is bound"):
        DifferenceBase().coefficients(np.zeros((1, 3)))
