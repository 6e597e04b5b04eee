"""The built-in parameterizations keep the rules, and the kit finds those that do not."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsopt.config.params import DifferenceParams, DirectParams, GroupPattern, LayerwiseParams, LoraParams
from wsopt.errors import InputError
from wsopt.parameterizations import DifferenceBase, Direct, Layerwise, Lora, Parameterization
from wsopt.testing.conformance import check_parameterization
from wsopt.types import FloatArray, SpaceInfo

SUM_ONE = ("difference", "sum-zero", "pca", "sqrt-whitened", "whitened")
LIMITS: tuple[dict[str, object], ...] = (
    {},
    {"constraint": "convex"},
    {"constraint": "clip"},
    {"constraint": "clip", "upper": 0.4, "lower": -0.2},
)
PATTERNS = (GroupPattern(pattern="bias$"), GroupPattern(name="middle", pattern="^middle"))
sizes = st.lists(st.integers(2, 12), min_size=1, max_size=2, unique=True)
few = settings(max_examples=4, deadline=None)


def reaches_all(limits: Mapping[str, object]) -> bool:
    return "upper" not in limits


@pytest.mark.parametrize(("coordinates", "limits"), list(itertools.product(SUM_ONE, LIMITS)))
@few
@given(counts=sizes, seed=st.integers(0, 1000))
def test_difference(coordinates: str, limits: Mapping[str, object], counts: list[int], seed: int) -> None:
    params = DifferenceParams.model_validate({"coordinates": coordinates, **limits})
    check_parameterization(lambda: DifferenceBase(params), counts=counts, seed=seed, reaches_all=reaches_all(limits))


@pytest.mark.parametrize(("normalize", "limits"), list(itertools.product((False, True), LIMITS)))
@few
@given(counts=sizes, seed=st.integers(0, 1000))
def test_direct(normalize: bool, limits: Mapping[str, object], counts: list[int], seed: int) -> None:
    params = DirectParams.model_validate({"normalize": normalize, **limits})
    check_parameterization(
        lambda: Direct(params),
        counts=counts,
        seed=seed,
        sums_to_one=normalize or params.constraint == "convex",
        reaches_all=reaches_all(limits),
    )


@pytest.mark.parametrize(
    ("coordinates", "grouping"), list(itertools.product((*SUM_ONE, "direct"), ("depth", "tensor", "patterns")))
)
@pytest.mark.parametrize("limits", LIMITS[:3])
@few
@given(counts=sizes, seed=st.integers(0, 1000))
def test_layerwise(coordinates: str, grouping: str, limits: Mapping[str, object], counts: list[int], seed: int) -> None:
    patterns = PATTERNS if grouping == "patterns" else ()
    params = LayerwiseParams.model_validate(
        {"coordinates": coordinates, "grouping": grouping, "patterns": patterns, **limits}
    )
    check_parameterization(
        lambda: Layerwise(params),
        counts=counts,
        seed=seed,
        sums_to_one=coordinates != "direct" or params.constraint == "convex",
    )


@pytest.mark.parametrize("grouping", ["shared", "depth"])
@pytest.mark.parametrize("coordinates", SUM_ONE)
def test_lora(coordinates: str, grouping: str) -> None:
    params = LoraParams.model_validate({"coordinates": coordinates, "grouping": grouping})
    check_parameterization(lambda: Lora(params), representation="lora", counts=(2, 4))


# ---- what the kit finds


class Base(DifferenceBase):
    """A parameterization to break in one place."""


class Drawing(Base):
    def coefficients(self, x: FloatArray) -> FloatArray:
        np.random.random()  # noqa: NPY002
        return super().coefficients(x)


class DrawingFromRandom(Base):
    def initial(self, coefficients: FloatArray) -> FloatArray:
        random.random()
        return super().initial(coefficients)


class SinglePrecision(Base):
    def coefficients(self, x: FloatArray) -> FloatArray:
        return super().coefficients(x).astype(np.float32)


class WrongSum(Base):
    def coefficients(self, x: FloatArray) -> FloatArray:
        return super().coefficients(x) * (1 + 1e-9)


class ByHeight(Base):
    def coefficients(self, x: FloatArray) -> FloatArray:
        return super().coefficients(x * (1 + 1e-15 * len(x)))


class NoInverse(Base):
    def initial(self, coefficients: FloatArray) -> FloatArray:
        return super().initial(coefficients) * 0.999


class InPlace(Base):
    def coefficients(self, x: FloatArray) -> FloatArray:
        alpha = super().coefficients(x)
        x *= 2.0
        return alpha


class NegativeScale(Base):
    def scale(self) -> FloatArray:
        return -super().scale()


class OneCheckpoint(Base):
    def bind(self, info: SpaceInfo) -> None:
        if info.num_checkpoints > 1:
            super().bind(info)


class Different(Base):
    made = 0

    def __init__(self, params: object = None) -> None:
        super().__init__(params)
        Different.made += 1
        self.factor = 1 + 1e-14 * Different.made

    def coefficients(self, x: FloatArray) -> FloatArray:
        return super().coefficients(x * self.factor)


class Layers(Layerwise):
    def __init__(self) -> None:
        super().__init__(LayerwiseParams(grouping="tensor"))


class Swapped(Layers):
    def coefficients(self, x: FloatArray) -> FloatArray:
        return super().coefficients(x)[:, ::-1]


class Forgetful(Layers):
    def grouping(self, tensors: Mapping[str, tuple[int, ...]]) -> Mapping[str, str] | None:
        groups = super().grouping(tensors)
        assert groups is not None
        return dict(list(groups.items())[1:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Drawing, "changed the global random state of numpy"),
        (DrawingFromRandom, "changed the global random state of random"),
        (SinglePrecision, "has dtype float32, not float64"),
        (WrongSum, "coefficients do not sum to 1"),
        (ByHeight, "depend on how many rows there are"),
        (NoInverse, r"initial\(\) of coefficients that it gave does not lead back"),
        (InPlace, "changed the search vectors that it was given"),
        (NegativeScale, "entries that are not positive"),
        (OneCheckpoint, "accepted a window of one checkpoint"),
        (Different, "two instances that are bound alike"),
        (Swapped, "changed another group's|does not lead back"),
        (Forgetful, r"gives no group to 'input_blocks\.0\.weight'"),
        (lambda: Direct(DirectParams()), "coefficients do not sum to 1"),
        (lambda: DifferenceBase(DifferenceParams(constraint="clip", upper=0.5)), "does not lead back to them"),
    ],
)
def test_broken_rules_are_found(make: Callable[[], Parameterization], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_parameterization(make)


def test_lora_refuses_dense_weights_and_the_others_take_both() -> None:
    dense, lora = SpaceInfo((1, 2)), SpaceInfo((1, 2), representation="lora")
    with pytest.raises(InputError, match="'lora' needs LoRA checkpoints, and these are dense weights"):
        Lora(LoraParams()).bind(dense)
    for one in (DifferenceBase(), Direct(DirectParams()), Layerwise(LayerwiseParams()), Lora(LoraParams())):
        one.bind(lora)
        assert one.dimension == (2 if one.name == "direct" else 1)
