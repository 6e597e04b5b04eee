"""Two small classifiers of 8 x 8 digits whose hidden features a distance is measured in, with the recipe of both."""

from wsopt.objectives.digits._networks import CNN, MLP

__all__ = ["CNN", "MLP"]
