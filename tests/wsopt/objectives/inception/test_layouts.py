"""The keys of the published files, written down once more as the tools that wrote them name their layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wsopt.errors import InputError
from wsopt.objectives.inception._layouts import COUNTERS, GRAPH_KEYS, TORCH_SHAPES, canonical

FILE = Path("inception.pth")
STEM = "1a_3x3=conv 2a_3x3=conv_1 2b_3x3=conv_2 3b_1x1=conv_3 4a_3x3=conv_4"
A = (
    "branch1x1=conv branch5x5_1=tower.conv branch5x5_2=tower.conv_1 branch3x3dbl_1=tower_1.conv "
    "branch3x3dbl_2=tower_1.conv_1 branch3x3dbl_3=tower_1.conv_2 branch_pool=tower_2.conv"
)
B = "branch3x3=conv branch3x3dbl_1=tower.conv branch3x3dbl_2=tower.conv_1 branch3x3dbl_3=tower.conv_2"
C = (
    "branch1x1=conv branch7x7_1=tower.conv branch7x7_2=tower.conv_1 branch7x7_3=tower.conv_2 "
    "branch7x7dbl_1=tower_1.conv branch7x7dbl_2=tower_1.conv_1 branch7x7dbl_3=tower_1.conv_2 "
    "branch7x7dbl_4=tower_1.conv_3 branch7x7dbl_5=tower_1.conv_4 branch_pool=tower_2.conv"
)
D = (
    "branch3x3_1=tower.conv branch3x3_2=tower.conv_1 branch7x7x3_1=tower_1.conv branch7x7x3_2=tower_1.conv_1 "
    "branch7x7x3_3=tower_1.conv_2 branch7x7x3_4=tower_1.conv_3"
)
E = (
    "branch1x1=conv branch3x3_1=tower_conv branch3x3_2a=tower_mixed_conv branch3x3_2b=tower_mixed_conv_1 "
    "branch3x3dbl_1=tower_1_conv branch3x3dbl_2=tower_1_conv_1 branch3x3dbl_3a=tower_1_mixed_conv "
    "branch3x3dbl_3b=tower_1_mixed_conv_1 branch_pool=tower_2_conv"
)
BLOCKS = {
    "5b": A, "5c": A, "5d": A, "6a": B, "6b": C, "6c": C, "6d": C, "6e": C, "7a": D, "7b": E, "7c": E,
}  # fmt: skip
SHAPES = {
    "Conv2d_1a_3x3": (32, 3, 3, 3),
    "Conv2d_4a_3x3": (192, 80, 3, 3),
    "Mixed_5b.branch_pool": (32, 192, 1, 1),
    "Mixed_5c.branch5x5_2": (64, 48, 5, 5),
    "Mixed_6a.branch3x3dbl_3": (96, 96, 3, 3),
    "Mixed_6b.branch7x7_2": (128, 128, 1, 7),
    "Mixed_6c.branch7x7dbl_4": (160, 160, 7, 1),
    "Mixed_6e.branch7x7dbl_5": (192, 192, 1, 7),
    "Mixed_7a.branch7x7x3_3": (192, 192, 7, 1),
    "Mixed_7b.branch3x3dbl_1": (448, 1280, 1, 1),
    "Mixed_7c.branch3x3_2b": (384, 384, 3, 1),
}


def both_names() -> dict[str, str]:
    """Layer in PyTorch's naming -> in the graph's."""
    names = {f"Conv2d_{own}": other for own, other in (pair.split("=") for pair in STEM.split())}
    for position, (block, pairs) in enumerate(BLOCKS.items()):
        mixed = f"mixed_{position}" if position else "mixed"
        names |= {f"Mixed_{block}.{own}": f"{mixed}.{other}" for own, other in (p.split("=") for p in pairs.split())}
    return names


def in_graph_layout(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """As consistency_models publishes them."""
    parts = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}
    state = {
        f"layers.{other}.{part}": weights[f"{own}.{key}"]
        for own, other in both_names().items()
        for part, key in parts.items()
    }
    return state | {"output.weight": weights["fc.weight"], "output.bias": weights["fc.bias"]}


def test_keys_of_pytorch_fid_and_torch_fidelity() -> None:
    parts = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    assert set(TORCH_SHAPES) == {f"{n}.{part}" for n in both_names() for part in parts} | {"fc.weight", "fc.bias"}
    assert {f"{name}.bn.num_batches_tracked" for name in both_names()} == COUNTERS
    assert {name: TORCH_SHAPES[f"{name}.conv.weight"] for name in SHAPES} == SHAPES
    assert (TORCH_SHAPES["fc.weight"], TORCH_SHAPES["fc.bias"]) == ((1008, 2048), (1008,))


def test_keys_of_consistency_models(random_weights: dict[str, Tensor]) -> None:
    assert set(GRAPH_KEYS) == set(in_graph_layout(random_weights))
    assert set(GRAPH_KEYS.values()) == {key for key in TORCH_SHAPES if not key.endswith(".bn.weight")}


def test_layouts_hold_the_same(random_weights: dict[str, Tensor]) -> None:
    ones = {key: torch.ones_like(value) for key, value in random_weights.items() if key.endswith(".bn.weight")}
    one = canonical(random_weights | ones | {key: torch.tensor(3) for key in COUNTERS}, FILE)
    other = canonical(in_graph_layout(random_weights), FILE)
    assert one.keys() == other.keys() == TORCH_SHAPES.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert not torch.equal(canonical(random_weights, FILE)["Mixed_5b.branch1x1.bn.weight"], torch.ones(64))


def test_half_precision_is_widened(random_weights: dict[str, Tensor]) -> None:
    half = canonical({key: value.half() for key, value in random_weights.items()}, FILE)
    assert {value.dtype for value in half.values()} == {torch.float32}


def without(state: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: without(s, "fc.bias"), "network: fc.bias is missing. Give one"),
        (lambda s: s | {"AuxLogits.fc.bias": torch.zeros(1)}, "AuxLogits.fc.bias is not part of it"),
        (
            lambda s: s | {"fc.weight": torch.zeros(1000, 2048)},
            r"fc.weight has shape \[1000, 2048\] instead of \[1008, 2048\]",
        ),
        (lambda s: s | {"fc.bias": torch.zeros(1008).long()}, "fc.bias holds no floating-point numbers"),
        (lambda s: s | {"fc.bias": torch.full((1008,), torch.nan)}, "fc.bias has values that are not finite"),
        (
            lambda s: without(in_graph_layout(s), "layers.mixed_9.tower_1_mixed_conv.beta"),
            "network: layers.mixed_9.tower_1_mixed_conv.beta is missing",
        ),
        (lambda s: {"a": torch.zeros(1)}, r"Conv2d_1a_3x3.bn.weight is missing.* and 470 more"),
        (lambda s: [1, 2], "inception.pth holds no state dict but a list"),
    ],
    ids=["missing", "more", "shape", "integers", "not finite", "graph", "foreign", "no dict"],
)
def test_other_weights_are_refused(
    random_weights: dict[str, Tensor], spoil: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        canonical(spoil(random_weights), FILE)
