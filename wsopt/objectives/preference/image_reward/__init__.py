"""ImageReward-v1.0: human preference for an image given its prompt, on the BLIP modules of transformers."""

from wsopt.objectives.preference.image_reward._layout import Architecture
from wsopt.objectives.preference.image_reward._scorer import ImageReward, ImageRewardScorer

__all__ = ["Architecture", "ImageReward", "ImageRewardScorer"]
