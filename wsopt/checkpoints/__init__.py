"""CheckpointSet and the readers of on-disk formats."""

from wsopt.checkpoints._base import (
    CheckpointReader,
    Snapshot,
    Stream,
    StreamKind,
    TensorSpec,
)
from wsopt.checkpoints._names import identify
from wsopt.checkpoints._safetensors import SafetensorsReader, write_tensors
from wsopt.checkpoints._scan import Inventory, Problem, scan
from wsopt.checkpoints._select import Selection, open_checkpoints, select
from wsopt.checkpoints._set import CheckpointSet, check_finite

__all__ = [
    "CheckpointReader",
    "CheckpointSet",
    "Inventory",
    "Problem",
    "SafetensorsReader",
    "Selection",
    "Snapshot",
    "Stream",
    "StreamKind",
    "TensorSpec",
    "check_finite",
    "identify",
    "open_checkpoints",
    "scan",
    "select",
    "write_tensors",
]
