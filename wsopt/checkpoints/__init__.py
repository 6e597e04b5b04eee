"""CheckpointSet and the readers of on-disk formats."""

from wsopt.checkpoints._base import (
    CheckpointReader,
    Snapshot,
    Stream,
    StreamKind,
    TensorSpec,
)
from wsopt.checkpoints._flax import FlaxReader
from wsopt.checkpoints._folders import DiffusersReader
from wsopt.checkpoints._inspect import Inspection, LoraFacts, StreamSummary, inspect
from wsopt.checkpoints._inspect_deep import Broken, DeepFacts, Neighbours, look_deep
from wsopt.checkpoints._inspect_json import as_json
from wsopt.checkpoints._lora import (
    LoraAdapter,
    LoraFactors,
    LoraModule,
    adapter_at,
    lora_modules,
    read_adapter,
)
from wsopt.checkpoints._lora_keys import looks_like_lora
from wsopt.checkpoints._lora_write import (
    LoraStyle,
    default_style,
    export_metadata,
    export_names,
    export_tensors,
    write_adapter,
)
from wsopt.checkpoints._names import identify
from wsopt.checkpoints._pickle import EdmPickleReader
from wsopt.checkpoints._safetensors import SafetensorsReader, write_tensors
from wsopt.checkpoints._safetensors_header import pack_header
from wsopt.checkpoints._scan import Inventory, Problem, scan
from wsopt.checkpoints._select import Selection, open_checkpoints, select
from wsopt.checkpoints._set import CheckpointSet, check_finite
from wsopt.checkpoints._sharded import ShardedReader
from wsopt.checkpoints._torch import TorchReader

__all__ = [
    "Broken",
    "CheckpointReader",
    "CheckpointSet",
    "DeepFacts",
    "DiffusersReader",
    "EdmPickleReader",
    "FlaxReader",
    "Inspection",
    "Inventory",
    "LoraAdapter",
    "LoraFactors",
    "LoraFacts",
    "LoraModule",
    "LoraStyle",
    "Neighbours",
    "Problem",
    "SafetensorsReader",
    "Selection",
    "ShardedReader",
    "Snapshot",
    "Stream",
    "StreamKind",
    "StreamSummary",
    "TensorSpec",
    "TorchReader",
    "adapter_at",
    "as_json",
    "check_finite",
    "default_style",
    "export_metadata",
    "export_names",
    "export_tensors",
    "identify",
    "inspect",
    "look_deep",
    "looks_like_lora",
    "lora_modules",
    "open_checkpoints",
    "pack_header",
    "read_adapter",
    "scan",
    "select",
    "write_adapter",
    "write_tensors",
]
