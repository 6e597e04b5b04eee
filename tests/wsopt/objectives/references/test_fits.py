"""Samples are compared only with a reference of the same features and conventions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wsopt.errors import InputError
from wsopt.objectives.references import Reference, check_fits

OWN, OTHER = "a" * 64, "b" * 64
LABELLED = Reference("cifar10", "inception", OWN, "round", np.zeros(4), np.eye(4), 100)


@pytest.mark.parametrize("quantize", ["none", "trunc", "round"])
def test_whole_grey_levels_fit_every_quantisation(quantize: str) -> None:
    assert check_fits(replace(LABELLED, quantize="uint8"), "inception", OWN, 4, quantize) == ""


def test_the_same_fits_under_another_name() -> None:
    assert check_fits(LABELLED, "my-inception", OWN, 4, "round") == ""


@pytest.mark.parametrize(
    ("change", "name", "digest", "dimension", "quantize", "message"),
    [
        ({}, "digits", OTHER, 64, "round", r"'inception'\) has d = 4, features 'digits' have d = 64"),
        ({}, "clip", OTHER, 4, "round", "made with features 'inception' .digest aaaaaaaaaaaa.*'clip' .digest bbbb"),
        ({}, "inception", OTHER, 4, "round", "other weights or another preprocessing of features 'inception'"),
        ({}, "inception", OWN, 4, "trunc", "quantised by 'round', the samples are by 'trunc'"),
        ({}, "inception", OWN, 4, "none", "quantised by 'round', the samples are by 'none'"),
        ({"output": "logits"}, "inception", OWN, 4, "round", "output 'logits'"),
        ({"features": "", "extractor_digest": ""}, "x", OWN, 5, "round", "unknown features. has d = 4"),
        ({"features": "", "extractor_digest": ""}, "x", OWN, 4, "trunc", "quantised by 'round'"),
    ],
)
def test_what_does_not_fit(
    change: dict[str, str], name: str, digest: str, dimension: int, quantize: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_fits(replace(LABELLED, **change), name, digest, dimension, quantize)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"features": "", "extractor_digest": "", "quantize": ""}, ["its features are 'clip'", "pixels", "--features"]),
        ({"quantize": ""}, ["how its pixels were quantised"]),
        ({"features": "", "extractor_digest": ""}, ["its features are 'clip'"]),
    ],
)
def test_what_cannot_be_checked_is_said(change: dict[str, str], parts: list[str]) -> None:
    note = check_fits(replace(LABELLED, **change), "clip", OWN, 4, "round")  # type: ignore[arg-type]
    assert "cifar10" in note
    assert "wsopt reference make FILE --features clip" in note
    assert [part for part in parts if part not in note] == []


def test_another_output_fits_where_it_is_measured() -> None:
    assert check_fits(replace(LABELLED, output="spatial"), "inception", OWN, 4, "round", "spatial") == ""
