"""How shipped classifiers are trained: what the recipe modules of all data sets have in common.

All randomness comes from one seeded generator per network; other versions of torch and other processors round
differently, so a repetition gives nearly the same accuracies, not the same bytes: the shipped files are what counts.

A plain classifier learns to overlook noise and blur, which is what samples of a weak generator differ from real images
by. So while training, images are blurred and made noisy at random, and the hidden layer has a second task: a linear
read-out, thrown away afterwards, has to tell the strength of both.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from wsopt.datasets import Dataset, DatasetSplit
from wsopt.objectives.classifiers._networks import Network, to_model_range
from wsopt.seeding import child_seed


@dataclass(frozen=True)
class Recipe:
    """Settings of one training.

    Args:
        network: what is trained.
        dataset: what it is trained on.
        seed: seed of first weights, order, augmentation and corruption.
        steps: optimizer steps.
        batch_size: images per step; every second one is augmented.
        learning_rate: at the start; it falls to 0 along a cosine.
        weight_decay: of AdamW.
        label_smoothing: share of the target spread over all classes, against features collapsing onto ten points.
        shift: largest shift of an image, in pixels.
        rotation: largest rotation, in radians.
        zoom: largest relative change of size.
        noise: largest standard deviation of the added noise, in units of the range [-1, 1].
        blur: largest share of an image that is replaced by its 3 x 3 means.
        corruption_weight: weight of telling noise and blur, against 1 for telling the class.
    """

    network: type[Network]
    dataset: type[Dataset]
    seed: int
    steps: int = 1500
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    shift: float = 0.75
    rotation: float = 0.2
    zoom: float = 0.1
    noise: float = 0.3
    blur: float = 0.5
    corruption_weight: float = 0.5


def quantise(images: Tensor) -> Tensor:
    """Images in [-1, 1] rounded to the 256 grey levels that samples are scored at, and back."""
    return to_model_range(torch.round((images.clamp(-1, 1) + 1.0) * 127.5))


def data(dataset: type[Dataset], split: DatasetSplit) -> tuple[Tensor, Tensor]:
    """Quantised images ``[N, C, H, W]`` float32 in [-1, 1] and labels ``[N]`` of a split."""
    source = dataset()
    return quantise(torch.from_numpy(source.images(split))), torch.from_numpy(source.labels(split))


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Each image randomly turned, resized and shifted a little, on a background of -1."""
    count, size = len(images), images.shape[-1]
    angle, zoom, dx, dy = (torch.rand(4, count, generator=generator) * 2 - 1).unbind()
    angle, zoom = angle * recipe.rotation, 1 + zoom * recipe.zoom
    dx, dy = dx * recipe.shift * 2 / size, dy * recipe.shift * 2 / size
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    affine = torch.stack([torch.stack([cos, -sin, dx], 1), torch.stack([sin, cos, dy], 1)], 1)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    # grid_sample pads with 0; the background is -1.
    return F.grid_sample(images + 1.0, grid, align_corners=False) - 1.0


def corrupt(images: Tensor, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """About half of the images blurred and about half made noisy, then quantised.

    Returns:
        The images, and the strengths of blur and noise as shares of the recipe's largest, ``[N, 2]`` in [0, 1].
    """
    count = len(images)
    chosen = torch.rand(count, 2, generator=generator) < 0.5
    strength = torch.rand(count, 2, generator=generator) * chosen
    blur, noise = (strength * torch.tensor([recipe.blur, recipe.noise]))[:, :, None, None, None].unbind(1)
    means = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), value=-1.0), 3, stride=1)
    images = images + blur * (means - images)
    images = images + noise * torch.randn(images.shape, generator=generator)
    return quantise(images), strength


def train(recipe: Recipe) -> dict[str, Tensor]:
    """Weights as they are stored, trained on the train split only."""
    network = recipe.network
    generator = torch.Generator().manual_seed(child_seed(recipe.seed, recipe.dataset.name, network.name))
    images, labels = data(recipe.dataset, "train")
    weights = {name: value.requires_grad_() for name, value in network.initial(generator).items()}
    readout = (torch.randn(2, network.dimension, generator=generator) * 0.1).requires_grad_()
    optimizer = torch.optim.AdamW(
        [*weights.values(), readout], lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    for step in range(recipe.steps):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        rows = torch.randint(len(images), (recipe.batch_size,), generator=generator)
        batch = torch.cat([augment(images[rows[::2]], recipe, generator), images[rows[1::2]]])
        batch, strength = corrupt(batch, recipe, generator)
        hidden = F.silu(network.hidden(weights, batch))
        target = labels[torch.cat([rows[::2], rows[1::2]])]
        logits = network.classify(weights, hidden)
        loss = F.cross_entropy(logits, target, label_smoothing=recipe.label_smoothing)
        # The factor makes a target of variance near 1 of one that lies in [0, 1].
        loss = loss + recipe.corruption_weight * F.mse_loss(F.linear(hidden, readout), 3.0 * strength)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    trained = {name: value.detach() for name, value in weights.items()}
    features = network.hidden(trained, images)
    return {**trained, "mean": features.mean(0), "scale": features.std(0)}


def accuracy(recipe: Recipe, weights: dict[str, Tensor], split: DatasetSplit) -> float:
    """Share of a split's images that the network classifies right."""
    images, labels = data(recipe.dataset, split)
    with torch.no_grad():
        found = recipe.network.logits(weights, images).argmax(1)
    return float((found == labels).double().mean())


def write(recipe: Recipe, folder: Path) -> Path:
    """Train and write ``folder/NAME.safetensors``, with recipe and accuracies in its metadata."""
    network = recipe.network
    weights = train(recipe)
    path = folder / f"{network.name}.safetensors"
    metadata = {
        "recipe": f"{network.package}.recipe:{network.name}",
        "seed": str(recipe.seed),
        "data": f"{recipe.dataset.name}/train",
        "validation_accuracy": f"{accuracy(recipe, weights, 'validation'):.4f}",
        "test_accuracy": f"{accuracy(recipe, weights, 'test'):.4f}",
    }
    save_file(weights, path, metadata=metadata)
    print(f"{path}: validation accuracy {metadata['validation_accuracy']}, test {metadata['test_accuracy']}")
    return path


def main(recipes: Sequence[Recipe]) -> None:
    """Train the networks of `recipes` and write them to the folder given on the command line."""
    package = recipes[0].network.package
    files = " and ".join(f"{recipe.network.name}.safetensors" for recipe in recipes)
    parser = argparse.ArgumentParser(
        prog=f"python -m {package}.recipe", description=f"Train the shipped classifiers of {package}."
    )
    parser.add_argument("out", type=Path, metavar="OUT", help=f"folder for {files}")
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for recipe in recipes:
        write(recipe, folder)
