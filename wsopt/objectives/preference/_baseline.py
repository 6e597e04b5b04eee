"""The images that a win rate compares with: read by sample index, scored once."""

from __future__ import annotations

import hashlib
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsopt.errors import InputError, MissingDependencyError
from wsopt.objectives.preference._base import Scorer

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
_IMAGE_KEYS = ("images", "arr_0")


class Baseline(ABC):
    """Baseline images by sample index, and the scores they got.

    Args:
        path: of the folder or file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._prompts: dict[int, str] = {}
        self._scores: dict[tuple[str, int], float] = {}

    @abstractmethod
    def image(self, index: int) -> NDArray[np.uint8]:
        """``[H, W, 3]`` of a sample index that `indices` has."""

    @property
    @abstractmethod
    def indices(self) -> set[int]:
        """The sample indices that it covers."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 over the images as they are stored, with their indices."""

    def scores(
        self, scorer: Scorer, indices: Sequence[int], prompts: Sequence[str], device: torch.device
    ) -> list[float]:
        """Scores of the baseline's images of these samples, from memory where they were asked for before.

        Args:
            scorer: gives them.
            indices: N sample indices.
            prompts: N prompts of the candidate's samples.
            device: where to compute.

        Raises:
            InputError: for indices that it does not cover, or another prompt than before: it is of another split.
        """
        wanted = dict(zip(map(int, indices), prompts, strict=True))
        self._check(wanted)
        new = {index: prompt for index, prompt in wanted.items() if (scorer.digest, index) not in self._scores}
        for same_size in self._by_size(sorted(new)):
            images = torch.from_numpy(np.stack([image for _, image in same_size])).permute(0, 3, 1, 2).to(device)
            found = scorer.scores(images.float(), [new[index] for index, _ in same_size]).tolist()
            self._scores |= {(scorer.digest, index): s for (index, _), s in zip(same_size, found, strict=True)}
        return [self._scores[scorer.digest, int(index)] for index in indices]

    def _check(self, wanted: dict[int, str]) -> None:
        uncovered = sorted(set(wanted) - self.indices)
        if uncovered:
            raise InputError(
                f"{self.path}: the baseline has no image of sample {uncovered[0]} ({len(uncovered)} of the "
                f"{len(wanted)} samples asked for are missing; it has {len(self.indices)} images). Generate at least "
                f"as many baseline images as samples are compared."
            )
        for index, prompt in wanted.items():
            known = self._prompts.setdefault(index, prompt)
            if known != prompt:
                raise InputError(
                    f"{self.path}: the baseline's image {index} is of the prompt {known!r}, but sample {index} has "
                    f"{prompt!r}. A baseline belongs to the prompts of one split: give each split its own."
                )

    def _by_size(self, indices: Sequence[int]) -> list[list[tuple[int, NDArray[np.uint8]]]]:
        groups: list[list[tuple[int, NDArray[np.uint8]]]] = []
        for index in indices:
            image = self.image(index)
            if not groups or groups[-1][0][1].shape != image.shape:
                groups.append([])
            groups[-1].append((index, image))
        return groups


class BaselineFolder(Baseline):
    """Image files whose names are sample indices (``17.png``, ``00017.jpg``); other files are passed over."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._files: dict[int, Path] = {}
        for file in sorted(path.iterdir()):
            if file.suffix.lower() in _SUFFIXES and re.fullmatch("[0-9]+", file.stem):
                other = self._files.setdefault(int(file.stem), file)
                if other != file:
                    raise InputError(
                        f"{path}: {other.name} and {file.name} are both of sample {int(file.stem)}. Keep one."
                    )
        if not self._files:
            raise InputError(
                f"{path} holds no image files named by sample index, such as 17.png. Name the baseline's images so."
            )

    @property
    def indices(self) -> set[int]:
        """See `Baseline.indices`."""
        return set(self._files)

    @property
    def digest(self) -> str:
        """See `Baseline.digest`."""
        total = hashlib.sha256()
        for index, file in sorted(self._files.items()):
            total.update(f"{index} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return total.hexdigest()

    def image(self, index: int) -> NDArray[np.uint8]:
        """See `Baseline.image`.

        Raises:
            InputError: for a torn file.
            MissingDependencyError: without Pillow.
        """
        try:
            from PIL import Image
        except ImportError as error:
            raise MissingDependencyError(
                "image files need the package Pillow. Install it: pip install 'wsopt[clip]'"
            ) from error
        try:
            with Image.open(self._files[index]) as image:
                return np.array(image.convert("RGB"), dtype=np.uint8)
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{self._files[index]} is no image that can be read ({error}). Save it again.") from error


class BaselineArray(Baseline):
    """The npz file of a baseline.

    ``images`` (or ``arr_0``) ``[N, H, W, 3]`` uint8; ``indices`` ``[N]``, 0 to N - 1 where it is left out; ``prompts``
    ``[N]`` text, compared with the samples' where it is there.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            # numpy leaves a torn file open that it opened itself.
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                key = next((name for name in _IMAGE_KEYS if name in file), None)
                if key is None:
                    raise InputError(f"{path} has no array `images`, found {', '.join(file.files)}. Save it so.")
                self._images = file[key]
                n = len(self._images)
                indices = file["indices"].tolist() if "indices" in file else range(n)
                prompts = [str(prompt) for prompt in file["prompts"]] if "prompts" in file else None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is no npz file that can be read ({error}). Save it with numpy.savez.") from error
        if self._images.dtype != np.uint8 or self._images.ndim != 4 or self._images.shape[3] != 3:
            raise InputError(
                f"{path}: {key} is {self._images.dtype} {list(self._images.shape)}; it must be uint8 [N, H, W, 3]."
            )
        self._rows = {int(index): row for row, index in enumerate(indices)}
        if len(self._rows) != n or (prompts is not None and len(prompts) != n):
            raise InputError(
                f"{path}: `indices` and `prompts` must have one entry for each of the {n} images, and no index twice."
            )
        if prompts is not None:
            self._prompts = {index: prompts[row] for index, row in self._rows.items()}

    @property
    def indices(self) -> set[int]:
        """See `Baseline.indices`."""
        return set(self._rows)

    @property
    def digest(self) -> str:
        """See `Baseline.digest`."""
        total = hashlib.sha256(f"{list(self._rows)} {self._images.shape}\n".encode())
        total.update(np.ascontiguousarray(self._images).data)
        return total.hexdigest()

    def image(self, index: int) -> NDArray[np.uint8]:
        """See `Baseline.image`."""
        image: NDArray[np.uint8] = self._images[self._rows[index]]
        return image


def open_baseline(path: Path) -> Baseline:
    """The baseline in a folder of images or in an npz file.

    Raises:
        InputError: where there is none.
    """
    if path.is_dir():
        return BaselineFolder(path)
    if path.is_file():
        return BaselineArray(path)
    raise InputError(f"win-rate.baseline: there is no {path}. Give a folder of images, or an npz file.")
