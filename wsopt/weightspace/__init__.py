"""WeightSpace: the checkpoints of a window, resident, merged many candidates per pass."""

from wsopt.weightspace._base import Grouping, Policy, SpaceSettings, WeightSpace
from wsopt.weightspace._dense import BLOCK_WIDTH, DenseStack
from wsopt.weightspace._gram import NearDuplicate, near_duplicates
from wsopt.weightspace._layout import FlatLayout, Slot, make_layout
from wsopt.weightspace._lora import LoraStack
from wsopt.weightspace._lora_truncate import Truncation, truncate
from wsopt.weightspace._open import open_space
from wsopt.weightspace._plan import SpacePlan, plan_dense, plan_lora
from wsopt.weightspace._policy import plan_policies
from wsopt.weightspace._storage import plan_bytes

__all__ = [
    "BLOCK_WIDTH",
    "DenseStack",
    "FlatLayout",
    "Grouping",
    "LoraStack",
    "NearDuplicate",
    "Policy",
    "Slot",
    "SpacePlan",
    "SpaceSettings",
    "Truncation",
    "WeightSpace",
    "make_layout",
    "near_duplicates",
    "open_space",
    "plan_bytes",
    "plan_dense",
    "plan_lora",
    "plan_policies",
    "truncate",
]
