"""The contract of what scores an image for a prompt, and what every objective on such scores has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar, TypeVar, cast
from weakref import WeakValueDictionary

from torch import Tensor

from wsopt.errors import InputError
from wsopt.types import Batch


class Scorer(ABC):
    """A fixed network that says how well an image fits a prompt, or how well people would like it."""

    name: ClassVar[str]

    @abstractmethod
    def __init__(self, params: Any) -> None:  # noqa: ANN401 - of its own params model
        """Load its weights.

        Raises:
            InputError: where its files cannot be found or loaded.
            MissingDependencyError: where it needs a package that is not installed.
        """

    @property
    @abstractmethod
    def digest(self) -> str:
        """Hexadecimal digest that identifies weights, preprocessing and scale."""

    @property
    @abstractmethod
    def scale(self) -> str:
        """What the numbers are, in words that fit into a table: ``cosine``, ``exp(logit_scale) * cosine``."""

    @abstractmethod
    def scores(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores of images, one prompt each; higher is better.

        Args:
            images: ``[N, 3, H, W]`` float32 grey levels in [0, 255], on any device; ``[N, 1, H, W]`` is grey.
            prompts: N texts. What is costly about a text is kept, so that its next image costs the image alone.

        Returns:
            ``[N]`` float32 on the device of the images, no gradient.

        Raises:
            InputError: for images of another shape, or another number of prompts than images.
        """

    def of_mean(self, mean: float) -> float:
        """The score of a set of samples whose mean score is `mean`; a scale that clamps does it here."""
        return mean


_Shared = TypeVar("_Shared")
_ALIVE: WeakValueDictionary[Hashable, object] = WeakValueDictionary()


def shared(key: Hashable, make: Callable[[], _Shared]) -> _Shared:
    """What `make` gives, made once for as long as somebody holds it.

    Search and report metrics, and a win rate beside a mean, ask for the same network of up to 4 GB.

    Args:
        key: what it is made from, its kind first.
        make: gives it; it must be possible to refer to it weakly.
    """
    found = _ALIVE.get(key)
    if found is None:
        found = _ALIVE[key] = make()
    return cast(_Shared, found)


def prompts_of(batch: Batch, objective: str) -> list[str]:
    """The prompts that the samples of a batch were generated from.

    Raises:
        InputError: where the samples have no conditions, or conditions that are no text.
    """
    advice = (
        "Choose a model family that samples from prompts and gives them as the conditions of its batches, "
        "or another objective."
    )
    if batch.conditions is None:
        raise InputError(f"objective {objective} scores images for their prompts, but these have none. {advice}")
    for index, condition in zip(batch.indices, batch.conditions, strict=True):
        if not isinstance(condition, str):
            raise InputError(
                f"objective {objective} scores images for their prompts, but sample {index} has the condition "
                f"{condition!r}, which is no text. {advice}"
            )
    return list(batch.conditions)
