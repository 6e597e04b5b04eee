"""How long `wsopt inspect` takes for a folder of large checkpoints, and how much of them it reads.

    python benchmarks/speed/inspect_headers.py [--files 100] [--gigabytes 1] [--format safetensors torch] [--full]

Makes the files anew in a temporary folder (``--folder`` to choose the disk). They are sparse: headers and sizes are
those of real checkpoints, the values are holes and take no room on the disk. Prints seconds and bytes read per format,
and what part of all bytes that is; with ``--full`` also the seconds that reading every byte takes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from wsopt.checkpoints import SafetensorsReader, TorchReader, inspect

TENSORS = 541  # as many as the ImageNet-64 network of openai/consistency_models has


def write_safetensors(path: Path, shape: tuple[int, int], index: int) -> None:
    """A header, a hole, and one written block."""
    size = 4 * shape[0] * shape[1]
    entries = {
        f"output_blocks.{number}.weight": {
            "dtype": "F32",
            "shape": list(shape),
            "data_offsets": [number * size, (number + 1) * size],
        }
        for number in range(TENSORS)
    }
    header = json.dumps({"__metadata__": {"step": str(1000 * index)}, **entries}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.seek(TENSORS * size - 8, 1)
        file.write(struct.pack("<q", index))


def write_torch(path: Path, shape: tuple[int, int], index: int) -> None:
    """What torch.save writes, with holes where the values belong, and checksums as if they differed."""
    with torch.serialization.skip_data():
        torch.save({f"output_blocks.{number}.weight": torch.empty(shape) for number in range(TENSORS)}, path)
    with zipfile.ZipFile(path) as archive:
        entries, position = len(archive.infolist()), archive.start_dir
    with path.open("r+b") as file:
        for _ in range(entries):
            file.seek(position)
            header = file.read(46)
            if struct.unpack_from("<I", header, 16)[0] == 0:
                file.seek(position + 16)
                file.write(struct.pack("<I", index))
            position += 46 + sum(struct.unpack_from("<HHH", header, 28))


WRITERS: dict[str, Callable[[Path, tuple[int, int], int], None]] = {
    "safetensors": write_safetensors,
    "torch": write_torch,
}


def bytes_read() -> int | None:
    """Bytes that this process has read by system calls so far; None where the system does not tell."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar"))


def measure(name: str, folder: Path, files: int, gigabytes: float, *, full: bool) -> None:
    """Make the files, inspect them, and print a line."""
    folder.mkdir()
    rows = max(1, round(gigabytes * 1e9 / 4 / TENSORS / 1024))
    for index in range(1, files + 1):
        suffix = "safetensors" if name == "safetensors" else "pt"
        WRITERS[name](folder / f"model{1000 * index:06d}.{suffix}", (rows, 1024), index)
    nominal = sum(path.stat().st_size for path in folder.iterdir())
    before, start, cpu = bytes_read(), time.perf_counter(), time.process_time()
    found = inspect([folder], [SafetensorsReader(), TorchReader()])
    seconds = time.perf_counter() - start
    cpu, after = time.process_time() - cpu, bytes_read()
    (stream,) = found.streams
    if len(stream.steps) != files or found.duplicates or found.problems:
        sys.exit(f"{name}: inspect did not see {files} different checkpoints")
    line = f"{name:12} {files} files of {nominal / files / 1e9:.2f} GB, {TENSORS} tensors: {seconds:.2f} s"
    line += f" ({cpu:.2f} s of CPU)"
    if before is not None and after is not None:
        line += f", {(after - before) / 1e6:.1f} MB read (1/{nominal / max(1, after - before):,.0f} of all)"
    if full:
        start = time.perf_counter()
        for path in folder.iterdir():
            read_all(path)
        whole = time.perf_counter() - start
        line += f"; reading all {whole:.1f} s, {whole / seconds:,.0f} times as long"
    print(line, flush=True)
    shutil.rmtree(folder)


def read_all(path: Path) -> None:
    """Read a file and forget it."""
    block = bytearray(1 << 24)
    with path.open("rb", buffering=0) as file:
        while file.readinto(block):
            pass


def main() -> None:
    """Parse the arguments and measure each format."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--gigabytes", type=float, default=0.1, help="of each file")
    parser.add_argument("--format", choices=sorted(WRITERS), nargs="+", default=sorted(WRITERS))
    parser.add_argument("--folder", type=Path, default=None, help="where to make the files")
    parser.add_argument("--full", action="store_true", help="also read every byte once")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as root:
        for name in args.format:
            measure(name, Path(root) / name, args.files, args.gigabytes, full=args.full)


if __name__ == "__main__":
    main()
