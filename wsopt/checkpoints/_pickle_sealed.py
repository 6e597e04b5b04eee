"""Objects that a pickle may hold and cannot change."""

from __future__ import annotations

from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any


class Sealed:
    """Refuses the opcode BUILD, which would otherwise overwrite attributes with what the pickle says."""

    def __setstate__(self, state: object) -> None:
        raise UnpicklingError(f"it tries to overwrite a {type(self).__name__}")


class Call(Sealed):
    """What a pickle may call, in place of the function that it names."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> Any:  # noqa: ANN401
        """Call it."""
        return self._function(*arguments)
