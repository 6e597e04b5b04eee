"""What `wsopt inspect` tells: every stream with its steps and gaps, and everything that is not as it should be."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from wsopt.checkpoints._base import CheckpointReader, Snapshot, Stream, TensorSpec
from wsopt.checkpoints._duplicates import duplicate_groups
from wsopt.checkpoints._lora import lora_modules
from wsopt.checkpoints._names import natural
from wsopt.checkpoints._prefix import shared_prefix, unwrapped
from wsopt.checkpoints._scan import Problem, below_with_checkpoints, scan
from wsopt.errors import CheckpointError

_LISTED_STEPS: Final = 1000
_KINDS: Final = ("raw", "ema", "target", "lora")


@dataclass(frozen=True)
class LoraFacts:
    """What is known of LoRA checkpoints.

    Args:
        ranks: that occur, ascending.
        scales: that are known (alpha / r, or alpha / sqrt(r)) and occur, ascending.
        modules: number of adapted weights.
        unknown_alpha: number of these whose alpha neither file nor configuration says in the header.
    """

    ranks: tuple[int, ...]
    scales: tuple[float, ...]
    modules: int
    unknown_alpha: int


@dataclass(frozen=True)
class StreamSummary:
    """One stream of one folder: what a selection could take.

    Args:
        folder: that holds its files.
        stream: kind, rate, width.
        part: component, where files or folders hold several of this stream; empty where there is nothing to choose.
        snapshots: by step; those that tell none last. Copies are left out.
        copies: that hold the same weights as one of `snapshots` of the same step, or tell no step.
        steps: ascending, each once.
        interval: usual distance between two steps; None for fewer than two.
        missing: steps that the interval makes one expect between the first and the last, the first thousand of them.
        missing_count: number of all of them.
        misfits: checkpoints whose tensors differ from the first's, and how.
        lora: of LoRA streams; None for others, or where the factors do not fit each other.
    """

    folder: Path
    stream: Stream
    part: str
    snapshots: tuple[Snapshot, ...]
    copies: tuple[Snapshot, ...]
    steps: tuple[int, ...]
    interval: int | None
    missing: tuple[int, ...]
    missing_count: int
    misfits: tuple[str, ...]
    lora: LoraFacts | None

    @property
    def tensors(self) -> dict[str, TensorSpec]:
        """Of the first checkpoint, by name without wrapper prefixes."""
        return unwrapped(self.snapshots[0].tensors)

    @property
    def values(self) -> int:
        """Number of values of one checkpoint."""
        return sum(spec.numel for spec in self.tensors.values())

    @property
    def dtypes(self) -> dict[str, int]:
        """Values by dtype in the first checkpoint, the most frequent first."""
        counts: Counter[str] = Counter()
        for spec in self.tensors.values():
            counts[str(spec.dtype).removeprefix("torch.")] += spec.numel
        return dict(counts.most_common())

    @property
    def nbytes(self) -> int:
        """Bytes of the values of all checkpoints, copies left out."""
        return sum(snapshot.nbytes for snapshot in self.snapshots)

    @property
    def formats(self) -> tuple[str, ...]:
        """Names of the readers."""
        return tuple(sorted({snapshot.reader.name for snapshot in self.snapshots}))

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Wrapper prefixes found, the empty one left out."""
        return tuple(sorted({shared_prefix(snapshot.tensors) for snapshot in self.snapshots} - {""}))

    @property
    def without_step(self) -> tuple[Snapshot, ...]:
        """Those whose step neither content nor name tells."""
        return tuple(snapshot for snapshot in self.snapshots if snapshot.step is None)

    @property
    def config(self) -> Mapping[str, Any]:
        """What the last checkpoint says besides: an architecture, an adapter's configuration, metadata."""
        return self.snapshots[-1].config


@dataclass(frozen=True)
class Inspection:
    """What was found under some paths.

    Args:
        paths: as given.
        streams: by folder and kind.
        duplicates: groups of sets of weights that are the same, as far as checksums or sampled blocks tell.
        problems: torn and foreign files.
        others: files without weights, with what they are.
        passed_over: subfolders that hold no checkpoints.
    """

    paths: tuple[Path, ...]
    streams: tuple[StreamSummary, ...]
    duplicates: tuple[tuple[Snapshot, ...], ...]
    problems: tuple[Problem, ...]
    others: tuple[tuple[Path, str], ...]
    passed_over: tuple[Path, ...]

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """All sets of weights, copies left out."""
        return tuple(snapshot for stream in self.streams for snapshot in stream.snapshots)


def inspect(paths: Sequence[Path], readers: Sequence[CheckpointReader]) -> Inspection:
    """Look at `paths` and at the folders below them (two levels), reading headers only.

    Raises:
        CheckpointError: where one of `paths` is not there or cannot be read at all.
    """
    top = scan(paths, readers)
    below = below_with_checkpoints(top)
    inventories = [top, *(inventory for _, inventory in below)]
    groups = _groups([snapshot for inventory in inventories for snapshot in inventory.snapshots])
    duplicates = duplicate_groups([one for inventory in inventories for one in inventory.snapshots])
    streams = [_summary(key, group, duplicates) for key, group in groups.items()]
    streams.sort(key=_order)
    looked_into = {folder for folder, _ in below}
    passed = [folder for folder in top.subfolders if not any(one.is_relative_to(folder) for one in looked_into)]
    return Inspection(
        paths=tuple(paths),
        streams=tuple(streams),
        duplicates=tuple(map(tuple, duplicates)),
        problems=tuple(problem for inventory in inventories for problem in inventory.problems),
        others=tuple(other for inventory in inventories for other in inventory.others),
        passed_over=tuple(passed),
    )


def _groups(snapshots: Sequence[Snapshot]) -> dict[tuple[Path, Stream, str], list[Snapshot]]:
    """By folder, stream and, where a file or folder holds several of a stream, component."""
    counts = Counter((snapshot.path, snapshot.stream) for snapshot in snapshots)
    several = {(path.parent, stream) for (path, stream), count in counts.items() if count > 1}
    groups: dict[tuple[Path, Stream, str], list[Snapshot]] = defaultdict(list)
    for snapshot in snapshots:
        key = snapshot.path.parent, snapshot.stream
        groups[*key, snapshot.part if key in several else ""].append(snapshot)
    return groups


def usual_interval(steps: Sequence[int]) -> int | None:
    """The most frequent distance between neighbours, the smaller of two as frequent; None for fewer than two steps."""
    counts = Counter(later - earlier for earlier, later in pairwise(steps))
    return min(counts, key=lambda distance: (-counts[distance], distance)) if counts else None


def missing_steps(steps: Sequence[int]) -> tuple[list[int], int]:
    """Steps that the usual interval makes one expect, counted back from the later neighbour of a gap.

    Returns:
        The first thousand of them, and how many there are. A gap of less than one and a half intervals is none, and
        steps without a usual interval (no distance occurs twice) have no gaps.
    """
    interval = usual_interval(steps)
    distances = [later - earlier for earlier, later in pairwise(steps)]
    if interval is None or distances.count(interval) < 2:
        return [], 0
    missing: list[int] = []
    count = 0
    for later, distance in zip(steps[1:], distances, strict=True):
        # Half an interval off is still the next one: a first file may be one step late (ddim: 1, 5000, 10000).
        absent = max(0, (2 * distance + interval - 1) // (2 * interval) - 1)
        count += absent
        room = min(absent, _LISTED_STEPS - len(missing))
        missing += [later - interval * (absent - number) for number in range(room)]
    return missing, count


def _summary(
    key: tuple[Path, Stream, str], group: Sequence[Snapshot], duplicates: Sequence[Sequence[Snapshot]]
) -> StreamSummary:
    folder, stream, part = key
    copies = _copies(group, duplicates)
    kept = [one for one in group if not any(one is copy for copy in copies)]
    ordered = sorted(kept, key=lambda one: (one.step is None, one.step or 0, natural(one.path.name)))
    steps = sorted({snapshot.step for snapshot in ordered if snapshot.step is not None})
    missing, count = missing_steps(steps)
    return StreamSummary(
        folder=folder,
        stream=stream,
        part=part,
        snapshots=tuple(ordered),
        copies=tuple(copies),
        steps=tuple(steps),
        interval=usual_interval(steps),
        missing=tuple(missing),
        missing_count=count,
        misfits=tuple(_misfits(ordered)),
        lora=_lora_facts(ordered[0]) if stream.kind == "lora" else None,
    )


def _copies(group: Sequence[Snapshot], duplicates: Sequence[Sequence[Snapshot]]) -> list[Snapshot]:
    """Those of a stream that a selection passes over because another of the stream is the same."""
    own = {id(one) for one in group}
    copies: list[Snapshot] = []
    for same in duplicates:
        # Those that tell a step first: they are kept.
        inside = sorted((one for one in same if id(one) in own), key=lambda one: one.step is None)
        for number, one in enumerate(inside):
            copies += [one] if number and one.step in (None, *(kept.step for kept in inside[:number])) else []
    return copies


def _misfits(snapshots: Sequence[Snapshot]) -> list[str]:
    first = unwrapped(snapshots[0].tensors)
    found = []
    for snapshot in snapshots[1:]:
        tensors = unwrapped(snapshot.tensors)
        if tensors == first:
            continue
        lacking = first.keys() - tensors.keys()
        extra = tensors.keys() - first.keys()
        other = [name for name in first if name in tensors and tensors[name] != first[name]]
        facts = [f"lacks {len(lacking)} tensors ({_first(first, lacking)})"] if lacking else []
        facts += [f"has {len(extra)} more tensors ({_first(tensors, extra)})"] if extra else []
        facts += [f"{len(other)} differ ({other[0]}: {tensors[other[0]]}, {first[other[0]]} there)"] if other else []
        found.append(f"{snapshot} does not fit {snapshots[0]}: {', '.join(facts)}")
    return found


def _first(names: Iterable[str], chosen: Iterable[str]) -> str:
    wanted = set(chosen)
    more = ", ..." if len(wanted) > 1 else ""
    return next(name for name in names if name in wanted) + more


def _lora_facts(snapshot: Snapshot) -> LoraFacts | None:
    try:
        modules = lora_modules(snapshot).values()
    except CheckpointError:
        return None
    return LoraFacts(
        ranks=tuple(sorted({module.rank for module in modules})),
        scales=tuple(sorted({module.scale for module in modules if module.scale is not None})),
        modules=len(modules),
        unknown_alpha=sum(not module.alpha_known for module in modules),
    )


def _order(one: StreamSummary) -> tuple[str, int, float, float, str]:
    stream = one.stream
    return str(one.folder), _KINDS.index(stream.kind), stream.rate or 0.0, stream.width or 0.0, one.part
