"""The contracts of the measuring half: objectives and feature extractors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from torch import Tensor

from wsopt.types import Batch, Direction, FloatArray, Score

Needs = Literal["weights", "images", "features"]
Accumulator = TypeVar("Accumulator")


@dataclass(frozen=True, eq=False)
class Reference:
    """Real data, reduced to what a metric needs.

    Args:
        name: the data set and split it was made from (``digits/train``), or a file's name.
        features: name of the extractor; None for objectives on images.
        extractor_digest: digest of the extractor's weights, so that two extractors of one name are never mixed.
        quantize: how pixels were quantised before the features were taken.
        mean: ``[d]`` float64.
        covariance: ``[d, d]`` float64, divisor samples - 1.
        samples: number of real samples.
    """

    name: str
    features: str | None
    extractor_digest: str
    quantize: str
    mean: FloatArray
    covariance: FloatArray
    samples: int


class FeatureExtractor(ABC):
    """A fixed network that turns images into feature vectors. Registered like every other component."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def dimension(self) -> int:
        """d, the length of a feature vector."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Hexadecimal digest that identifies the weights and the preprocessing."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Features of images.

        Args:
            images: ``[N, C, H, W]`` float32 grey levels in [0, 255].

        Returns:
            ``[N, d]`` float32, no gradient.

        Raises:
            InputError: naming the expected image shape when the images have another.
        """


class Objective(ABC, Generic[Accumulator]):
    """What is searched for: a number per set of samples (or per set of weights), with a direction.

    A subclass names itself and fills `new`, `add`, `merge` and `score`; accumulators add up, so that samples can be
    split over batches, devices and races:

        acc = objective.new()
        for batch in batches:
            acc = objective.add(acc, batch)
        objective.score(acc)
    """

    name: ClassVar[str]
    direction: ClassVar[Direction] = "minimize"
    version: ClassVar[int] = 1
    """Raised when the same samples would score differently; stored with every score."""
    needs: ClassVar[Needs] = "images"

    def __init__(self, params: Any = None) -> None:  # noqa: ANN401 - of the model it was registered with
        """Take the validated parameters (None where it was registered without a params model)."""

    def prepare(self, reference: Reference | None) -> None:
        """Called once before the first `add`, with the real data to compare with (None where the config names none)."""

    @abstractmethod
    def new(self) -> Accumulator:
        """An empty accumulator."""

    @abstractmethod
    def add(self, acc: Accumulator, batch: Batch) -> Accumulator:
        """Fold a batch into `acc` and return it; `acc` may be changed in place.

        With ``needs = "features"`` the batch has `features`; with ``"weights"`` this is called once per candidate
        with a state dict through `add_weights` instead.
        """

    def add_weights(self, acc: Accumulator, weights: dict[str, Tensor]) -> Accumulator:
        """Fold a candidate's weights into `acc`, for objectives with ``needs = "weights"``."""
        raise TypeError(f"objective {self.name} has needs = {self.needs!r} and takes no weights")

    @abstractmethod
    def merge(self, first: Accumulator, second: Accumulator) -> Accumulator:
        """The accumulator of both sets of samples."""

    @abstractmethod
    def score(self, acc: Accumulator, stderr: bool = True) -> Score:
        """The score of what was added; a non-finite value marks the candidate as failed.

        Args:
            acc: the samples.
            stderr: whether the standard error is wanted. A search asks for values only; an objective whose standard
                error is costly may then leave it None.
        """


AnyObjective = Objective[Any]
