"""How the shipped weights were made: ``python -m wsopt.objectives.mnist.recipe OUT``.

Trains both networks on the train split of MNIST at 16 x 16 and writes ``classifier.safetensors`` and
``mlp.safetensors`` into OUT, as `wsopt.objectives.classifiers.training` describes.
"""

from __future__ import annotations

from wsopt.datasets import Mnist
from wsopt.objectives.classifiers.training import Recipe, main
from wsopt.objectives.mnist._networks import CNN, MLP

RECIPES = (
    Recipe(CNN, Mnist, seed=1, steps=2500, shift=1.5),
    Recipe(MLP, Mnist, seed=2, steps=4000, shift=1.0),
)

if __name__ == "__main__":
    main(RECIPES)
