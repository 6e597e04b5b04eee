"""WeightSpace: the checkpoints of a window, resident, merged many candidates per pass."""

from wsopt.weightspace._base import Grouping, Policy, SpaceSettings, WeightSpace
from wsopt.weightspace._dense import BLOCK_WIDTH, DenseStack
from wsopt.weightspace._layout import FlatLayout, Slot, make_layout
from wsopt.weightspace._open import open_space

__all__ = [
    "BLOCK_WIDTH",
    "DenseStack",
    "FlatLayout",
    "Grouping",
    "Policy",
    "Slot",
    "SpaceSettings",
    "WeightSpace",
    "make_layout",
    "open_space",
]
