"""What ImageReward needs besides its network: images of its size, token ids, and the places of its files."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from plain_image_reward import TINY, tiny_weights, vocabulary, write_vocabulary
from wsopt.config.params import ImageRewardParams
from wsopt.errors import InputError, MissingDependencyError
from wsopt.objectives.preference.image_reward import ImageRewardScorer
from wsopt.objectives.preference.image_reward._files import VOCABULARY_FILES, WEIGHTS_FILES, locate
from wsopt.objectives.preference.image_reward._preprocess import MEAN, STD, preprocess
from wsopt.objectives.preference.image_reward._tokens import Tokens

SIZES = [(64, 64), (300, 300), (100, 161), (161, 100), (32, 47), (17, 90), (512, 512), (33, 32)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_images_are_resized_as_pil_does(height: int, width: int) -> None:
    image_module = pytest.importorskip("PIL.Image")
    generator = np.random.default_rng(height * 1000 + width)
    pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    short, size = min(height, width), 32
    new = (int(size * width / short), int(size * height / short))
    resized = image_module.fromarray(pixels).resize(new, image_module.Resampling.BICUBIC)
    left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
    expected = np.asarray(resized.crop((left, top, left + size, top + size)), dtype=np.float64)
    found = preprocess(torch.from_numpy(pixels).permute(2, 0, 1)[None], size)
    assert found.shape == (1, 3, size, size)
    grey = (found[0].double() * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255
    difference = np.abs(grey.permute(1, 2, 0).numpy() - expected)
    assert difference.max() < 1.01  # PIL's fixed-point weights: now and then a level
    assert (difference > 0.01).mean() < 0.01


def test_images_of_the_right_size_are_standardised_only() -> None:
    grey = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    expected = (grey / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(preprocess(grey, 32), expected)


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    pytest.importorskip("tokenizers")
    return Tokens(write_vocabulary(tmp_path), TINY.vocabulary, 8)


def test_prompts_become_lower_case_word_pieces(tokens: Tokens) -> None:
    words = vocabulary()
    ids, mask = tokens(["A RED cats.", "Café, xyz", ""])
    spelt = [[words[i] for i in row] for row in ids.tolist()]
    assert spelt[0] == ["[CLS]", "a", "red", "cat", "##s", ".", "[SEP]", "[PAD]"]
    assert spelt[1] == ["[CLS]", "cafe", ",", "[UNK]", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert spelt[2] == ["[CLS]", "[SEP]", *["[PAD]"] * 6]
    assert mask.sum(1).tolist() == [7, 5, 2]
    assert ids.dtype == mask.dtype == torch.int64


def test_long_prompts_are_cut_before_the_last_token(tokens: Tokens) -> None:
    ids, mask = tokens(["a red cat a red dog a tall cat"])
    assert [vocabulary()[i] for i in ids[0]] == ["[CLS]", "a", "red", "cat", "a", "red", "dog", "[SEP]"]
    assert mask.tolist() == [[1] * 8]


def test_the_added_tokens_are_the_last_two(tokens: Tokens) -> None:
    ids, _ = tokens(["[DEC] a [ENC]"])
    assert ids[0, 1:4].tolist() == [TINY.vocabulary - 2, vocabulary().index("a"), TINY.vocabulary - 1]


def test_no_prompts_are_no_rows(tokens: Tokens) -> None:
    assert [part.shape for part in tokens([])] == [(0, 8), (0, 8)]


def test_a_tokenizer_file_gives_the_same_ids(tokens: Tokens, tmp_path: Path) -> None:
    library = pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    library.BertWordPieceTokenizer({word: row for row, word in enumerate(vocabulary())}).save(str(path))
    prompts = ["a red cats.", "the dog " * 9, "[ENC]"]
    same = Tokens(path, TINY.vocabulary, 8)
    assert all(torch.equal(one, other) for one, other in zip(tokens(prompts), same(prompts), strict=True))
    assert same.digest == tokens.digest


def test_ids_are_those_of_transformers(tokens: Tokens, tmp_path: Path) -> None:
    library = pytest.importorskip("transformers")
    other = library.BertTokenizerFast(str(tmp_path / "vocab.txt"))
    prompts = ["A red cats.", "the dog " * 9, "", "Café , unknown"]
    expected = other(prompts, padding="max_length", truncation=True, max_length=8, return_tensors="pt")
    ids, mask = tokens(prompts)
    assert torch.equal(ids, expected["input_ids"])
    assert torch.equal(mask, expected["attention_mask"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n", r"holds 8 tokens with \[DEC\] and \[ENC\], the model has 32"),
        ("a\nb\n", "cannot be read as a tokenizer"),
    ],
)
def test_another_vocabulary_is_refused(content: str, words: str, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    path = tmp_path / "vocab.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=words) as caught:
        Tokens(path, TINY.vocabulary, 35)
    assert str(path) in str(caught.value)
    assert "bert-base-uncased" in str(caught.value)


def test_files_are_found_in_folders_and_by_themselves(tmp_path: Path) -> None:
    path = tmp_path / "ImageReward.pt"
    path.touch()
    (tmp_path / "tokenizer.json").touch()
    assert locate(path, WEIGHTS_FILES, "weights") == locate(tmp_path, WEIGHTS_FILES, "weights") == path
    assert locate(tmp_path, VOCABULARY_FILES, "tokenizer").name == "tokenizer.json"
    (tmp_path / "vocab.txt").touch()
    assert locate(tmp_path, VOCABULARY_FILES, "tokenizer").name == "vocab.txt"


def test_a_repository_is_looked_up_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    repository = tmp_path / "models--THUDM--ImageReward"
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123", encoding="utf-8")
    (snapshot / "ImageReward.pt").touch()
    monkeypatch.setattr(hub, "try_to_load_from_cache", partial(hub.try_to_load_from_cache, cache_dir=tmp_path))
    assert locate("THUDM/ImageReward", WEIGHTS_FILES, "weights") == snapshot / "ImageReward.pt"


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (Path("nowhere") / "ImageReward.pt", r"weights: there is no file or folder nowhere.ImageReward\.pt"),
        ("somebody/no-such-reward", r"hf download somebody/no-such-reward ImageReward\.pt"),
        ("a/b/c", r"weights: 'a/b/c' is no file or folder"),
    ],
)
def test_missing_files_are_named(where: Path | str, words: str) -> None:
    pytest.importorskip("huggingface_hub")
    with pytest.raises(InputError, match=words):
        locate(where, WEIGHTS_FILES, "weights")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(f"{tmp_path} holds no vocab.txt or tokenizer.json")):
        locate(tmp_path, VOCABULARY_FILES, "tokenizer")


@pytest.mark.parametrize("package", ["transformers", "tokenizers"])
def test_a_missing_package_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tokenizers")
    torch.save(tiny_weights(seed=0), tmp_path / "ImageReward.pt")
    write_vocabulary(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf"{package}.*pip install 'wsopt\[clip\]'"):
        ImageRewardScorer(ImageRewardParams(weights=tmp_path, tokenizer=tmp_path), TINY)
