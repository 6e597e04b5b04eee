"""Conformance kits: the rules of a contract as one function, for the tests of plugins.

Plain functions that raise AssertionError with the rule that is broken; any test runner will do.
"""

from wsopt.testing._parameterization import check_parameterization, synthetic_gram
from wsopt.testing._reader import check_checkpoint_reader

__all__ = ["check_checkpoint_reader", "check_parameterization", "synthetic_gram"]
