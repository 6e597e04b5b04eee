"""`callable`: any Python function of a candidate's weights, or of the images made with them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsopt.config.params import CallableParams, FunctionRef
from wsopt.errors import InputError
from wsopt.objectives._base import Objective
from wsopt.objectives._global_state import fixed_random_state
from wsopt.objectives._samples import Samples
from wsopt.objectives.jackknife import blocks_of, stderr_of
from wsopt.objectives.references import Reference
from wsopt.types import Batch, FloatArray, Score


@dataclass(eq=False)
class Given:
    """What the function is to be called with, and what it gave."""

    samples: Samples = field(default_factory=Samples)
    result: FloatArray | None = None


class CallableObjective(Objective[Given]):
    """A function's number; unit and range are the function's own.

    ``on = "weights"``: ``function(weights, **arguments)`` gets the state dict of the network with the candidate's
    weights, once per candidate, without gradients; nothing is sampled. It may not change a tensor in place.

    ``on = "images"``: ``function(images, **arguments)`` gets all samples at once, ``[N, C, H, W]`` float32 grey levels
    in [0, 255] on the CPU, ordered by sample index; where it has an argument of the name ``conditions``, also the list
    of the N labels or prompts, None where the model has none.

    It returns a number, as a float or as an array or tensor of one value. On images it may return N numbers, one per
    image, instead: the score is their mean, and it has the jackknife's standard error. The global random generators are
    in the same state at every call, and are put back afterwards. What the function raises is that candidate's failure.

    Args:
        params: the function, what it is given, and the direction.
    """

    name = "callable"

    def __init__(self, params: CallableParams) -> None:
        self._params = params
        self.direction = params.direction
        self.needs = params.on

    def prepare(self, reference: Reference | None) -> None:
        """See `Objective.prepare`. Imports the function.

        Raises:
            InputError: where it cannot be imported, or does not take the arguments of the config.
        """
        del reference
        check_arguments(self._function, self._params.function, "weights" if self.needs == "weights" else "images",
                        self._arguments(None))  # fmt: skip

    def new(self) -> Given:
        """See `Objective.new`."""
        return Given()

    def add(self, acc: Given, batch: Batch) -> Given:
        """See `Objective.add`."""
        acc.samples.add(batch)
        acc.result = None
        return acc

    def add_weights(self, acc: Given, weights: dict[str, Tensor]) -> Given:
        """See `Objective.add_weights`.

        Raises:
            InputError: where the function changed a tensor in place, or returned no number.
        """
        before = _versions(weights)
        device = next(iter(weights.values())).device if weights else None
        with fixed_random_state(device), torch.no_grad():
            result = self._function(dict(weights), **self._arguments(None))
        changed = sorted(name for name, version in _versions(weights).items() if before.get(name) != version)
        if changed:
            raise InputError(
                f"{self._params.function} changed the tensor {changed[0]} in place. Let it work on a copy (clone())."
            )
        acc.result = _numbers(result, 0, self._params.function)
        return acc

    def merge(self, first: Given, second: Given) -> Given:
        """See `Objective.merge`."""
        if self.needs == "weights":
            return second if first.result is None else first
        return Given(first.samples.merged(second.samples))

    def score(self, acc: Given, stderr: bool = True) -> Score:
        """See `Objective.score`. NaN before anything was added.

        Raises:
            InputError: where the function returned neither a number nor one per image.
            Exception: whatever the function raises.
        """
        found = self._found(acc)
        count = len(acc.samples)
        value = float(found.mean()) if len(found) else float("nan")
        replicates = self.replicates(acc) if stderr else None
        return Score(value, stderr_of(replicates), count, replicates=() if replicates is None else tuple(replicates))

    def replicates(self, acc: Given) -> FloatArray | None:
        """See `Objective.replicates`. None where the function gives one number for all images."""
        found = self._found(acc)
        blocks = acc.samples.blocks()
        if len(found) != len(acc.samples) or len(blocks) < 2:
            return None
        of = blocks_of(sorted(index for piece in acc.samples.pieces for index in piece.indices))
        return np.array([found[of != block].mean() for block in blocks])

    def _found(self, acc: Given) -> FloatArray:
        if acc.result is None and len(acc.samples):
            count = len(acc.samples)
            batch = next(acc.samples.batches(count))
            with fixed_random_state(), torch.no_grad():
                result = self._function(batch.images, **self._arguments(batch))
            acc.result = _numbers(result, count, self._params.function)
        return np.empty(0) if acc.result is None else acc.result

    def _arguments(self, batch: Batch | None) -> dict[str, Any]:
        arguments: dict[str, Any] = dict(self._params.arguments)
        if self.needs == "images" and "conditions" in _parameters(self._function):
            arguments["conditions"] = None if batch is None else batch.conditions
        return arguments

    @cached_property
    def _function(self) -> Callable[..., Any]:
        return self._params.function.load()


def check_arguments(
    function: Callable[..., Any], ref: FunctionRef, first: str | None, arguments: Mapping[str, Any]
) -> None:
    """Refuse a function that cannot be called as it will be.

    Args:
        function: the function.
        ref: how the config names it.
        first: what its first positional argument will be, for the message; None where there is none.
        arguments: by keyword.

    Raises:
        InputError: naming the argument.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some of those written in C do not tell
        return
    try:
        signature.bind(*(() if first is None else (first,)), **arguments)
    except TypeError as error:
        given = ", ".join([*(() if first is None else (f"the {first}",)), *(f"{name}=" for name in arguments)])
        raise InputError(
            f"{ref} is called with {given or 'no arguments'}, and its signature is {signature}: {error}. Mend the "
            f"function, or the config's arguments for it."
        ) from error


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}


def _versions(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """Counts of in-place changes, kept by torch; inference tensors have none."""
    return {name: tensor._version for name, tensor in weights.items() if not tensor.is_inference()}


def _numbers(result: object, count: int, ref: FunctionRef) -> FloatArray:
    """``[1]`` or ``[count]`` float64 of what a function returned."""
    plain = result.detach().cpu().double().numpy() if isinstance(result, Tensor) else result
    try:
        if plain is None or isinstance(plain, str | bytes):
            raise TypeError
        found = np.asarray(plain, dtype=np.float64)
    except (TypeError, ValueError):
        found = None
    if found is not None and found.size == 1:
        return found.reshape(1)
    if found is not None and count and found.shape in ((count,), (count, 1)):
        return found.reshape(count)
    what = type(result).__name__ if found is None else f"an array of shape {list(found.shape)}"
    wanted = f"one number, or {count} of them, one per image" if count else "one number"
    raise InputError(f"{ref} returned {what}; an objective must return {wanted}.")
