"""One merged candidate: wsopt against a loop over state dicts, and against mergekit on the same files.

    python benchmarks/speed/merge_peers.py [--full] [--mergekit PATH/TO/mergekit-pytorch] [--folder DIR]

Writes K checkpoints of P float32 weights, in tensors of at most a million, to a temporary folder, and merges them with
coefficients of both signs that sum to 1:

  loop       a dict per checkpoint in memory; for each name the sum of coefficient x tensor, as scripts do it
  mergekit   mergekit's command for plain PyTorch files, `linear`, with its start, its reading and its writing: it has
             nothing that stays between candidates
  stack      wsopt's resident stack, loaded once: one candidate alone, and 16 together, per candidate
  stream     wsopt merge in this process: reading, merging and writing one file

`--full` is 50 checkpoints of 20 million weights (4 GB of files, about 15 GB of memory). Goals: the stack, 16 together,
5 times the candidates per second of the loop and 50 times those of mergekit.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stacks import interleaved, ratio, signed_coefficients, synthetic_set
from wsopt.checkpoints import CheckpointSet, SafetensorsReader, open_checkpoints
from wsopt.merge import MergeRequest, Recipe, merge
from wsopt.progress import SilentProgress
from wsopt.types import FloatArray
from wsopt.weightspace import SpaceSettings, WeightSpace, open_space

_TOLERANCE = 1e-4


def write_files(folder: Path, count: int, values: int) -> CheckpointSet:
    """The synthetic checkpoints as safetensors files."""
    synthetic = synthetic_set(count, values)
    for index, step in enumerate(synthetic.steps):
        tensors = {name: tensor.contiguous() for name, tensor in synthetic.load(index).items()}
        save_file(tensors, folder / f"step-{step:08d}.safetensors", metadata={"format": "pt"})
    return open_checkpoints(folder, [SafetensorsReader()])


def loop(state_dicts: list[dict[str, Tensor]], alpha: FloatArray) -> dict[str, Tensor]:
    """What people write."""
    return {
        name: sum(float(a) * one[name] for a, one in zip(alpha, state_dicts, strict=True))  # type: ignore[misc]
        for name in state_dicts[0]
    }


def mergekit(command: Path, checkpoints: CheckpointSet, alpha: FloatArray, folder: Path) -> Callable[[], Path]:
    """A call of mergekit's command on the same files."""
    lines = ["merge_method: linear", "dtype: float32", "parameters:", "  normalize: false", "models:"]
    for path, a in zip(checkpoints.paths, alpha, strict=True):
        lines += [f"  - model: {path}", f"    parameters: {{weight: {float(a)!r}}}"]
    config = folder / "mergekit.yml"
    config.write_text("\n".join(lines))
    out = folder / "mergekit"

    def call() -> Path:
        subprocess.run([str(command), str(config), str(out)], check=True, capture_output=True)
        return out

    return call


def same(name: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise where a peer computed something else."""
    assert found.keys() == expected.keys(), name
    off = max(float((found[key] - expected[key]).abs().max()) for key in expected)
    assert off < _TOLERANCE * max(float(tensor.abs().max()) for tensor in expected.values()), f"{name} is off by {off}"


def timed(task: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of `repeats` calls, one to warm up not counted."""
    task()
    seconds = []
    for _ in range(repeats):
        begin = perf_counter()
        task()
        seconds.append(perf_counter() - begin)
    return seconds


def resident(checkpoints: CheckpointSet, width: int) -> WeightSpace:
    """The stack, through the public door."""
    return open_space(checkpoints, SpaceSettings(width=width, memory="resident"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=50)
    parser.add_argument("--values", type=float, default=2, help="million weights per checkpoint (default 2)")
    parser.add_argument("--full", action="store_true", help="50 checkpoints of 20 million weights")
    parser.add_argument("--mergekit", type=Path, metavar="COMMAND", help="the mergekit-pytorch to compare with")
    parser.add_argument("--mergekit-repeats", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where files are written (default: the system's)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    values = 20_000_000 if args.full else int(args.values * 1e6)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        measure(args, Path(name), 50 if args.full else args.checkpoints, values)


def measure(args: argparse.Namespace, folder: Path, count: int, values: int) -> None:
    """One run of everything."""
    (folder / "checkpoints").mkdir()
    checkpoints = write_files(folder / "checkpoints", count, values)
    many = signed_coefficients(16, count)
    alpha = many[0, 0]
    out = folder / "merged.safetensors"
    request = MergeRequest(checkpoints, Recipe("benchmark", checkpoints.steps, many[0]), force=True)

    size = checkpoints.nbytes / 1e9
    print(f"{count} checkpoints, {values / 1e6:g}M float32 weights, {size:.2f} GB of files, {args.threads} threads")
    state_dicts = [load_file(path) for path in checkpoints.paths]
    # Mapped files would be read while they are summed.
    state_dicts = [{name: tensor.clone() for name, tensor in one.items()} for one in state_dicts]
    expected = loop(state_dicts, alpha)
    begin = perf_counter()
    alone, together = resident(checkpoints, 1), resident(checkpoints, 16)
    loading = (perf_counter() - begin) / 2
    alone.prepare(many[:1])
    same("stack", alone.tensors(0), expected)
    tasks = {
        "loop": lambda: loop(state_dicts, alpha),
        "stack, one": lambda: alone.prepare(many[:1]),
        "stack, 16": lambda: together.prepare(many),
        "stream": lambda: merge(request, out, SilentProgress()),
    }
    seconds = interleaved(tasks, args.repeats)
    same("stream", load_file(out), expected)
    if args.mergekit is not None:
        call = mergekit(args.mergekit, checkpoints, alpha, folder)
        seconds["mergekit"] = timed(call, args.mergekit_repeats)
        files = sorted((folder / "mergekit").glob("*.safetensors"))
        same("mergekit", {name: tensor for file in files for name, tensor in load_file(file).items()}, expected)
    report(seconds, loading)


def report(seconds: dict[str, list[float]], loading: float) -> None:
    """The table and the ratios."""
    for name, times in seconds.items():
        each = 16 if name == "stack, 16" else 1
        print(f"  {name:12s} {median(times) / each * 1e3:10.1f} ms per candidate (median of {len(times)})")
    print(f"  loading the stack once takes {loading:.1f} s")
    one, block = seconds["stack, one"], seconds["stack, 16"]
    over_loop = ratio(seconds["loop"], one), 16 * ratio(seconds["loop"], block)
    print(f"against the loop: one {over_loop[0]:.1f} x, 16 together {over_loop[1]:.1f} x (goal: 5)")
    if "mergekit" in seconds:
        kit = median(seconds["mergekit"])
        print(
            f"against mergekit: one {kit / median(one):.0f} x, 16 together {16 * kit / median(block):.0f} x "
            f"(goal: 50), streamed {kit / median(seconds['stream']):.1f} x"
        )


if __name__ == "__main__":
    main()
