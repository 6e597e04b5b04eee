"""PickScore and CLIP score on a tiny random CLIP saved to disk, against the formulas by hand in numpy."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

import transformers

import tiny_clip
from wsopt.config.params import ClipScoreParams, PickScoreParams
from wsopt.errors import InputError, MissingDependencyError
from wsopt.objectives.clip import ClipSimilarity
from wsopt.objectives.preference import ClipScore, ClipScorer, PickScore, PickScorer, shared
from wsopt.types import Batch, FloatArray

PROMPTS = ("a cat", "dogs", "a cat on a very long mat", "", "zebra")
SCALE = 2.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.save_clip(tmp_path_factory.mktemp("models") / "clip", logit_scale=SCALE)


@pytest.fixture(scope="module")
def cosines(folder: Path) -> FloatArray:
    """By hand: tokens of letters, normalised pixels, and the cosine in numpy."""
    network = tiny_clip.load("CLIPModel", folder)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (tiny_clip.MEAN, tiny_clip.STD))
    found = []
    for image, prompt in zip(tiny_clip.images(5), PROMPTS, strict=True):
        inputs = {"pixel_values": (image[None] / 255 - mean) / std, "input_ids": torch.tensor([tokens(prompt)])}
        with torch.no_grad():
            seen = network.vision_model(inputs["pixel_values"]).pooler_output @ network.visual_projection.weight.T
            read = network.text_model(inputs["input_ids"]).pooler_output @ network.text_projection.weight.T
        x, y = (side[0].double().numpy() for side in (seen, read))
        found.append((x @ y) / math.sqrt((x @ x) * (y @ y)))
    return np.array(found)


def tokens(text: str) -> list[int]:
    """The tiny vocabulary: letters, letters that end a word, the pair "ca", and two markers around it all."""
    numbers = []
    for word in text.split():
        letters = ["ca", *word[2:]] if word.startswith("ca") else list(word)
        ends = [ord(letter) - ord("a") for letter in letters if letter != "ca"]
        numbers += [52] * (letters[0] == "ca") + [*ends[:-1], 26 + ends[-1]]
    return [53, *numbers[: tiny_clip.LENGTH - 2], 54]


def batch(indices: list[int] | None = None, **changes: Any) -> Batch:
    rows = list(range(5)) if indices is None else indices
    values: dict[str, Any] = {"images": tiny_clip.images(5)[rows], "conditions": [PROMPTS[row] for row in rows]}
    return Batch(indices=rows, **values | changes)


def pick(folder: Path, **params: Any) -> PickScore:
    objective = PickScore(PickScoreParams(model=folder, processor=folder, **params))
    objective.prepare(None)
    return objective


def clip_score(folder: Path, scale: Any) -> ClipScore:
    objective = ClipScore(ClipScoreParams(model=folder, scale=scale))
    objective.prepare(None)
    return objective


@pytest.mark.usefixtures("untouched_randomness")
def test_pickscore_by_hand(folder: Path, cosines: FloatArray) -> None:
    scorer = PickScorer(PickScoreParams(model=folder, processor=folder))
    found = scorer.scores(tiny_clip.images(5), PROMPTS)
    assert (found.dtype, found.shape, found.requires_grad) == (torch.float32, (5,), False)
    np.testing.assert_allclose(found.numpy(), math.exp(SCALE) * cosines, rtol=1e-4, atol=1e-5)
    score = pick(folder).score(pick(folder).add(pick(folder).new(), batch()))
    assert score.samples == 5
    assert score.value == pytest.approx(math.exp(SCALE) * cosines.mean(), rel=1e-4)


def test_the_cosines_have_both_signs(cosines: FloatArray) -> None:
    assert cosines.min() < -0.01
    assert cosines.max() > 0.01


def test_pickscore_equals_the_models_own_logits(folder: Path) -> None:
    network = tiny_clip.load("CLIPModel", folder)
    image, prompt = tiny_clip.images(1), "a cat"
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (tiny_clip.MEAN, tiny_clip.STD))
    with torch.no_grad():
        logits = network(pixel_values=(image / 255 - mean) / std, input_ids=torch.tensor([tokens(prompt)]))
    found = PickScorer(PickScoreParams(model=folder, processor=folder)).scores(image, [prompt])
    torch.testing.assert_close(found, logits.logits_per_text[0])


@pytest.mark.parametrize(
    ("scale", "formula"),
    [
        ("cosine", lambda c: c.mean()),
        ("torchmetrics", lambda c: max(100 * c.mean(), 0)),
        ("hessel", lambda c: (2.5 * np.maximum(c, 0)).mean()),
        ("logit", lambda c: math.exp(SCALE) * c.mean()),
    ],
)
def test_clip_scores_by_hand(folder: Path, cosines: FloatArray, scale: str, formula: Any) -> None:
    objective = clip_score(folder, scale)
    assert {"torchmetrics": "100", "logit": "exp", "hessel": "2.5", "cosine": "cosine"}[scale] in objective.scorer.scale
    for rows in (range(5), np.flatnonzero(cosines < 0).tolist(), np.flatnonzero(cosines > 0).tolist()):
        score = objective.score(objective.add(objective.new(), batch(list(rows))))
        assert score.value == pytest.approx(formula(cosines[list(rows)]), rel=1e-4, abs=1e-5)


def test_the_jackknife_clamps_what_it_repeats(folder: Path, cosines: FloatArray) -> None:
    objective = clip_score(folder, "torchmetrics")
    score = objective.score(objective.add(objective.new(), batch()))
    left_out = [max(100 * np.delete(cosines, row).mean(), 0) for row in range(5)]
    np.testing.assert_allclose(score.replicates, left_out, rtol=1e-4, atol=1e-4)
    spread = np.asarray(left_out)
    assert score.stderr == pytest.approx(math.sqrt(4 / 5 * ((spread - spread.mean()) ** 2).sum()), rel=1e-3)
    without = objective.score(objective.add(objective.new(), batch()), stderr=False)
    assert (without.stderr, without.replicates) == (None, ())
    assert without.value == score.value


def test_batches_orders_and_merges_change_nothing(folder: Path) -> None:
    objective = pick(folder)
    whole = objective.score(objective.add(objective.new(), batch()))
    first = objective.add(objective.new(), batch([4, 1]))
    parts = objective.merge(first, objective.add(objective.add(objective.new(), batch([2])), batch([3, 0])))
    score = objective.score(parts)
    assert score.value == pytest.approx(whole.value, rel=1e-5)
    np.testing.assert_allclose(score.replicates, whole.replicates, rtol=1e-4, atol=1e-5)


def test_no_samples_and_broken_samples(folder: Path) -> None:
    objective = pick(folder)
    assert math.isnan(objective.score(objective.new()).value)
    broken = batch(images=torch.full((5, 3, 16, 16), torch.nan))
    score = objective.score(objective.add(objective.new(), broken))
    assert math.isnan(score.value)
    assert score.stderr is None
    one = objective.score(objective.add(objective.new(), batch([3])))
    assert (one.stderr, one.replicates) == (None, ())
    assert objective.add(objective.new(), Batch(torch.zeros(0, 3, 16, 16), [], [])).values == []


def test_a_prompt_is_encoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = ClipSimilarity(folder, folder, "torch", "clip-score")
    calls = []
    encode = transformers.CLIPModel.get_text_features

    def counted(self: Any, **inputs: Tensor) -> Any:
        calls.append(inputs["input_ids"].shape)
        return encode(self, **inputs)

    monkeypatch.setattr(transformers.CLIPModel, "get_text_features", counted)
    first = network.cosines(tiny_clip.images(3), ["cat", "dog", "cat"])
    again = network.cosines(tiny_clip.images(3), ["cat", "dog", "cat"])
    assert len(calls) == 2
    torch.testing.assert_close(first, again, rtol=0, atol=0)


def test_long_prompts_are_truncated(folder: Path) -> None:
    network = ClipSimilarity(folder, folder, "torch", "clip-score")
    image = tiny_clip.images(1)
    long, longer = network.cosines(image, ["abcdefghij"]), network.cosines(image, ["abcdefghijklmnop"])
    assert network.cosines(image, ["abcdefghijklmnoz"]) == longer
    assert network.cosines(image, ["abcdefghi"]) != long != longer


@pytest.mark.parametrize("wrap", [lambda tensor: tensor, lambda tensor: SimpleNamespace(pooler_output=tensor)])
def test_both_return_types(folder: Path, cosines: FloatArray, monkeypatch: pytest.MonkeyPatch, wrap: Any) -> None:
    def image_features(self: Any, pixel_values: Tensor) -> Any:
        return wrap(self.visual_projection(self.vision_model(pixel_values=pixel_values).pooler_output))

    def text_features(self: Any, input_ids: Tensor, attention_mask: Tensor) -> Any:
        found = self.text_model(input_ids=input_ids, attention_mask=attention_mask)
        return wrap(self.text_projection(found.pooler_output))

    monkeypatch.setattr(transformers.CLIPModel, "get_image_features", image_features)
    monkeypatch.setattr(transformers.CLIPModel, "get_text_features", text_features)
    network = ClipSimilarity(folder, folder, "torch", "clip-score")
    np.testing.assert_allclose(network.cosines(tiny_clip.images(5), PROMPTS).numpy(), cosines, atol=1e-5)


def test_scorers_of_the_same_files_share_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorers = [ClipScorer(ClipScoreParams(model=folder, scale="cosine"))]
    monkeypatch.setattr(transformers.CLIPModel, "from_pretrained", None)
    scorers.append(ClipScorer(ClipScoreParams(model=folder, scale="logit")))
    assert scorers[0].digest != scorers[1].digest
    assert scorers[0].scale == "cosine"
    assert scorers[1].scale == "exp(logit_scale) cosine"


def test_shared_things_go_with_their_last_holder() -> None:
    class Thing:
        pass

    first = shared("thing", Thing)
    assert shared("thing", Thing) is first
    del first
    other = Thing()
    assert shared("thing", lambda: other) is other


@pytest.mark.parametrize("conditions", [None, [3, 1, 4, 1, 5]])
def test_without_prompts(folder: Path, conditions: Any) -> None:
    objective = pick(folder)
    with pytest.raises(InputError, match=r"pickscore scores images for their prompts.*gives them as the conditions"):
        objective.add(objective.new(), batch(conditions=conditions))


def test_another_number_of_prompts(folder: Path) -> None:
    with pytest.raises(InputError, match="3 images and 1 prompts"):
        PickScorer(PickScoreParams(model=folder, processor=folder)).scores(tiny_clip.images(3), ["cat"])


def test_without_a_tokenizer(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, bare := tmp_path / "bare")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (bare / name).unlink()
    with pytest.raises(InputError, match=r"pickscore: .*bare has no tokenizer\. Copy"):
        pick(bare)
    (bare / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"bare has no tokenizer that can be loaded \("):
        pick(bare)


def test_the_processors_folder_needs_no_weights(folder: Path, tmp_path: Path, cosines: FloatArray) -> None:
    shutil.copytree(folder, processor := tmp_path / "processor")
    (processor / "model.safetensors").unlink()
    scorer = PickScorer(PickScoreParams(model=folder, processor=processor))
    np.testing.assert_allclose(
        scorer.scores(tiny_clip.images(5), PROMPTS).numpy(), math.exp(SCALE) * cosines, rtol=1e-4, atol=1e-5
    )


def test_preparing_before_adding(folder: Path) -> None:
    objective = PickScore(PickScoreParams(model=folder, processor=folder))
    with pytest.raises(RuntimeError, match="prepare"):
        objective.add(objective.new(), batch())


def test_without_transformers(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(MissingDependencyError, match=r"pip install 'wsopt\[clip\]'"):
        pick(tmp_path / "copy")


def test_the_objectives_say_what_they_are(folder: Path) -> None:
    for objective in (pick(folder), clip_score(folder, "cosine")):
        assert (objective.direction, objective.needs) == ("maximize", "images")
        assert objective.digest == objective.scorer.digest
