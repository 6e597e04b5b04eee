"""Small classifiers whose hidden features a distance is measured in: what those of all data sets have in common."""

from wsopt.objectives.classifiers._networks import Convolutional, FullyConnected, Network, to_model_range

__all__ = ["Convolutional", "FullyConnected", "Network", "to_model_range"]
