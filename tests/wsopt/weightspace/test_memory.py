"""Host memory: while a stack is loaded, while candidates are merged and written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_COMMON = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
import torch
from torch import nn
from stacks import made_set
from wsopt.memory import peak_bytes, reset_peak
from wsopt.weightspace import DenseStack, SpaceSettings

torch.set_num_threads(1)
NAMES = [f"layer{i}" for i in range(8)]
SIZE, COUNT = 250_000, 16

def make(index):
    return {name: torch.linspace(i, i + 1, SIZE).add_(0.01 * index) for i, name in enumerate(NAMES)}

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

# Everything is loaded once in small, so that libraries have their own memory already.
small = DenseStack(made_set(3, lambda index: {"a": torch.full((9000,), float(index))}), SpaceSettings(width=2))
small.prepare(np.full((1, 1, 3), 1 / 3))
checkpoint = SIZE * len(NAMES) * 4
"""
_LOADING = """
before = resident()
reset_peak()
stack = DenseStack(made_set(COUNT, make), SpaceSettings(width=1, dtype=sys.argv[2], memory="resident"))
print(json.dumps({"peak": peak_bytes() - before, "checkpoint": checkpoint,
                  "stack": sum(part.nbytes for part in stack.differences)}))
"""
_MERGING = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        for name in NAMES:
            self.register_parameter(name, nn.Parameter(torch.zeros(SIZE)))

stack, model = DenseStack(made_set(COUNT, make), SpaceSettings(width=2)), Net()
coefficients = np.random.default_rng(1).normal(size=(2, 1, COUNT))

def both():
    stack.prepare(coefficients)
    for row in range(2):
        stack.write(row, model)

for _ in range(10):
    both()
before = resident()
reset_peak()
for _ in range(100):
    both()
print(json.dumps({"grown": resident() - before, "peak": peak_bytes() - before, "checkpoint": checkpoint}))
"""


def measured(script: str, *arguments: str) -> dict[str, int]:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peaks are measured on Linux only")
    support = str(Path(__file__).parents[2] / "support")
    command = [sys.executable, "-c", _COMMON + script, support, *arguments]
    # glibc keeps small freed blocks for itself; with this it gives them back, and what is counted is what is used.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    result: dict[str, int] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_loading_takes_the_stack_its_anchor_and_one_checkpoint(dtype: str) -> None:
    found = measured(_LOADING, dtype)
    expected = found["stack"] + 2 * found["checkpoint"]
    assert expected * 0.9 < found["peak"] < expected + 0.75 * found["checkpoint"]


def test_merging_and_writing_take_nothing_more() -> None:
    found = measured(_MERGING)
    assert found["grown"] < 1 << 20
    assert found["peak"] < found["checkpoint"] / 4
