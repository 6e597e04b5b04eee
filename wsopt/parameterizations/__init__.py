"""Parameterizations: from search vectors to coefficients, and the coefficient profiles used as baselines."""

from wsopt.parameterizations._base import Parameterization
from wsopt.parameterizations._combination import Combination
from wsopt.parameterizations._depth import block_of
from wsopt.parameterizations._groups import Groups, PatternGroups, SharedGroups, by_depth, by_tensor
from wsopt.parameterizations._named import DifferenceBase, Direct, Layerwise, Lora
from wsopt.parameterizations._posthoc import PosthocEma, ProfilePoint, absolute_sum, amplifies, posthoc
from wsopt.parameterizations._profiles import ema, ema_from_first, power_ema, power_exponent, single, uniform

__all__ = [
    "Combination",
    "DifferenceBase",
    "Direct",
    "Groups",
    "Layerwise",
    "Lora",
    "Parameterization",
    "PatternGroups",
    "PosthocEma",
    "ProfilePoint",
    "SharedGroups",
    "absolute_sum",
    "amplifies",
    "block_of",
    "by_depth",
    "by_tensor",
    "ema",
    "ema_from_first",
    "posthoc",
    "power_ema",
    "power_exponent",
    "single",
    "uniform",
]
