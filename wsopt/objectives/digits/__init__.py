"""Two small classifiers of 8 x 8 digits whose hidden features a distance is measured in, with the recipe of both."""

from wsopt.objectives.digits._networks import CNN, MLP, Network, to_model_range

__all__ = ["CNN", "MLP", "Network", "to_model_range"]
