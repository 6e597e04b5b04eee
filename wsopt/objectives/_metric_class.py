"""Metrics of torchmetrics by name, and what their methods take."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from wsopt.errors import InputError, MissingDependencyError


def metric_class(name: str) -> type[Any]:
    """The class of a metric.

    Args:
        name: dotted, below torchmetrics or beginning with it; a colon may stand before the class.

    Raises:
        MissingDependencyError: without torchmetrics.
        InputError: where there is no such class, or it is no metric.
    """
    try:
        found: Any = importlib.import_module("torchmetrics")
    except ImportError as error:
        raise MissingDependencyError(
            f"objective torchmetrics needs the package torchmetrics, which could not be imported ({error}). Install it "
            f"with pip install torchmetrics."
        ) from error
    metric = found.Metric
    at = "torchmetrics"
    for part in name.replace(":", ".").removeprefix("torchmetrics.").split("."):
        inside = _member(found, at, part)
        if inside is None:
            near = difflib.get_close_matches(part, dir(found), 3)
            hint = f" Near are: {', '.join(near)}." if near else ""
            raise InputError(
                f"torchmetrics metric {name}: {at} has no {part!r}.{hint} Give the metric with its "
                f"module, as in image.fid.NAME."
            )
        found, at = inside, f"{at}.{part}"
    if not (isinstance(found, type) and issubclass(found, metric)):
        raise InputError(
            f"torchmetrics metric {name}: {at} is no metric (a class derived from torchmetrics.Metric). Name one."
        )
    return found


def _member(found: Any, at: str, part: str) -> Any:  # noqa: ANN401 - a module, a class, or None
    if hasattr(found, part):
        return getattr(found, part)
    try:
        return importlib.import_module(f"{at}.{part}")
    except ImportError:
        return None


def accepts(function: Callable[..., Any], argument: str) -> bool:
    """Whether a function names an argument."""
    return argument in inspect.signature(function).parameters


def required(function: Callable[..., Any]) -> list[str]:
    """The positional arguments that have no default, without ``self``."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [
        one.name
        for one in inspect.signature(function).parameters.values()
        if one.kind in positional and one.default is one.empty and one.name != "self"
    ]
