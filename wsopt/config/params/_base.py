"""What parameter models are made of: the base, and values that mean something besides themselves."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from wsopt.errors import InputError
from wsopt.registry import import_file

_FUNCTION = re.compile(r"(?P<where>.+):(?P<name>[^\W\d]\w*(\.[^\W\d]\w*)*)", re.DOTALL)
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class Params(BaseModel):
    """Base of parameter models: frozen, and an unknown key is an error.

    A field of type `Path` and a `FunctionRef` start from the config's folder: the loader makes them absolute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class NoParams(Params):
    """A component without parameters."""


Step = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
"""A length in the space's units."""


class FunctionRef(BaseModel):
    """A Python function, written as text: ``"package.module:function"``, or ``"FILE.py:function"`` for a file.

    Args:
        where: the module's name, or the file's path (it ends with ``.py``).
        name: of the function in it.
    """

    model_config = ConfigDict(frozen=True)

    where: str
    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:  # noqa: ANN401 - any raw value
        if not isinstance(value, str):
            raise ValueError('must be text in quotes: "module:function" or "FILE.py:function"')
        found = _FUNCTION.fullmatch(value)
        if found is None or not (found["where"].endswith(".py") or _MODULE.fullmatch(found["where"])):
            raise ValueError(f'must be "module:function" or "FILE.py:function", not {value!r}')
        return {"where": found["where"], "name": found["name"]}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """A text; what it is taken apart into is no business of a config's editor."""
        del core, handler
        return {"type": "string", "pattern": ":"}

    @model_serializer
    def _as_text(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.where}:{self.name}"

    @property
    def file(self) -> Path | None:
        """The file; None for a module."""
        return Path(self.where) if self.where.endswith(".py") else None

    def located(self, path: Path) -> Self:
        """The same function of the file at `path`."""
        return self.model_copy(update={"where": str(path)})

    def load(self) -> Callable[..., Any]:
        """Import the function.

        Raises:
            InputError: where the file or module cannot be imported, or has no such function.
        """
        try:
            found: Any = self._module()
        except ImportError as error:
            raise InputError(f"{self}: {self.where} could not be imported ({error}). Install or mend it.") from error
        except OSError as error:
            raise InputError(f"{self}: {self.where} cannot be read ({error.strerror}). Give a Python file.") from error
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{self}: {self.where} could not be imported ({type(error).__name__}: {error}). Mend it."
            ) from error
        for part in self.name.split("."):
            found = getattr(found, part, None)
        if not callable(found):
            raise InputError(f"{self}: {self.where} has no function {self.name!r}. Name one that it has.")
        function: Callable[..., Any] = found
        return function

    def _module(self) -> Any:  # noqa: ANN401 - a module
        if self.file is None:
            return importlib.import_module(self.where)
        name = f"wsopt_function_{self.file.stem}_{hashlib.sha256(str(self.file).encode()).hexdigest()[:12]}"
        return import_file(self.file, name)
