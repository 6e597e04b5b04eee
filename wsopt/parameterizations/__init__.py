"""Parameterizations: from search vectors to coefficients, and the coefficient profiles used as baselines."""

from wsopt.parameterizations._base import Parameterization
from wsopt.parameterizations._difference import DifferenceBase
from wsopt.parameterizations._profiles import ema, power_ema, power_exponent, single, uniform

__all__ = ["DifferenceBase", "Parameterization", "ema", "power_ema", "power_exponent", "single", "uniform"]
