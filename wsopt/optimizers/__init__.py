"""Optimizers: ask, tell, recommend."""

from wsopt.optimizers._base import Optimizer, SearchSpace
from wsopt.optimizers._lcsc import LcscSearch
from wsopt.optimizers._random import RandomSearch

__all__ = ["LcscSearch", "Optimizer", "RandomSearch", "SearchSpace"]
