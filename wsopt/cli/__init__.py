"""The `wsopt` command: a thin shell. Starts without torch, numpy, nevergrad, cma, scikit-learn and matplotlib."""

from wsopt.cli._main import main

__all__ = ["main"]
