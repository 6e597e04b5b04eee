"""Two small classifiers of MNIST at 16 x 16 whose hidden features a distance is measured in, with their recipe."""

from wsopt.objectives.mnist._networks import CNN, MLP

__all__ = ["CNN", "MLP"]
