"""What makes runs incomparable, as far as their configs tell: found before the first of them is run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from wsopt.compare._base import CellRecord
from wsopt.compare._cells import Cell, Cells
from wsopt.compare._comparable import check_comparable


def check_before(cells: Cells, forced: Sequence[str]) -> None:
    """Check the configs of cells as finished runs are checked by `wsopt.compare.differences`.

    Args:
        cells: what is about to be run.
        forced: kinds of differences that are allowed; ``all`` allows every one.

    Raises:
        InputError: naming every difference that is not allowed.
    """
    check_comparable([_planned(cell) for cell in cells.cells], forced)


def _planned(cell: Cell) -> CellRecord:
    """The record of a run without results; its checkpoints are told by the folder that they are, or will be, in."""
    config = cell.config
    empty = np.empty(0)
    where = cell.training or config.checkpoints.path
    return CellRecord(
        path=cell.folder,
        method=cell.method,
        instance=cell.instance,
        losses=empty,
        combination=np.empty(0, dtype=np.bool_),
        baselines=0,
        sign=1.0,
        ema_star=None,
        budget=config.budget,
        rows=(),
        curve=(),
        optimism=None,
        seconds=empty,
        optimizer_seconds=0.0,
        samples=config.search.samples,
        nfe=1,
        resolved=config.resolved(),
        provenance={"checkpoints": {"fingerprint": hashlib.sha256(str(where).encode()).hexdigest()}},
        results={},
    )
