"""Comparing optimizers on the same checkpoints: running what is compared, and the statistics of finished runs."""

from wsopt.compare._analyse import analyse
from wsopt.compare._base import (
    CellRecord,
    Column,
    Comparison,
    CostRow,
    Curve,
    Ecdf,
    GapRow,
    PairTest,
    Quartiles,
    TargetRow,
)
from wsopt.compare._before import check_before
from wsopt.compare._cells import Cell, Cells, load_cells
from wsopt.compare._comparable import Difference, check_comparable, differences
from wsopt.compare._file import ComparisonFile, Written, read_file
from wsopt.compare._read import read_runs
from wsopt.compare._runner import Failure, Row, Watch
from wsopt.compare._session import finished_cells, run_cells
from wsopt.compare._show_data import comparison_json
from wsopt.compare._show_terminal import terminal_view
from wsopt.compare._show_write import write_comparison
from wsopt.compare._state import Watched, is_finished

__all__ = [
    "Cell",
    "CellRecord",
    "Cells",
    "Column",
    "Comparison",
    "ComparisonFile",
    "CostRow",
    "Curve",
    "Difference",
    "Ecdf",
    "Failure",
    "GapRow",
    "PairTest",
    "Quartiles",
    "Row",
    "TargetRow",
    "Watch",
    "Watched",
    "Written",
    "analyse",
    "check_before",
    "check_comparable",
    "comparison_json",
    "differences",
    "finished_cells",
    "is_finished",
    "load_cells",
    "read_file",
    "read_runs",
    "run_cells",
    "terminal_view",
    "write_comparison",
]
