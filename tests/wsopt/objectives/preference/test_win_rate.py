"""Win rates against baseline images, with a scorer that can be computed by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from fake_scorer import Brightness
from wsopt.config.params import WinRateParams
from wsopt.errors import InputError
from wsopt.objectives.preference import WinRate, _clip_scorers, preferences, wilson_interval, wins
from wsopt.types import Batch

OTHERS = np.array([100, 50, 200, 70, 30, 90], dtype=np.uint8)
OWN = np.array([120, 50, 100, 71, 30, 10], dtype=np.uint8)
GAPS = (OWN.astype(float) - OTHERS) / 100


def pictures(levels: Sequence[int] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([np.full((4, 6, 3), level, dtype=np.uint8) for level in levels])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    np.savez(path := tmp_path / "baseline.npz", images=pictures(OTHERS))
    return path


@pytest.fixture(autouse=True)
def scorers(monkeypatch: pytest.MonkeyPatch) -> list[Brightness]:
    """Every scorer that was made."""
    made: list[Brightness] = []

    def make(params: object) -> Brightness:
        made.append(Brightness())
        return made[-1]

    monkeypatch.setattr(_clip_scorers, "PickScorer", make)
    monkeypatch.setattr(_clip_scorers, "ClipScorer", make)
    return made


def batch(rows: Sequence[int] = range(6), levels: NDArray[np.uint8] = OWN, **changes: Any) -> Batch:
    images = torch.from_numpy(pictures(levels[list(rows)])).permute(0, 3, 1, 2).float()
    return Batch(images, list(rows), **{"conditions": [f"prompt {row}" for row in rows], **changes})


def win_rate(baseline: Path, **params: Any) -> WinRate:
    objective = WinRate(WinRateParams(baseline=baseline, **params))
    objective.prepare(None)
    return objective


def value(objective: WinRate, *batches: Batch) -> float:
    acc = objective.new()
    for one in batches:
        acc = objective.add(acc, one)
    return objective.score(acc).value


def test_wins_ties_and_losses(saved: Path) -> None:
    assert value(win_rate(saved), batch()) == pytest.approx((1 + 0.5 + 0 + 1 + 0.5 + 0) / 6)


def test_near_ties_are_ties_within_the_threshold(saved: Path) -> None:
    difference = math.tanh(0.01 / 2)  # |p - (1 - p)| of sample 3, whose gap is 0.01
    assert value(win_rate(saved, threshold=difference * 1.01), batch()) == pytest.approx(2.5 / 6)
    assert value(win_rate(saved, threshold=difference * 0.99), batch()) == pytest.approx(3 / 6)


def test_the_preference_is_the_mean_probability(saved: Path) -> None:
    expected = np.mean(1 / (1 + np.exp(-GAPS)))
    assert value(win_rate(saved, value="preference"), batch()) == pytest.approx(expected, rel=1e-5)


def test_two_methods_preferences_sum_to_one(tmp_path: Path, saved: Path) -> None:
    np.savez(other := tmp_path / "other.npz", images=pictures(OWN))
    for kind in ("preference", "rate"):
        one, two = value(win_rate(saved, value=kind), batch()), value(win_rate(other, value=kind), batch(levels=OTHERS))
        assert one + two == pytest.approx(1, rel=1e-6)


def test_the_gap_is_the_mean_difference_of_scores(saved: Path) -> None:
    objective = win_rate(saved, value="gap")
    score = objective.score(objective.add(objective.new(), batch()))
    assert score.value == pytest.approx(GAPS.mean(), rel=1e-5)
    left_out = [np.delete(GAPS, row).mean() for row in range(6)]
    np.testing.assert_allclose(score.replicates, left_out, atol=1e-6)
    assert score.stderr == pytest.approx(math.sqrt(5 / 6 * ((left_out - np.mean(left_out)) ** 2).sum()), rel=1e-4)


def test_a_baseline_image_is_scored_once(saved: Path, scorers: list[Brightness]) -> None:
    objective = win_rate(saved)
    value(objective, batch())
    assert scorers[0].seen == 12
    value(objective, batch([0, 1]), batch([4, 2, 3, 5]))
    assert scorers[0].seen == 18
    second = win_rate(saved, value="gap")  # of the report, beside that of the search
    assert len(scorers) == 1
    value(second, batch())
    assert scorers[0].seen == 24


def test_batches_and_orders_change_nothing(saved: Path) -> None:
    objective = win_rate(saved, value="preference")
    assert value(objective, batch([5, 0]), batch([3]), batch([1, 4, 2])) == value(objective, batch())


@pytest.mark.parametrize("scorer", ["pickscore", "clip-score"])
def test_scorers_by_name(saved: Path, scorer: str, scorers: list[Brightness]) -> None:
    value(win_rate(saved, scorer=scorer), batch())
    assert len(scorers) == 1


def test_a_folder_of_images(tmp_path: Path, saved: Path) -> None:
    for index, picture in enumerate(pictures(OTHERS)):
        name = (f"{index:05d}.png", f"{index}.bmp")[index % 2]
        Image.fromarray(picture).resize((6, 4 + index % 2)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("passed over")
    (tmp_path / "grid.png").write_bytes(b"passed over")
    assert value(win_rate(tmp_path, value="gap"), batch()) == value(win_rate(saved, value="gap"), batch())


def test_grey_files_are_read_as_colours(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 100, dtype=np.uint8)).save(tmp_path / "0.png")
    assert value(win_rate(tmp_path, value="gap"), batch([0])) == pytest.approx(0.2, rel=1e-5)


def test_an_array_with_indices_and_prompts(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"arr_0": pictures([70, 90]), "indices": [3, 5], "prompts": ["prompt 3", "prompt 5"]}
    np.savez(path := tmp_path / "some.npz", **arrays)
    assert value(win_rate(path, value="gap"), batch([5, 3])) == pytest.approx((0.01 - 0.8) / 2, rel=1e-4)
    with pytest.raises(InputError, match=r"baseline has no image of sample 4 \(1 of the 2 samples"):
        value(win_rate(path), batch([4, 5]))


def test_a_baseline_of_other_prompts(tmp_path: Path) -> None:
    np.savez(path := tmp_path / "prompts.npz", images=pictures([1]), prompts=["a dog"])
    with pytest.raises(InputError, match="image 0 is of the prompt 'a dog', but sample 0 has 'prompt 0'"):
        value(win_rate(path), batch([0]))


def test_one_baseline_is_not_for_two_splits(saved: Path) -> None:
    objective = win_rate(saved)
    value(objective, batch([0]))
    with pytest.raises(InputError, match="A baseline belongs to the prompts of one split"):
        value(win_rate(saved, value="gap"), batch([0], conditions=["of the report"]))


def test_samples_that_the_baseline_does_not_cover(saved: Path) -> None:
    seven = Batch(torch.zeros(1, 3, 4, 6), [6], ["prompt 6"])
    with pytest.raises(InputError, match=r"baseline\.npz: the baseline has no image of sample 6 .* it has 6 images"):
        value(win_rate(saved), seven)


def test_samples_without_prompts(saved: Path) -> None:
    with pytest.raises(InputError, match="objective win-rate scores images for their prompts"):
        value(win_rate(saved), batch(conditions=None))


def test_broken_samples_have_no_win_rate(saved: Path) -> None:
    broken = Batch(torch.full((1, 3, 4, 6), torch.nan), [0], ["prompt 0"])
    for kind in ("rate", "preference", "gap"):
        assert math.isnan(value(win_rate(saved, value=kind), broken))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": pictures([1])}, "has no array `images`, found pictures"),
        ({"images": pictures([1]).astype(float)}, r"images is float64 \[1, 4, 6, 3\]; it must be uint8"),
        ({"images": pictures([1])[..., 0]}, r"images is uint8 \[1, 4, 6\]"),
        ({"images": pictures([1, 2]), "indices": [3, 3]}, "no index twice"),
        ({"images": pictures([1, 2]), "prompts": ["one"]}, "one entry for each of the 2 images"),
        ({"images": pictures([1]), "prompts": np.array([None])}, "is no npz file that can be read"),
    ],
)
def test_arrays_that_are_no_baseline(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(path := tmp_path / "wrong.npz", **arrays)
    with pytest.raises(InputError, match=message):
        win_rate(path)


def test_files_that_are_no_baseline(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no .*missing"):
        win_rate(tmp_path / "missing")
    with pytest.raises(InputError, match=r"holds no image files named by sample index, such as 17\.png"):
        win_rate(tmp_path)
    (torn := tmp_path / "torn.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="is no npz file"):
        win_rate(torn)
    (tmp_path / "0.png").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"0\.png is no image that can be read"):
        value(win_rate(tmp_path), batch([0]))
    (tmp_path / "00.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"0\.png and 00\.jpg|00\.jpg and 0\.png"):
        win_rate(tmp_path)


def test_the_digest_follows_the_baseline(tmp_path: Path, saved: Path) -> None:
    np.savez(other := tmp_path / "other.npz", images=pictures(OWN))
    np.savez(same := tmp_path / "same.npz", images=pictures(OTHERS))
    first, second = win_rate(saved).digest, win_rate(other).digest
    assert first == win_rate(same).digest != second
    folders: list[Path] = []
    for level in (1, 1, 2):
        folders.append(tmp_path / f"folder{len(folders)}")
        folders[-1].mkdir()
        Image.fromarray(pictures([level])[0]).save(folders[-1] / "0.png")
    digests = [win_rate(folder).digest for folder in folders]
    assert digests[0] == digests[1] != digests[2]


def test_parameters_of_another_scorer_are_refused(saved: Path) -> None:
    with pytest.raises(ValidationError, match="has parameters for clip_score, but the scorer is 'pickscore'"):
        WinRateParams.model_validate({"baseline": saved, "clip_score": {"scale": "logit"}})
    chosen = WinRateParams.model_validate({"baseline": saved, "scorer": "clip-score", "clip_score": {"scale": "logit"}})
    assert chosen.clip_score.scale == "logit"


def test_wins_and_preferences_of_far_gaps() -> None:
    gaps = np.array([-1e4, -1e-12, 0.0, 1e-12, 1e4, np.inf, np.nan])
    np.testing.assert_array_equal(wins(gaps), [0, 0, 0.5, 1, 1, 1, np.nan])
    np.testing.assert_allclose(preferences(gaps), [0, 0.5, 0.5, 0.5, 1, 1, np.nan])


@pytest.mark.parametrize(
    ("won", "samples", "confidence", "low", "high"),
    [
        # Newcombe (1998), table I, method 3.
        (81, 263, 0.95, 0.2553, 0.3662),
        (15, 148, 0.95, 0.0624, 0.1605),
        (0, 20, 0.95, 0.0, 0.1611),
        (1, 29, 0.95, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_as_published(won: int, samples: int, confidence: float, low: float, high: float) -> None:
    np.testing.assert_allclose(wilson_interval(won / samples, samples, confidence), (low, high), atol=5.1e-5)


def test_wilson_ends_solve_the_score_equation() -> None:
    share, n, z = 0.57, 100, 1.959963984540054
    for end in wilson_interval(share, n):
        assert (share - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / n, rel=1e-9)
    assert wilson_interval(1.0, 5)[1] == 1.0
    mirrored = wilson_interval(1 - share, n)
    assert wilson_interval(share, n) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]))


@pytest.mark.parametrize(
    ("share", "samples", "confidence"), [(1.1, 3, 0.9), (0.5, 0, 0.9), (0.5, 3, 1.0), (math.nan, 3, 0.9)]
)
def test_wilson_out_of_range(share: float, samples: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="no interval"):
        wilson_interval(share, samples, confidence)
