"""`module`: a network of any kind, for objectives that look at weights alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from wsopt.config.params import ModuleParams
from wsopt.errors import InputError
from wsopt.families._base import ModelFamily
from wsopt.seeding import SampleNoise
from wsopt.types import Batch


class ModuleFamily(ModelFamily):
    """What a Python function builds: a classifier, a language model, any `torch.nn.Module`.

    The function is called with the arguments of the config and returns the network with arbitrary weights; its state
    dict names what the checkpoints hold. The family generates no images, so it only goes with objectives on weights
    (`callable` with ``on = "weights"``), and it has no training recipe.

    Args:
        params: the function and its arguments.
    """

    name = "module"

    def __init__(self, params: ModuleParams) -> None:
        self._params = params

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """See `ModelFamily.image_shape`.

        Raises:
            InputError: always; there are no images.
        """
        raise self._no_images()

    @property
    def nfe(self) -> int:
        """0: nothing is generated."""
        return 0

    def build(self) -> nn.Module:
        """See `ModelFamily.build`.

        Raises:
            InputError: where the function cannot be imported or called, or returns something else.
        """
        with torch.random.fork_rng(devices=[]):
            # The same arbitrary weights every time, whatever was drawn before.
            torch.set_rng_state(torch.Generator().manual_seed(0).get_state())
            try:
                built = self._function(**self._params.arguments)
            except TypeError as error:
                raise InputError(f"{self._params.build} cannot be called with {self._given}: {error}.") from error
        if not isinstance(built, nn.Module):
            raise InputError(
                f"{self._params.build} returned a {type(built).__name__}, and family.build must return a "
                f"torch.nn.Module."
            )
        return built.to("cpu").eval()

    def sample(self, model: nn.Module, indices: Sequence[int], noise: SampleNoise, batch_size: int) -> Iterator[Batch]:
        """See `ModelFamily.sample`.

        Raises:
            InputError: always, at the call.
        """
        raise self._no_images()

    @cached_property
    def _function(self) -> Any:  # noqa: ANN401 - a function
        return self._params.build.load()

    @property
    def _given(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._params.arguments.items()) or "no arguments"

    def _no_images(self) -> InputError:
        return InputError(
            "the module family generates no images, so it only goes with objectives on weights: set objective.name = "
            '"callable" with objective.on = "weights", or choose another family.'
        )
