"""How the shipped weights were made: ``python -m wsopt.objectives.digits.recipe OUT``.

Trains both networks on the train split of the digits and writes ``classifier.safetensors`` and ``mlp.safetensors``
into OUT, as `wsopt.objectives.classifiers.training` describes.
"""

from __future__ import annotations

from wsopt.datasets import Digits
from wsopt.objectives.classifiers.training import Recipe, main
from wsopt.objectives.digits._networks import CNN, MLP

RECIPES = (Recipe(CNN, Digits, seed=1), Recipe(MLP, Digits, seed=2, steps=2500))

if __name__ == "__main__":
    main(RECIPES)
