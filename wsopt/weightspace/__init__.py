"""WeightSpace: the checkpoints of a window, resident, merged many candidates per pass."""

from wsopt.weightspace._base import Grouping, Policy, SpaceSettings, WeightSpace
from wsopt.weightspace._dense import DenseStack
from wsopt.weightspace._gram import NearDuplicate, near_duplicates
from wsopt.weightspace._layout import FlatLayout, Slot, make_layout
from wsopt.weightspace._lora import LoraStack
from wsopt.weightspace._lora_truncate import Truncation, truncate
from wsopt.weightspace._open import open_space
from wsopt.weightspace._plan import SpacePlan, plan_dense, plan_lora
from wsopt.weightspace._policy import clamp_warning, plan_policies, running_variances
from wsopt.weightspace._rows import one_hot
from wsopt.weightspace._storage import DTYPES, plan_bytes

__all__ = [
    "DTYPES",
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
    "clamp_warning",
    "make_layout",
    "near_duplicates",
    "one_hot",
    "open_space",
    "plan_bytes",
    "plan_dense",
    "plan_lora",
    "plan_policies",
    "running_variances",
    "truncate",
]
