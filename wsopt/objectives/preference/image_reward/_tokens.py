"""Prompts as token ids: BERT's lower-case WordPiece, every prompt of the same length."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsopt.errors import InputError
from wsopt.objectives.clip import transformers_package

ADDED = ("[DEC]", "[ENC]")
"""BLIP's own tokens, behind BERT's. ImageReward uses neither, but their rows are in the embedding table."""
_PADDING = "[PAD]"


class Tokens:
    """Token ids of prompts, kept per prompt.

    Args:
        file: BERT's ``vocab.txt``, one token a line, or its ``tokenizer.json``.
        size: number of tokens, the added ones counted.
        length: what every prompt is padded or cut to; [CLS] and [SEP] are counted and always stay.

    Raises:
        InputError: where the file cannot be read, or holds another number of tokens.
        MissingDependencyError: where the package tokenizers, which comes with transformers, is not installed.
    """

    def __init__(self, file: Path, size: int, length: int) -> None:
        package = transformers_package("tokenizers")
        try:
            self._tokenizer: Any = (
                package.Tokenizer.from_file(str(file))
                if file.suffix == ".json"
                else package.BertWordPieceTokenizer(_words(file))
            )
        except Exception as error:  # the library raises the bare class
            raise InputError(f"{file} cannot be read as a tokenizer ({error}). Give bert-base-uncased's.") from error
        self._tokenizer.add_special_tokens(list(ADDED))
        found = self._tokenizer.get_vocab_size(with_added_tokens=True)
        if found != size:
            raise InputError(
                f"{file} holds {found} tokens with {' and '.join(ADDED)}, the model has {size}. "
                f"Give bert-base-uncased's."
            )
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(
            length=length, pad_id=self._tokenizer.token_to_id(_PADDING), pad_token=_PADDING, pad_type_id=0
        )
        self._length = length
        self._known: dict[str, tuple[list[int], list[int]]] = {}

    @property
    def digest(self) -> str:
        """SHA-256 over the tokens and their ids."""
        return hashlib.sha256(json.dumps(self._tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest()

    def __call__(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask of prompts.

        Returns:
            ``[N, length]`` int64 twice: the ids, and 1 for a token, 0 for padding.
        """
        rows = torch.tensor([self._row(prompt) for prompt in prompts], dtype=torch.int64)
        ids, mask = rows.view(len(prompts), 2, self._length).unbind(1)
        return ids, mask

    def _row(self, prompt: str) -> tuple[list[int], list[int]]:
        if prompt not in self._known:
            encoding = self._tokenizer.encode(prompt)
            self._known[prompt] = (encoding.ids, encoding.attention_mask)
        return self._known[prompt]


def _words(file: Path) -> dict[str, int]:
    with file.open(encoding="utf-8") as lines:
        return {line.rstrip("\r\n"): row for row, line in enumerate(lines)}
