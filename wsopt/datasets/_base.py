"""The contract of a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

DatasetSplit = Literal["train", "validation", "test"]


class Dataset(ABC):
    """Real images, split once and for all. Training and search see ``train`` only, the report ``test`` as well."""

    name: ClassVar[str]

    @abstractmethod
    def images(self, split: DatasetSplit) -> NDArray[np.float32]:
        """``[N, C, H, W]`` float32 in [-1, 1]."""

    @abstractmethod
    def labels(self, split: DatasetSplit) -> NDArray[np.int64]:
        """``[N]`` class labels."""
