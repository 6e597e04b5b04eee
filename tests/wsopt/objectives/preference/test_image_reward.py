"""ImageReward against the same formulas in plain torch, on tiny weights in the published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from plain_image_reward import TINY, Plain, tiny_weights, vocabulary, write_vocabulary
from wsopt.config.params import ImageRewardParams, WinRateParams
from wsopt.errors import InputError
from wsopt.objectives.preference import WinRate, image_reward
from wsopt.objectives.preference.image_reward import ImageReward, ImageRewardScorer
from wsopt.types import Batch

pytest.importorskip("transformers")

PROMPTS = ["a red cat", "photo of two tall dogs , unknown .", "", "a red cat", "the dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageReward.pt and vocab.txt, as somebody would have fetched them."""
    found = tmp_path_factory.mktemp("ImageReward")
    torch.save(tiny_weights(seed=1), found / "ImageReward.pt")
    write_vocabulary(found)
    return found


@pytest.fixture(scope="module")
def scorer(folder: Path) -> ImageRewardScorer:
    return ImageRewardScorer(ImageRewardParams(weights=folder, tokenizer=folder), TINY)


def images(count: int, height: int = 32, width: int = 32, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator).float()


def standardised(grey: Tensor) -> Tensor:
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073], dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711], dtype=torch.float64).view(3, 1, 1)
    return (grey.double() / 255 - mean) / std


def ids_of(words: str) -> list[int]:
    known = vocabulary()
    return [known.index(word) for word in ["[CLS]", *words.split(), "[SEP]"]]


TOKENS = [
    ids_of("a red cat"),
    ids_of("photo of two tall dog ##s , un ##known ."),
    ids_of(""),
    ids_of("a red cat"),
    ids_of("the dog"),
]


def test_scores_are_those_of_the_formulas(scorer: ImageRewardScorer) -> None:
    grey, plain = images(5), Plain(tiny_weights(seed=1))
    expected = [plain.score(standardised(image), tokens) for image, tokens in zip(grey, TOKENS, strict=True)]
    found = scorer.scores(grey, PROMPTS)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-5, atol=2e-5)
    assert np.ptp(expected) > 0.1, "images and prompts must matter for the comparison to say anything"


def test_both_image_and_prompt_matter(scorer: ImageRewardScorer) -> None:
    grey = images(2)
    one_image = scorer.scores(grey[:1].repeat(2, 1, 1, 1), ["a red cat", "the dog"])
    one_prompt = scorer.scores(grey, ["a red cat"] * 2)
    assert abs(float(one_image[0] - one_image[1])) > 1e-2
    assert abs(float(one_prompt[0] - one_prompt[1])) > 1e-2


def test_the_prompt_is_cut_at_35_tokens_and_the_last_stays(scorer: ImageRewardScorer) -> None:
    grey, plain = images(1), Plain(tiny_weights(seed=1))
    cut = ids_of("a " * 33)
    assert len(cut) == 35
    expected = plain.score(standardised(grey[0]), cut)
    for prompt in ("a " * 33, "a " * 34, "a " * 33 + "red cat" * 100):
        assert float(scorer.scores(grey, [prompt])) == pytest.approx(expected, abs=2e-5)
    assert float(scorer.scores(grey, ["a " * 32])) != pytest.approx(expected, abs=1e-4)


def test_neither_batch_nor_order_changes_a_score(scorer: ImageRewardScorer) -> None:
    grey, prompts = images(40), PROMPTS * 8  # more than go through the network at once
    whole = scorer.scores(grey, prompts)
    alone = torch.cat([scorer.scores(grey[i : i + 1], prompts[i : i + 1]) for i in (0, 17, 39)])
    backwards = scorer.scores(grey.flip(0), prompts[::-1]).flip(0)
    torch.testing.assert_close(alone, whole[[0, 17, 39]], rtol=0, atol=5e-6)
    torch.testing.assert_close(backwards, whole, rtol=0, atol=5e-6)
    assert scorer.scores(grey[:0], []).shape == (0,)


def test_grey_images_and_other_sizes(scorer: ImageRewardScorer) -> None:
    grey = images(2)[:, :1]
    torch.testing.assert_close(
        scorer.scores(grey, PROMPTS[:2]), scorer.scores(grey.repeat(1, 3, 1, 1), PROMPTS[:2]), rtol=0, atol=1e-6
    )
    assert torch.isfinite(scorer.scores(images(2, height=50, width=41), PROMPTS[:2])).all()


def test_a_non_finite_image_is_a_non_finite_score(scorer: ImageRewardScorer) -> None:
    grey = images(2)
    grey[1] = torch.nan
    found = scorer.scores(grey, PROMPTS[:2])
    assert torch.isfinite(found).tolist() == [True, False]


@pytest.mark.parametrize(
    ("shape", "prompts", "words"),
    [((2, 4, 32, 32), 2, r"\[N, 3, H, W\].*\[2, 4, 32, 32\]"), ((2, 3, 32, 32), 3, "2 images and 3 prompts")],
)
def test_wrong_input_is_refused(scorer: ImageRewardScorer, shape: tuple[int, ...], prompts: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        scorer.scores(torch.zeros(shape), ["a"] * prompts)


def test_loading_and_scoring_draw_nothing(folder: Path) -> None:
    before = torch.get_rng_state()
    ImageRewardScorer(ImageRewardParams(weights=folder, tokenizer=folder), TINY).scores(images(1), ["a"])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_digest_follows_weights_and_vocabulary(folder: Path, tmp_path: Path, scorer: ImageRewardScorer) -> None:
    again = ImageRewardScorer(ImageRewardParams(weights=folder / "ImageReward.pt", tokenizer=folder), TINY)
    torch.save(tiny_weights(seed=2), tmp_path / "ImageReward.pt")
    others = ImageRewardScorer(ImageRewardParams(weights=tmp_path, tokenizer=folder), TINY)
    swapped = write_vocabulary(tmp_path)
    swapped.write_text(swapped.read_text(encoding="utf-8").replace("cat\ndog", "dog\ncat"), encoding="utf-8")
    otherwise = ImageRewardScorer(ImageRewardParams(weights=folder, tokenizer=swapped), TINY)
    assert again.digest == scorer.digest
    assert len({scorer.digest, others.digest, otherwise.digest}) == 3


def test_half_precision_weights_are_scored_in_single(folder: Path, tmp_path: Path) -> None:
    halved = {k: w.half() if w.is_floating_point() else w for k, w in tiny_weights(seed=1).items()}
    torch.save(halved, tmp_path / "ImageReward.pt")
    found = ImageRewardScorer(ImageRewardParams(weights=tmp_path, tokenizer=folder), TINY).scores(images(1), ["a"])
    expected = Plain(halved).score(standardised(images(1)[0]), ids_of("a"))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(expected, abs=2e-5)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The objective and the win rate make the scorer of the tiny architecture."""

    class Tiny(ImageRewardScorer):
        def __init__(self, params: ImageRewardParams) -> None:
            super().__init__(params, architecture=TINY)

    Tiny.__name__ = "ImageRewardScorer"
    monkeypatch.setattr(image_reward, "ImageRewardScorer", Tiny)
    monkeypatch.setattr(ImageReward, "scorer_class", Tiny)


@pytest.mark.usefixtures("tiny")
def test_the_objective_is_the_mean_of_the_scores(folder: Path, scorer: ImageRewardScorer) -> None:
    objective = ImageReward(ImageRewardParams(weights=folder, tokenizer=folder))
    objective.prepare(None)
    grey, prompts = images(20), PROMPTS * 4
    first = objective.add(objective.new(), Batch(grey[:7], range(7), prompts[:7]))
    second = objective.add(objective.new(), Batch(grey[7:], range(7, 20), prompts[7:]))
    score = objective.score(objective.merge(second, first))
    expected = scorer.scores(grey, prompts).double().numpy()
    assert (objective.name, objective.direction, objective.needs) == ("image-reward", "maximize", "images")
    assert score.value == pytest.approx(expected.mean(), abs=1e-6)
    assert score.samples == 20
    without = [expected[np.arange(20) % 10 != block].mean() for block in range(10)]
    np.testing.assert_allclose(score.replicates, without, atol=1e-6)


@pytest.mark.usefixtures("tiny")
def test_the_network_is_in_memory_once(folder: Path) -> None:
    made = [ImageReward(ImageRewardParams(weights=folder, tokenizer=folder)) for _ in range(2)]
    for objective in made:
        objective.prepare(None)
    assert made[0].scorer is made[1].scorer


@pytest.mark.usefixtures("tiny")
def test_samples_without_prompts_are_refused(folder: Path) -> None:
    objective = ImageReward(ImageRewardParams(weights=folder, tokenizer=folder))
    objective.prepare(None)
    with pytest.raises(InputError, match=r"image-reward scores images for their prompts"):
        objective.add(objective.new(), Batch(images(1), [0]))


@pytest.mark.usefixtures("tiny")
def test_a_win_rate_by_image_reward(folder: Path, tmp_path: Path, scorer: ImageRewardScorer) -> None:
    baseline, candidate = images(5, seed=8), images(5, seed=9)
    path = tmp_path / "baseline.npz"
    np.savez(path, images=baseline.permute(0, 2, 3, 1).numpy().astype(np.uint8))
    params = ImageRewardParams(weights=folder, tokenizer=folder)
    objective = WinRate(WinRateParams(scorer="image-reward", baseline=path, value="gap", image_reward=params))
    objective.prepare(None)
    value = objective.score(objective.add(objective.new(), Batch(candidate, range(5), PROMPTS))).value
    expected = (scorer.scores(candidate, PROMPTS) - scorer.scores(baseline, PROMPTS)).double().mean()
    assert value == pytest.approx(float(expected), abs=1e-5)
