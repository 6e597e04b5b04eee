"""The FID Inception network: its definition, the published weights, and the ways in which images are resized for it."""

from wsopt.objectives.inception.features import InceptionFeatures

__all__ = ["InceptionFeatures"]
