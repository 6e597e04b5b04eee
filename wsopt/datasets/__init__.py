"""Real data by name and split, for training recipes and reference statistics."""

from wsopt.datasets._base import Dataset, DatasetSplit
from wsopt.datasets._digits import Digits
from wsopt.datasets._mnist import Mnist

__all__ = ["Dataset", "DatasetSplit", "Digits", "Mnist"]
