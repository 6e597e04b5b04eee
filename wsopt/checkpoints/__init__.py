"""CheckpointSet and the readers of on-disk formats."""

from wsopt.checkpoints._base import CheckpointReader, Header, TensorSpec
from wsopt.checkpoints._safetensors import SafetensorsReader, write_tensors
from wsopt.checkpoints._set import CheckpointSet, check_finite, open_checkpoints

__all__ = [
    "CheckpointReader",
    "CheckpointSet",
    "Header",
    "SafetensorsReader",
    "TensorSpec",
    "check_finite",
    "open_checkpoints",
    "write_tensors",
]
