"""Where the differences live: in memory or in a mapped file, on one device or shared by several."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from wsopt.checkpoints import TensorSpec
from wsopt.errors import InputError
from wsopt.weightspace._base import SpaceSettings
from wsopt.weightspace._kernel import Shard, empty
from wsopt.weightspace._layout import FlatLayout, make_layout
from wsopt.weightspace._policy import plan_policies

DTYPES: Final[Mapping[str, torch.dtype]] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""What differences are held in and merged tensors are written in, by the name that settings give it."""
_FLOAT32 = 4
_MARGIN = 0.85
"""Share of the memory available that is taken: samples and features need some too."""
_GROUPS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
# float16 reaches 65504; scaled differences stay under 2^15. The clip keeps every factor within float32.
_TOP, _LARGEST_EXPONENT = 15, 100


def plan_bytes(
    tensors: Mapping[str, TensorSpec], count: int, settings: SpaceSettings, groups: Mapping[str, str] | None = None
) -> dict[str, int]:
    """Bytes that a `DenseStack` would hold, from headers alone; tensors that are constant will make it less.

    Args:
        tensors: what every checkpoint holds.
        count: K.
        settings: how they are held.
        groups: layer group by name, None for one of all.

    Returns:
        ``differences`` (resident; 0 where they are mapped), ``mapped`` (bytes of the file; 0 where they are resident),
        ``anchor``, ``candidates``.
    """
    layout = make_layout(tensors, plan_policies(tensors, settings), groups)
    differences = stored_bytes(layout, count, settings)
    kept = {"anchor": layout.size * _FLOAT32, "candidates": settings.width * layout.size * _FLOAT32}
    largest = sum(spec.nbytes for spec in tensors.values())
    mapped = is_mapped(settings, differences + sum(kept.values()) + largest)
    return {"differences": 0 if mapped else differences, "mapped": differences if mapped else 0, **kept}


def stored_bytes(layout: FlatLayout, count: int, settings: SpaceSettings) -> int:
    """Bytes of the differences of `count` checkpoints."""
    return (count - 1) * layout.size * DTYPES[settings.dtype].itemsize


def is_mapped(settings: SpaceSettings, needed: int) -> bool:
    """Whether the differences go to a file.

    Args:
        settings: ``auto`` maps what does not fit the memory available, and what lies on other devices never.
        needed: bytes of the whole weight space and one checkpoint.
    """
    if settings.memory != "auto":
        return settings.memory == "mapped"
    if all(torch.device(name).type != "cpu" for name in devices(settings)):
        return False
    available = available_memory()
    return available is not None and needed > _MARGIN * available


def available_memory() -> int | None:
    """Bytes that can be taken without swapping, within the limit of the control group; None where unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    return int(max(min(found, *map(_group_memory, _GROUPS)), 0))


def _group_memory(names: tuple[str, str, str]) -> float:
    """What a control group (version 1 or 2) leaves; infinite where there is none or it has no limit."""
    limit, usage, stat = (Path("/sys/fs/cgroup", name) for name in names)
    try:
        # Files in the page cache count as used, though they give way.
        freed = sum(int(line.split()[1]) for line in stat.read_text().splitlines() if line.startswith("inactive_file "))
        return int(limit.read_text()) - int(usage.read_text()) + freed
    except (OSError, ValueError):  # "max" is no number
        return math.inf


def devices(settings: SpaceSettings) -> tuple[str, ...]:
    """The devices that merge."""
    return settings.devices or (settings.device,)


def make_shards(layout: FlatLayout, count: int, settings: SpaceSettings, mapped: Tensor | None = None) -> list[Shard]:
    """Share the blocks among the devices, nearly equally; anchor and differences are zero (or as mapped).

    Args:
        layout: of the stack.
        count: K.
        settings: devices and dtype.
        mapped: ``[blocks, K-1, block]`` on the CPU; None allocates on the devices.

    Raises:
        InputError: where they do not fit a device.
    """
    groups = torch.tensor(layout.group_of_blocks(), dtype=torch.int64)
    dtype = DTYPES[settings.dtype]
    shards = []
    for name, start, end in _shares(layout.blocks, devices(settings)):
        device, blocks = torch.device(name), end - start
        try:
            shape = (blocks, count - 1, layout.block)
            held = empty(shape, device, dtype) if mapped is None else mapped[start:end]
            anchor = empty((blocks, 1, layout.block), device)
            device = anchor.device  # with its number
        except (torch.OutOfMemoryError, MemoryError) as error:
            size = blocks * (count - 1) * layout.block * dtype.itemsize
            raise InputError(
                f"{size / 2**30:.1f} GiB of differences do not fit the memory of {name}. Give more devices "
                f'(weightspace.devices), weightspace.dtype = "bfloat16", or weightspace.memory = "mapped".'
            ) from error
        scales = torch.ones(blocks, count - 1, device=device) if dtype == torch.float16 else None
        shards.append(Shard(start, device, held, anchor, groups[start:end].to(device), scales))
    return shards


def map_file(path: Path, layout: FlatLayout, count: int, settings: SpaceSettings, *, write: bool = False) -> Tensor:
    """The differences in a file as a tensor ``[blocks, K-1, block]``; not to be written to unless `write`."""
    dtype = DTYPES[settings.dtype]
    shape = (layout.blocks, count - 1, layout.block)
    if 0 in shape:
        return torch.zeros(shape, dtype=dtype)
    array = np.memmap(path, f"i{dtype.itemsize}", "r+" if write else "r", shape=shape)
    with warnings.catch_warnings():
        # torch has no read-only tensors. A private writable mapping would count as memory taken.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array).view(dtype)


def encode(values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Round differences to the stored dtype.

    float16 has 5 bits of exponent: differences of checkpoints are often below its normal range. Each block of each
    checkpoint therefore has a factor, a power of two, that brings its largest value to nearly 2^15.

    Args:
        values: ``[m, block]`` float32 on the CPU.
        dtype: of the stack.

    Returns:
        The stored values, and ``[m]`` float32 scales where the dtype needs them.
    """
    if dtype != torch.float16:
        return values.to(dtype), None
    peaks = values.abs().amax(1).numpy()
    exponents = np.where(np.isfinite(peaks) & (peaks > 0), _TOP - np.frexp(peaks)[1], 0).clip(max=_LARGEST_EXPONENT)
    factors = torch.from_numpy(np.ldexp(np.float32(1), exponents))
    return (values * factors[:, None]).to(dtype), torch.from_numpy(np.ldexp(np.float32(1), -exponents))


def _shares(blocks: int, names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Ranges of at least two blocks: a single one would round differently."""
    count = max(1, min(len(names), blocks // 2))
    bounds = [blocks * i // count for i in range(count + 1)]
    return [(name, bounds[i], bounds[i + 1]) for i, name in enumerate(names[:count])]
