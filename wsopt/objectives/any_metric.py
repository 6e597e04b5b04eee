"""`torchmetrics`: any metric of torchmetrics, named by its class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsopt.config.params import TorchmetricsParams
from wsopt.errors import InputError, MissingDependencyError
from wsopt.objectives._base import Objective
from wsopt.objectives._global_state import fixed_random_state
from wsopt.objectives._metric_class import accepts, metric_class, required
from wsopt.objectives._metric_inputs import PassThrough, as_input, described
from wsopt.objectives._quantize import Quantize, to_grey_levels
from wsopt.objectives._samples import Samples
from wsopt.objectives.jackknife import stderr_of
from wsopt.objectives.references import Reference
from wsopt.types import Batch, FloatArray, Score

_ROWS = 250
"""Images per call of `update`."""


class TorchmetricsObjective(Objective[Samples]):
    """A metric of torchmetrics; value, unit and range are the metric's own.

    The samples are kept, and given to the metric in the order of their indices when the score is asked for, 250 at a
    time: so the score does not depend on batches, and every metric can be used, also one whose states cannot be merged.
    What the metric draws from the global random generators (`KernelInceptionDistance` chooses subsets,
    `InceptionScore` shuffles) is the same for every candidate and moves nothing outside.

    What `update` gets is named by ``inputs``: ``images`` float32 in [0, 1]; ``uint8`` and ``grey``, the grey levels in
    [0, 255] as bytes and as float32; ``features`` and ``logits``, float64, of the extractor ``objective.features``;
    ``conditions``, the labels ``[N]`` or the list of prompts. Where it is left out, the first argument gets the images
    (as ``uint8`` where the metric has an Inception network and its ``normalize`` is false, or is of CLIP) and the
    second the conditions. A metric with an argument ``real`` is given the real images of ``objective.reference`` as
    well; with ``inputs = ["features"]`` their feature vectors. A metric whose constructor takes a network as
    ``feature`` then gets one that passes the features through.

    The standard error is the jackknife's: ten more evaluations, on the report only. A metric that draws random numbers
    has none, since the subsets would differ from replicate to replicate.

    Args:
        params: the metric, its arguments, and what it is given.

    Raises:
        MissingDependencyError: without torchmetrics.
        InputError: where there is no such metric, or its direction is not known.
    """

    name = "torchmetrics"

    def __init__(self, params: TorchmetricsParams) -> None:
        self._params = params
        self._class = metric_class(params.metric)
        given = params.inputs or ()
        self._vectors = next((kind for kind in given if kind in ("features", "logits")), None)
        self._paired = accepts(self._class.update, "real")
        self._metric: Any = None
        self._inputs: tuple[str, ...] = ()
        self._real: Samples | None = None
        if params.direction is None and getattr(self._class, "higher_is_better", None) is None:
            raise InputError(
                f"torchmetrics does not say whether {params.metric} is better high or low: give its direction, "
                f'"minimize" or "maximize".'
            )
        self.direction = params.direction or ("maximize" if self._class.higher_is_better else "minimize")
        if self._vectors is not None:
            self.needs = "features"
            self.output = self._vectors
        self.reference_vectors = self._paired and self._vectors is not None
        self.reference_images = self._paired and self._vectors is None
        if self._paired and self._vectors == "logits":
            raise InputError(f'{params.metric} compares with real data: set its inputs to ["features"].')

    def prepare(self, reference: Reference | None) -> None:
        """See `Objective.prepare`. Builds the metric and gives it the real data.

        Raises:
            InputError: where the metric cannot be built with the arguments of the config, or misses its real data.
            MissingDependencyError: where the metric needs a package that is not installed.
        """
        self._metric = self._build(0 if reference is None else len(reference.mean))
        self._inputs = self._params.inputs or self._by_name()
        if not self._paired:
            return
        if reference is None:
            raise InputError(
                f'{self._params.metric} compares with real data: set its reference, for example reference = "train".'
            )
        self._real = self._real_samples(reference)
        if self._keeps_real:
            with self._calling(None):
                self._feed(self._real, real=True)
            self._real = None

    def new(self) -> Samples:
        """See `Objective.new`."""
        pixels = any(kind in ("images", "uint8", "grey") for kind in self._inputs)
        return Samples(images=pixels, features=self._vectors is not None)

    def add(self, acc: Samples, batch: Batch) -> Samples:
        """See `Objective.add`.

        Raises:
            InputError: where the batch lacks the features or the conditions that the metric is to get.
        """
        if self._vectors is not None and batch.features is None:
            raise InputError(
                f"objective torchmetrics with inputs {list(self._inputs)} needs features: set features beside it."
            )
        if "conditions" in self._inputs and batch.conditions is None:
            raise InputError(
                f"{self._params.metric} compares with labels or prompts, and this model family has none: choose "
                f"another metric, or set its inputs."
            )
        acc.add(batch)
        return acc

    def merge(self, first: Samples, second: Samples) -> Samples:
        """See `Objective.merge`."""
        return first.merged(second)

    def score(self, acc: Samples, stderr: bool = True) -> Score:
        """See `Objective.score`.

        Raises:
            InputError: where the metric gives several numbers and `result` does not say which.
            Exception: whatever the metric raises, for example about too few samples.
        """
        value, random = self._evaluate(acc)
        replicates = None if random or not stderr else self.replicates(acc)
        known = () if replicates is None else tuple(replicates.tolist())
        return Score(value, stderr_of(replicates), len(acc), replicates=known)

    def replicates(self, acc: Samples) -> FloatArray | None:
        """See `Objective.replicates`. None for a metric that draws random numbers or refuses fewer samples."""
        blocks = acc.blocks()
        if len(blocks) < 2:
            return None
        try:
            found = [self._evaluate(acc, without=block) for block in blocks]
        except (RuntimeError, ValueError):
            return None
        return None if any(random for _, random in found) else np.array([value for value, _ in found])

    def _evaluate(self, acc: Samples, without: int | None = None) -> tuple[float, bool]:
        """The value, and whether the metric drew random numbers for it."""
        if self._metric is None:
            raise RuntimeError("prepare() must be called before samples are scored")
        with self._calling(acc.device):
            self._metric.to(acc.device or "cpu")
            self._metric.reset()
            before = torch.get_rng_state()
            try:
                if self._real is not None:
                    self._feed(self._real, real=True)
                self._feed(acc, real=False, without=without)
                value = self._number(self._metric.compute())
                return value, not torch.equal(before, torch.get_rng_state())
            finally:
                self._metric.reset()

    def _feed(self, samples: Samples, real: bool, without: int | None = None) -> None:
        device = samples.device or torch.device("cpu")
        marked = {"real": real} if self._paired else {}
        for batch in samples.batches(_ROWS, without) if len(samples) else ():
            self._metric.update(*(as_input(kind, batch, device) for kind in self._inputs), **marked)

    def _number(self, result: Any) -> float:  # noqa: ANN401 - of a metric
        chosen = self._params.result
        if chosen is None and isinstance(result, tuple | list) and len(result):
            chosen = 0
        if chosen is not None:
            try:
                result = result[chosen]
            except (KeyError, IndexError, TypeError) as error:
                raise InputError(f"{self._params.metric} gives no result {chosen!r}{described(result)}.") from error
        if isinstance(result, dict) or (isinstance(result, Tensor) and result.numel() != 1):
            raise InputError(
                f"{self._params.metric} gives several numbers{described(result)}. Choose one by result, or "
                f"let the metric reduce them by its arguments."
            )
        return float(result)

    def _build(self, dimension: int) -> Any:  # noqa: ANN401 - a metric
        arguments: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in self._params.arguments.items()
        }
        if self._vectors is not None and accepts(self._class.__init__, "feature"):
            arguments.setdefault("feature", PassThrough(dimension))
        if self._keeps_real:
            arguments["reset_real_features"] = False
        try:
            with self._calling(None):
                return self._class(**arguments)
        except ImportError as error:
            feature = accepts(self._class.__init__, "feature") and self._vectors is None
            other = ' Or give it features of wsopt: inputs = ["features"].' if feature else ""
            raise MissingDependencyError(f"{self._params.metric} cannot be used: {error}{other}") from error
        except Exception as error:  # whatever a metric has against its arguments, or misses in a cache or network
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{self._params.metric} cannot be made with arguments = {self._params.arguments}: {reason}"
            ) from error

    @property
    def _keeps_real(self) -> bool:
        """Whether the metric can keep what it was given as real over a reset."""
        return self._paired and accepts(self._class.__init__, "reset_real_features")

    def _by_name(self) -> tuple[str, ...]:
        names = [name for name in required(self._metric.update) if name != "real"]
        if len(names) > 2 or not names:
            raise InputError(
                f"{self._params.metric}.update takes {', '.join(names) or 'any arguments'}, and what each is to get is "
                f'not known: set inputs, for example = ["images", "conditions"].'
            )
        inception = accepts(self._class.__init__, "feature") and not self._params.arguments.get("normalize", False)
        as_bytes = inception or self._class.__name__ == "CLIPScore"
        return ("uint8" if as_bytes else "images", *(["conditions"] if len(names) == 2 else []))

    def _real_samples(self, reference: Reference) -> Samples:
        real = Samples(images=self.reference_images, features=self.reference_vectors)
        if self.reference_vectors:
            if reference.vectors is None:
                raise InputError(
                    f"reference {reference.name} has no feature vectors, and {self._params.metric} needs them: make it "
                    f"from images."
                )
            vectors = torch.from_numpy(reference.vectors)
            real.add(Batch(torch.empty(0), range(len(vectors)), features=vectors))
            return real
        if reference.images is None:
            raise InputError(
                f"reference {reference.name} has no images, and {self._params.metric} needs them: set "
                f'its reference to a split of the data ("train"), or to a folder of images.'
            )
        quantize: Quantize = "none" if reference.quantize == "none" else "round"
        quantize = "trunc" if reference.quantize == "trunc" else quantize
        images = to_grey_levels(torch.from_numpy(reference.images()), quantize)
        real.add(Batch(images, range(len(images))))
        return real

    @contextmanager
    def _calling(self, device: torch.device | None) -> Iterator[None]:
        """What torchmetrics is called in: no gradients, its warnings kept quiet, its random numbers kept apart."""
        with (
            warnings.catch_warnings(),
            fixed_random_state(device),
            # States that are made in inference mode could not be added to outside of it.
            torch.inference_mode(False),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")
            yield
