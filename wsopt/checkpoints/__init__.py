"""CheckpointSet and the readers of on-disk formats."""

from wsopt.checkpoints._base import CheckpointReader, Header, TensorSpec
from wsopt.checkpoints._safetensors import SafetensorsReader, metadata_of, write_tensors
from wsopt.checkpoints._set import CheckpointSet, check_finite, open_checkpoints

__all__ = [
    "CheckpointReader",
    "CheckpointSet",
    "Header",
    "SafetensorsReader",
    "TensorSpec",
    "check_finite",
    "metadata_of",
    "open_checkpoints",
    "write_tensors",
]
