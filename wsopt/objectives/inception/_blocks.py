"""The blocks of the FID Inception network: branches of convolutions side by side, as data.

The network is the graph ``inception-2015-12-05`` (Szegedy et al., "Rethinking the Inception Architecture for Computer
Vision", 2015, with 1008 classes) that every published FID refers to. Two things set it apart from later Inception v3
networks: average pools do not count the padding, and the last block has a max pool in its place. Every layer is named
twice: as in PyTorch's Inception v3, and as in the TensorFlow graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Pool = Literal["average", "max"]
"""A 3 x 3 pool that keeps the size; ``average`` leaves the padding out of the count."""


@dataclass(frozen=True)
class Layer:
    """A convolution without bias, batch normalisation, and ReLU.

    Args:
        name: ``Mixed_5b.branch5x5_2``, as in PyTorch's Inception v3.
        graph_name: ``mixed.tower.conv_1``, as in the TensorFlow graph.
        inputs: channels of the input.
        outputs: channels of the output.
        kernel: (height, width).
        stride: 1, or 2 for a layer that halves the size.
        padded: whether the input is padded by zeros so that stride 1 keeps the size.
    """

    name: str
    graph_name: str
    inputs: int
    outputs: int
    kernel: tuple[int, int]
    stride: int = 1
    padded: bool = True

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros on each side, (height, width)."""
        return (self.kernel[0] // 2, self.kernel[1] // 2) if self.padded else (0, 0)


@dataclass(frozen=True)
class Branch:
    """Layers one after the other, behind a pool where there is one; `ends` are side by side behind the last of them."""

    chain: tuple[Layer, ...]
    ends: tuple[Layer, ...] = ()
    pool: Pool | None = None


@dataclass(frozen=True)
class Block:
    """Branches whose outputs are stacked along the channels, in this order.

    Args:
        name: ``Mixed_5b``.
        branches: all that have layers.
        halves: whether the size is halved; the input's 3 x 3 max pool of stride 2 is then stacked last.
    """

    name: str
    branches: tuple[Branch, ...]
    halves: bool = False

    def layers(self) -> Iterator[Layer]:
        """All layers."""
        for branch in self.branches:
            yield from branch.chain
            yield from branch.ends


@dataclass(frozen=True)
class _Maker:
    """Makes the layers of one block: names by the habits of both name spaces, and channels passed on."""

    name: str
    graph_name: str
    inputs: int

    def one(self, name: str, graph_name: str, inputs: int, shape: tuple[int, str]) -> Layer:
        outputs, form = shape
        size, _, halved = form.partition("/")
        height, width = map(int, size.split("x"))
        names = f"{self.name}.{name}", f"{self.graph_name}.{graph_name}"
        return Layer(*names, inputs, outputs, (height, width), stride=2 if halved else 1, padded=not halved)

    def chain(self, name: str, tower: str, *shapes: tuple[int, str]) -> tuple[Layer, ...]:
        layers: list[Layer] = []
        for position, shape in enumerate(shapes):
            inputs = layers[-1].outputs if layers else self.inputs
            graph_name = f"{tower}conv_{position}" if position else f"{tower}conv"
            layers.append(self.one(f"{name}_{position + 1}", graph_name, inputs, shape))
        return tuple(layers)

    def single(self, name: str, tower: str, outputs: int, pool: Pool | None = None) -> Branch:
        return Branch((self.one(name, f"{tower}conv", self.inputs, (outputs, "1x1")),), pool=pool)


def block_a(name: str, graph_name: str, inputs: int, pooled: int) -> Block:
    """35 x 35: 224 channels of convolutions and `pooled` ones of the pool."""
    make = _Maker(name, graph_name, inputs)
    return Block(
        name,
        (
            make.single("branch1x1", "", 64),
            Branch(make.chain("branch5x5", "tower.", (48, "1x1"), (64, "5x5"))),
            Branch(make.chain("branch3x3dbl", "tower_1.", (64, "1x1"), (96, "3x3"), (96, "3x3"))),
            make.single("branch_pool", "tower_2.", pooled, "average"),
        ),
    )


def block_b(name: str, graph_name: str, inputs: int) -> Block:
    """35 x 35 to 17 x 17."""
    make = _Maker(name, graph_name, inputs)
    return Block(
        name,
        (
            Branch((make.one("branch3x3", "conv", inputs, (384, "3x3/2")),)),
            Branch(make.chain("branch3x3dbl", "tower.", (64, "1x1"), (96, "3x3"), (96, "3x3/2"))),
        ),
        halves=True,
    )


def block_c(name: str, graph_name: str, inputs: int, middle: int) -> Block:
    """17 x 17, with 7 x 7 convolutions of `middle` channels taken apart into rows and columns."""
    make = _Maker(name, graph_name, inputs)
    across, along = (middle, "1x7"), (middle, "7x1")
    return Block(
        name,
        (
            make.single("branch1x1", "", 192),
            Branch(make.chain("branch7x7", "tower.", (middle, "1x1"), across, (192, "7x1"))),
            Branch(make.chain("branch7x7dbl", "tower_1.", (middle, "1x1"), along, across, along, (192, "1x7"))),
            make.single("branch_pool", "tower_2.", 192, "average"),
        ),
    )


def block_d(name: str, graph_name: str, inputs: int) -> Block:
    """17 x 17 to 8 x 8."""
    make = _Maker(name, graph_name, inputs)
    return Block(
        name,
        (
            Branch(make.chain("branch3x3", "tower.", (192, "1x1"), (320, "3x3/2"))),
            Branch(make.chain("branch7x7x3", "tower_1.", (192, "1x1"), (192, "1x7"), (192, "7x1"), (192, "3x3/2"))),
        ),
        halves=True,
    )


def block_e(name: str, graph_name: str, inputs: int, pool: Pool) -> Block:
    """8 x 8, with branches that end in a row and a column convolution side by side."""
    make = _Maker(name, graph_name, inputs)

    def ends(branch: str, tower: str) -> tuple[Layer, ...]:
        return (
            make.one(f"{branch}a", f"{tower}mixed_conv", 384, (384, "1x3")),
            make.one(f"{branch}b", f"{tower}mixed_conv_1", 384, (384, "3x1")),
        )

    return Block(
        name,
        (
            make.single("branch1x1", "", 320),
            Branch((make.one("branch3x3_1", "tower_conv", inputs, (384, "1x1")),), ends("branch3x3_2", "tower_")),
            Branch(
                make.chain("branch3x3dbl", "tower_1_", (448, "1x1"), (384, "3x3")), ends("branch3x3dbl_3", "tower_1_")
            ),
            make.single("branch_pool", "tower_2_", 192, pool),
        ),
    )
