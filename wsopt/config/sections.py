"""The sections of a config file whose keys do not depend on plugins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

SPLITS: Final = ("train", "validation", "test")
"""Splits of the data set; every other text for a reference is the path of a file."""
ReferenceText = Annotated[str, Field(min_length=1)]
Quantize = Literal["none", "trunc", "round"]
Preset = Literal["lcsc", "adm", "edm", "clean", "torch-fidelity"]
Kind = Literal["raw", "ema", "target", "lora"]

Rate = Annotated[float, Field(gt=0, lt=1)]
WIDTHS: Final = (0.001, 0.288)
"""Relative widths of power-function EMAs that are taken; that of the plain average is 1 / sqrt(12) = 0.2887."""
Width = Annotated[float, Field(ge=WIDTHS[0], le=WIDTHS[1])]
Pattern = Annotated[str, Field(min_length=1)]

Share = Annotated[float, Field(gt=0, lt=1)]
UpToOne = Annotated[float, Field(gt=0, le=1)]

_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


def _path_text(value: object) -> object:
    """`value`, unless it is text that names no path."""
    if isinstance(value, str) and (not value or "\0" in value):
        raise ValueError(f"must be a path, not {value!r}")
    return value


def _one_line(value: str) -> str:
    """`value`, unless a table could not show it."""
    if not value.strip() or not value.isprintable():
        raise ValueError(f"must be text of one line, not {value!r}")
    return value


Shown = Annotated[str, Field(min_length=1), AfterValidator(_one_line)]
"""What tables show: a label, or the name of features."""


def _unlike(texts: Sequence[str]) -> None:
    """Raise ValueError where a text is there twice."""
    twice = [text for text in texts if texts.count(text) > 1]
    if twice:
        raise ValueError(f"names {twice[0]!r} twice")


class Section(BaseModel):
    """Base of the sections: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TopSection(Section):
    """The keys above the first section."""

    name: str = Field(description="name of the run, the first half of its folder's name")
    seed: int = Field(default=0, ge=0, description="seed of the run; train.seed is the training's")
    budget: int = Field(ge=1, description="total number of objective evaluations, baselines included")
    output: Path = Field(default=Path("runs"), description="folder of the run folders, from the current directory")
    plugins: tuple[Path, ...] = Field(default=(), description="single-file plugins, from this file's folder")
    threads: int = Field(default=1, ge=1, le=1024, description="CPU threads of torch")
    device: str = Field(default="cpu", description="where networks run: cpu, cuda, cuda:N or mps")

    @field_validator("output", mode="before")
    @classmethod
    def _not_empty(cls, value: object) -> object:
        return _path_text(value)

    @field_validator("name")
    @classmethod
    def _slug(cls, value: str) -> str:
        if not _SLUG.fullmatch(value):
            raise ValueError(
                f"must be letters, digits, '.', '_' and '-', beginning with a letter or digit, not {value!r}"
            )
        return value

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise ValueError(f"must be 'cpu', 'cuda', 'cuda:N' or 'mps', not {value!r}")
        return value


class CheckpointsSection(Section):
    """``[checkpoints]``: which checkpoints are combined."""

    path: Path | None = Field(default=None, description="folder of the checkpoints; with it, [train] is not used")
    ema_path: Path | None = Field(
        default=None, description="folder of training-time EMAs that do not lie beside the checkpoints"
    )
    window: tuple[int, int] | None = Field(default=None, description="first and last training step, both included")
    interval: int | None = Field(default=None, ge=1, description="training steps between two checkpoints that are used")
    steps: tuple[int, ...] | None = Field(default=None, min_length=2, description="exactly these training steps")
    include: tuple[Pattern, ...] = Field(default=(), description="patterns (globs) of the file names to take")
    exclude: tuple[Pattern, ...] = Field(default=(), description="patterns (globs) of the file names to leave out")
    kind: Kind | None = Field(
        default=None,
        description="stream to take where there are several",
    )
    rate: Rate | None = Field(default=None, description="rate of the EMA stream to take")
    width: Width | None = Field(default=None, description="relative width of the power-function EMA stream to take")
    part: Pattern | None = Field(default=None, description="component to take where files hold several of one stream")
    unreadable: Literal["error", "skip"] = Field(
        default="error", description="torn and foreign files: an error, or passed over"
    )

    @field_validator("path", "ema_path", mode="before")
    @classmethod
    def _not_empty(cls, value: object) -> object:
        return _path_text(value)

    @field_validator("window")
    @classmethod
    def _ordered(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 0 <= value[0] < value[1]:
            raise ValueError(f"must be [first, last] steps with 0 <= first < last, not {list(value)}")
        return value


class WeightspaceSection(Section):
    """``[weightspace]``: how the checkpoints are held and merged."""

    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="dtype of the resident differences; sums are in float32 in any case"
    )
    width: int = Field(default=16, ge=1, le=256, description="candidates merged in one pass over the weights")
    memory: Literal["auto", "resident", "mapped"] = Field(
        default="auto",
        description="differences in memory, or in a file mapped into it; auto: as they fit",
    )
    cache: Path | None = Field(default=None, description="folder of the mapped file; OUTPUT/cache where not given")
    devices: tuple[str, ...] = Field(
        default=(), description="devices that share the differences; the run's where not given"
    )
    copy_from: Literal["first", "last"] | None = Field(
        default=None,
        description="checkpoint that differing tensors that are not floating come from",
    )
    batchnorm: Literal["combine", "copy", "recalculate"] = Field(
        default="combine",
        description="running statistics of BatchNorm: combined, of the last checkpoint, or made anew",
    )
    lora: Literal["auto", "dense", "factored"] = Field(
        default="auto", description="how LoRA checkpoints are held: as dense differences, as factors, or as is smaller"
    )

    @field_validator("cache", mode="before")
    @classmethod
    def _not_empty(cls, value: object) -> object:
        return _path_text(value)

    @field_validator("devices")
    @classmethod
    def _known_devices(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for device in value:
            if not _DEVICE.fullmatch(device):
                raise ValueError(f"must be names like 'cuda:0' or 'cpu', not {device!r}")
        return value


class BaselinesSection(Section):
    """``[baselines]``: what the search is compared with and begins from."""

    ema_rates: tuple[Rate, ...] = Field(
        default=(0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995),
        description="EMA rates per training step whose profiles over the window are tried",
    )
    singles: int = Field(default=15, ge=0, description="number of evenly spaced single checkpoints that are tried")
    power_widths: tuple[Width, ...] = Field(
        default=(0.05, 0.1), description="relative widths of the power-function EMAs that are tried"
    )
    extend: int = Field(default=4, ge=0, description="how many EMA rates may be added when an end of the grid wins")
    runs: tuple[Path, ...] = Field(default=(), description="folders of former runs whose winners are tried")

    @field_validator("ema_rates")
    @classmethod
    def _unlike_rates(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        # As the baselines are named: what is called the same is scored once.
        _unlike([f"{rate:.10g}" for rate in value])
        return value

    @field_validator("power_widths")
    @classmethod
    def _unlike_widths(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        _unlike([f"{width:g}" for width in value])
        return value


class SearchSection(Section):
    """``[search]``: how a candidate is evaluated."""

    samples: int = Field(default=1000, ge=1, description="generated samples per evaluation")
    batch_size: int = Field(default=250, ge=1, description="samples per forward pass")
    starts: tuple[Pattern, ...] = Field(
        default=("ema-*", "run-*"),
        min_length=1,
        description="patterns (globs) of the baselines that the search begins from",
    )
    max_failures: int = Field(default=20, ge=1, description="consecutive failed candidates that end the run")
    timeout: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="seconds after which a candidate counts as failed"
    )
    race: tuple[int, ...] = Field(
        default=(), description="sample counts, ascending, at which a candidate that is clearly behind is given up"
    )
    race_margin: float = Field(
        default=3.0,
        gt=0,
        allow_inf_nan=False,
        description="standard errors by which a candidate must be behind to be given up",
    )

    @field_validator("race")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if value and (value[0] < 2 or list(value) != sorted(set(value))):
            raise ValueError(f"must be ascending sample counts from 2 on, not {list(value)}")
        return value


class ValidationSection(Section):
    """``[validation]``: other noise than the search's, on which the winner is chosen."""

    samples: int = Field(default=0, ge=0, description="generated samples per score; 0: no validation")
    reference: ReferenceText | None = Field(
        default=None, description="split of the data set, or file, that is compared with; the objective's if not given"
    )
    shrinkage: tuple[Share, ...] = Field(
        default=(0.25, 0.5, 0.75), description="shares of the best EMA that are tried in a mix with the winner"
    )
    patience: int | None = Field(
        default=None, ge=1, description="evaluations without a better validation score that end the search"
    )


class ReportSection(Section):
    """``[report]``: how the winner and the baselines are scored again. Filled in from ``[objective]`` by the loader."""

    samples: int = Field(default=5000, ge=1, description="generated samples per score, at least search.samples")
    features: tuple[str, ...] | None = Field(
        default=None, description="feature extractors; the objective's where not given"
    )
    references: tuple[ReferenceText, ...] | None = Field(
        default=None, description="splits of the data set, or files, compared with; the objective's if not given"
    )
    metrics: tuple[dict[str, Any], ...] = Field(
        default=(), description="further metrics, a table each, with the keys of `[objective]`"
    )
    figure_pairs: int = Field(default=8, ge=0, description="pairs of images in the before-and-after figure")
    curve: tuple[UpToOne, ...] = Field(
        default=(), description="shares of the budget after which the best so far is scored for the curve"
    )

    @field_validator("features", "references")
    @classmethod
    def _no_duplicates(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        _unlike(value or ())
        return value


class MetricSection(Section):
    """The keys that every metric has, whatever its objective."""

    label: Shown | None = Field(default=None, description="what tables call it; its name where not given")
    features: Shown | None = Field(default=None, description="feature extractor that the objective is computed in")
    reference: ReferenceText | None = Field(
        default=None, description="split of the data set, or file of reference statistics, that is compared with"
    )


class ObjectiveSection(MetricSection):
    """The keys that ``[objective]`` has whatever the objective."""

    preset: Preset | None = Field(
        default=None, description="whose conventions to follow: sets `quantize`, and `resize` of Inception features"
    )
    quantize: Quantize = Field(
        default="round", description="how grey levels become whole numbers before features are taken"
    )
    parts: tuple[dict[str, Any], ...] = Field(
        default=(), description="with name = 'weighted': the objectives that are summed, a table each, with a `weight`"
    )


class PartSection(MetricSection):
    """The keys of ``[[objective.parts]]`` besides those of the part's objective."""

    weight: float = Field(
        default=1.0, allow_inf_nan=False, description="factor of the loss (of a score to be maximised: of -score)"
    )


PLAIN: Final[dict[str, type[Section]]] = {
    "checkpoints": CheckpointsSection,
    "weightspace": WeightspaceSection,
    "baselines": BaselinesSection,
    "search": SearchSection,
    "validation": ValidationSection,
    "report": ReportSection,
}
"""Section name -> model, where plugins have no say."""
