"""Optimizers: ask, tell, recommend.

Those that stand on a library (`wsopt.optimizers.cmaes`, `wsopt.optimizers.nevergrad`) are imported where they are used.
"""

from wsopt.optimizers._base import Optimizer, SearchSpace
from wsopt.optimizers._coordinate import CoordinateSearch
from wsopt.optimizers._lcsc import LcscSearch
from wsopt.optimizers._one_plus_one import OnePlusOneSearch
from wsopt.optimizers._random import RandomSearch

__all__ = ["CoordinateSearch", "LcscSearch", "OnePlusOneSearch", "Optimizer", "RandomSearch", "SearchSpace"]
