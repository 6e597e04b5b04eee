"""The contracts of the measuring half: objectives and feature extractors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

from torch import Tensor

from wsopt.errors import InputError
from wsopt.objectives.references import Reference
from wsopt.types import Batch, Direction, FloatArray, Score

__all__ = ["AnyObjective", "FeatureExtractor", "Needs", "Objective", "Reference"]

Needs = Literal["weights", "images", "features"]
Accumulator = TypeVar("Accumulator")


class FeatureExtractor(ABC):
    """A fixed network that turns images into feature vectors. Registered like every other component.

    Constructed from its validated parameters (None where it was registered without a params model).
    """

    name: ClassVar[str]
    """What messages and reference files call it: as it is registered. The class's name where it is left out."""
    outputs: ClassVar[tuple[str, ...]] = ("features",)
    """Names of what it can give; ``logits``, where there are any, are those of its classes before the softmax."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Give the class a name."""
        super().__init_subclass__(**kwargs)
        if not hasattr(cls, "name"):
            cls.name = cls.__name__

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

    def extract(self, images: Tensor, outputs: Sequence[str]) -> dict[str, Tensor]:
        """Several outputs from one pass over the images.

        Args:
            images: as in `__call__`.
            outputs: names out of `outputs` of the class.

        Returns:
            ``[N, d of the output]`` float32 by name.

        Raises:
            InputError: for images of another shape.
        """
        unknown = [name for name in outputs if name != "features"]
        if unknown:
            raise InputError(f"features {self.name!r} have no output {unknown[0]!r}, only their features.")
        return {"features": self(images)} if outputs else {}


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
    version: ClassVar[int] = 1
    """Raised when the same samples would score differently; stored with every score."""
    direction: Direction = "minimize"
    """An objective whose parameters decide it sets it in its constructor; so with `needs`."""
    needs: Needs = "images"
    output: str = "features"
    """With ``needs = "features"``: which output of the extractor (`FeatureExtractor.outputs`)."""
    reference_vectors: bool = False
    """Whether the feature vectors of the real data are needed, not their moments alone (`Reference.vectors`)."""
    reference_images: bool = False
    """Whether the real images are needed (`Reference.images`)."""

    def __init__(self, params: Any = None) -> None:  # noqa: ANN401 - of the model it was registered with
        """Take the validated parameters (None where it was registered without a params model). Loads nothing heavy."""

    @property
    def digest(self) -> str:
        """Identifies what it has loaded besides its parameters (weights of a scorer, images of a baseline).

        After `prepare`; empty where there is nothing. Two runs share scores only where it agrees.
        """
        return ""

    @property
    def takes_weights(self) -> bool:
        """Whether `add_weights` is called, once per candidate."""
        return self.needs == "weights"

    @property
    def takes_samples(self) -> bool:
        """Whether `add` is called, for every batch of samples."""
        return self.needs != "weights"

    def prepare(self, reference: Reference | None) -> None:
        """Called once before the first `add`, with the real data to compare with (None where the config names none).

        The place to load what is heavy.

        Raises:
            InputError: where the objective cannot do without a reference, or with this one.
        """

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
        """The score of what was added; a non-finite value marks the candidate as failed. Leaves `acc` as it is.

        Args:
            acc: the samples.
            stderr: whether the statistics of the score are wanted as well: its standard error, replicates and
                debiased value. A search asks for values only; what is costly may then be left out.
        """

    def replicates(self, acc: Accumulator) -> FloatArray | None:
        """The value without each block of samples in turn, for the jackknife; None where it is not defined.

        Sample i belongs to block ``i % BLOCKS`` (`wsopt.objectives.jackknife`). Blocks without a sample are left out.
        Two candidates scored on the same samples have the same blocks, so the difference of their replicates is the
        jackknife of their difference.

        Returns:
            ``[B]`` float64, or None where there are fewer than two blocks.
        """
        return None


AnyObjective = Objective[Any]
