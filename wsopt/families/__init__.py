"""Model families: the contract that a family plugin fulfils."""

from wsopt.families._base import ModelFamily, TrainedSet

__all__ = ["ModelFamily", "TrainedSet"]
