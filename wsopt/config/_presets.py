"""Conventions of public evaluators by name: how generated pixels become grey levels, and how Inception resizes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from wsopt.config.sections import Preset, Quantize


class Convention(NamedTuple):
    """What public code disagrees on.

    Args:
        quantize: see `wsopt.objectives.to_grey_levels`.
        resize: of the Inception features, see `wsopt.objectives.inception`.
    """

    quantize: Quantize
    resize: Literal["tf1", "bilinear", "antialias", "clean"]


PRESETS: Final[Mapping[Preset, Convention]] = {
    # The paper's script for consistency models: uint8 by truncation, then pytorch-fid's half-pixel bilinear resize.
    "lcsc": Convention("trunc", "bilinear"),
    # guided-diffusion and consistency_models: uint8 by truncation, TensorFlow 1's resize in the graph.
    "adm": Convention("trunc", "tf1"),
    # EDM and EDM2: floor(x * 127.5 + 128), the same graph as TorchScript or pickle.
    "edm": Convention("round", "tf1"),
    # clean-fid: image files (here: as diffusers rounds them), PIL's bicubic with antialias, not quantised again.
    "clean": Convention("round", "clean"),
    # torch-fidelity takes uint8 images (its example generators truncate) and emulates TensorFlow 1's resize.
    "torch-fidelity": Convention("trunc", "tf1"),
}


def conventions() -> Mapping[Preset, Convention]:
    """All presets by name."""
    return PRESETS
