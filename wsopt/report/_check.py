"""The types that results.json must have where the report reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsopt.errors import InputError


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", populate_by_name=True)


class _Objective(_Part):
    name: str
    direction: str = "minimize"
    features: str | None = None
    reference: str | None = None
    samples: int | None = None
    label: str | None = None


class _Best(_Part):
    evaluation: int
    origin: str | None = Field(default=None, alias="from")


class _Named(_Part):
    name: str


class _Ema(_Part):
    name: str = "EMA"
    values: list[list[float]] | list[float] | None = None


class _Single(_Part):
    step: int | None = None


class _Coefficients(_Part):
    best: list[list[float]] | list[float] = Field(min_length=1)
    recommended: list[list[float]] | list[float] | None = None
    validated: list[list[float]] | list[float] | None = None
    ema_star: list[list[float]] | list[float] | None = Field(default=None, alias="ema*")
    best_ema: _Ema | None = Field(default=None, alias="best-ema")
    best_single: _Single | None = Field(default=None, alias="best-single")


class _Optimism(_Part):
    search: float
    fresh: float
    gap: float
    stderr: float | None = None
    samples: int | None = None


class _Validated(_Part):
    evaluation: int
    name: str
    search: float | None = None
    validation: float | None = None


class _Chosen(_Part):
    name: str
    evaluation: int
    shrinkage: float


class _Validation(_Part):
    samples: int
    reference: str | None = None
    evaluations: int
    trace: list[_Validated]
    chosen: _Chosen | None = None
    stopped: bool


class _Race(_Part):
    given_up: int
    samples_saved: float


class _Timing(_Part):
    seconds_per_evaluation: float | None = None
    remembered: int = 0
    split: dict[str, float] | None = None


class _Results(_Part):
    name: str
    seed: int
    budget: int = Field(ge=1)
    evaluations: int
    failed: int | None = None
    race: _Race | None = None
    steps: list[int] = Field(min_length=1)
    groups: list[str] | None = None
    objective: _Objective
    ema_star: _Named | None = None
    best: _Best
    exported: Literal["best", "validated"] = "best"
    validation: _Validation | None = None
    coefficients: _Coefficients
    scores: list[dict[str, Any]]
    optimism: _Optimism | None = None
    timing: _Timing | None = None
    memory: dict[str, float | None] | None = None
    seconds: dict[str, float | None] | None = None


def check_results(path: Path, results: dict[str, Any]) -> None:
    """Look at everything the report reads of results.json.

    Raises:
        InputError: naming the file and the first entry of a wrong type, or coefficients that do not fit the steps.
    """
    try:
        found = _Results.model_validate(results)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: {key}: {first['msg'].replace('Input should be', 'must be')}. Restore the file, or run the "
            f"run's report again."
        ) from error
    ema = None if found.coefficients.best_ema is None else found.coefficients.best_ema.values
    groups = None if found.groups is None else len(found.groups)
    for name, values in (
        ("best", found.coefficients.best),
        ("recommended", found.coefficients.recommended),
        ("validated", found.coefficients.validated),
        ("ema*", found.coefficients.ema_star),
        ("best-ema", ema),
    ):
        rows = [row if isinstance(row, list) else values for row in values or ()]
        if any(len(row) != len(found.steps) for row in rows if row is not None):
            raise InputError(
                f"{path}: coefficients.{name} does not have one value for each of {len(found.steps)} steps. Restore "
                f"the file, or run the run's report again."
            )
    chosen = found.validation and found.validation.chosen
    if found.exported == "validated" and (chosen is None or found.coefficients.validated is None):
        raise InputError(
            f"{path}: exported is 'validated', but validation.chosen or coefficients.validated is missing. Restore the "
            f"file, or run the run's report again."
        )
    if groups and len(found.coefficients.best) != groups and isinstance(found.coefficients.best[0], list):
        raise InputError(
            f"{path}: coefficients.best has {len(found.coefficients.best)} rows, but there are {groups} groups. "
            f"Restore the file, or run the run's report again."
        )
