"""WeightSpace: the checkpoints of a window, resident, merged many candidates per pass."""

from wsopt.weightspace._base import WeightSpace
from wsopt.weightspace._dense import BLOCK_WIDTH, DenseStack
from wsopt.weightspace._layout import FlatLayout, Policy, Slot, make_layout

__all__ = ["BLOCK_WIDTH", "DenseStack", "FlatLayout", "Policy", "Slot", "WeightSpace", "make_layout"]
