"""Model families: the contract that a family plugin fulfils, and the family of any network at all."""

from wsopt.families._base import ModelFamily, TrainedSet
from wsopt.families._module import ModuleFamily

__all__ = ["ModelFamily", "ModuleFamily", "TrainedSet"]
